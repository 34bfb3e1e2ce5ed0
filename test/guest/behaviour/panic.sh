# What cannot boot says why, on standard error and in the log, and gives 125.
. "$(dirname "$0")/common.bash" "$@"

mke2fs=$(PATH=$PATH:/sbin:/usr/sbin command -v mke2fs)

head -c 4M /dev/zero >"$work/nothing.img"
"$exo" run --root "$work/nothing.img" --log "$work/log" --exec true 2>"$work/err"
expect "status without a root file system" $? 125
expect_match "message" "$(cat "$work/err")" 'ext2'
expect_match "message" "$(cat "$work/err")" 'the kernel panicked'
grep -qa 'ext2' "$work/log" || fail "the log does not name the cause"

mkdir -p "$work/tree/bin"
"$mke2fs" -q -t ext2 -d "$work/tree" "$work/noshell.img" 4M >/dev/null
"$exo" run --root "$work/noshell.img" --exec true 2>"$work/err"
expect "status without a shell" $? 125
expect_match "message" "$(cat "$work/err")" '/bin/sh'

"$mke2fs" -q -t ext4 -d "$work/tree" "$work/ext4.img" 8M >/dev/null
"$exo" run --root "$work/ext4.img" --exec true 2>"$work/err"
expect "status with ext4" $? 125
expect_match "message names the feature" "$(cat "$work/err")" 'extent'
finish
