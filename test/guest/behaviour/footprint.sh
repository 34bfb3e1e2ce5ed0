# Boot time and the kernel's own memory stay within their bounds, as the booted kernel itself counts them.
. "$(dirname "$0")/common.bash" "$@"

own=$("$exo" run --exec "sed -n 's/^KernelOwn: *\([0-9]*\) kB$/\1/p' /proc/meminfo")
expect_match "KernelOwn of /proc/meminfo" "$own" '^[1-9][0-9]*$'
((own < 4096)) || fail "the kernel uses $own KiB of 256 MiB for itself"
echo "kernel memory $own KiB"

# The best of several boots, as many as it takes: what else runs on the host only adds. How fast the host is, is told by
# what firmware and loader took in the same boot. The bound is for a host on which that is `usual` or less; on a slower
# one it grows as that does.
most_boots=10 bound=100000
first_instruction() {
    local fits= best= micros entered allowed i usual=350000
    [[ ${1-} != --uefi ]] || usual=3000000
    for ((i = 0; i < most_boots && ! fits; ++i)); do
        "$exo" run --log "$work/log" "$@" --exec true || fail "no boot with '$*'"
        micros=$(sed -n 's/^.*first user instruction after \([0-9]*\) us.*$/\1/p' "$work/log")
        expect_match "time to the first user instruction with '$*'" "$micros" '^[1-9][0-9]*$'
        entered=$(sed -n 's/^.*exo: entered \([0-9]*\) us after reset.*$/\1/p' "$work/log")
        expect_match "time of firmware and loader with '$*'" "$entered" '^[1-9][0-9]*$'
        allowed=$((entered > usual ? bound * entered / usual : bound))
        ((${best:-$micros} < micros)) || best=$micros
        ((micros >= allowed)) || fits=1
    done
    [[ $fits ]] || fail "with '$*' the first user instruction came $best us after kernel entry"
    echo "first user instruction after $best us with '$*', kernel entry after $entered us"
}
# Up to its first line the kernel waits for no disk: there instructions count, a nanosecond each, on any host.
entry_bound=6000
"$exo" run --icount --log "$work/log" --exec true || fail "no boot that counts instructions"
entry=$(sed -n 's/^\[0*\([0-9]*\)\.\([0-9]\{6\}\)\] exo: kernel entered.*$/\1\2/p' "$work/log" | sed 's/^0*//')
expect_match "instructions up to the kernel's first line" "$entry" '^[1-9][0-9]*$'
((entry < entry_bound)) || fail "the kernel's first line came after $entry thousand instructions"
echo "the kernel's first line after $entry thousand instructions"

truncate -s 1M "$work/disk"
mke2fs=$(PATH=$PATH:/sbin:/usr/sbin command -v mke2fs) && "$mke2fs" -q -t ext2 "$work/disk" || fail "no second disk"
for firmware in "" --uefi; do
    first_instruction $firmware
    first_instruction $firmware --disk "$work/disk"
    first_instruction $firmware --memory 1G
done
first_instruction --cpu qemu64 --memory 32M
finish
