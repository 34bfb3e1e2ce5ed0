# Further disks appear under /mnt, with every block size, read-only; what is no ext2 is reported and left out.
. "$(dirname "$0")/common.bash" "$@"

mke2fs=$(PATH=$PATH:/sbin:/usr/sbin command -v mke2fs)
mkdir -p "$work/tree/deep/er"
head -c 3000000 /dev/urandom >"$work/tree/deep/er/large"
sum=$(md5sum <"$work/tree/deep/er/large")
options=()
for block in 1024 2048 4096; do
    "$mke2fs" -q -t ext2 -b "$block" -d "$work/tree" "$work/$block.img" 8M >/dev/null
    options+=(--disk "$work/$block.img")
done
head -c 1M /dev/zero >"$work/nothing.img"
out=$("$exo" run "${options[@]}" --disk "$work/nothing.img" --log "$work/log" --exec '
for n in 0 1 2; do md5sum </mnt/$n/deep/er/large; done
touch /mnt/0/x 2>/dev/null || echo read-only
ls /mnt/3 | wc -l; grep -c ext2 /proc/mounts')
expect "status" $? 0
expect "files on further disks" "$out" "$sum"$'\n'"$sum"$'\n'"$sum"$'\nread-only\n0\n4'
grep -qa '/mnt/3' "$work/log" || fail "the log does not tell of the disk that is no ext2"
"$exo" run --disk "$work/1024.img:rw" --exec true 2>"$work/err"
expect "status of :rw" $? 2
expect_match "message of :rw" "$(cat "$work/err")" 'not supported'
finish
