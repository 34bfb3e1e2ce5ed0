# Boot time and the kernel's own memory stay within their bounds, as the booted kernel itself counts them.
. "$(dirname "$0")/common.bash" "$@"

own=$("$exo" run --exec "sed -n 's/^KernelOwn: *\([0-9]*\) kB$/\1/p' /proc/meminfo")
expect_match "KernelOwn of /proc/meminfo" "$own" '^[1-9][0-9]*$'
((own < 4096)) || fail "the kernel uses $own KiB of 256 MiB for itself"
echo "kernel memory $own KiB"

# The best of several boots, as many as it takes: what else runs on the host only adds.
most_boots=10 bound=100000
first_instruction() {
    local best= micros i
    for ((i = 0; i < most_boots && ${best:-bound} >= bound; ++i)); do
        "$exo" run --log "$work/log" "$@" --exec true || fail "no boot with '$*'"
        micros=$(sed -n 's/^.*first user instruction after \([0-9]*\) us.*$/\1/p' "$work/log")
        expect_match "time to the first user instruction with '$*'" "$micros" '^[1-9][0-9]*$'
        ((${best:-$micros} < micros)) || best=$micros
    done
    ((best < bound)) || fail "with '$*' the first user instruction came $best us after kernel entry"
    echo "first user instruction after $best us with '$*'"
}
truncate -s 1M "$work/disk"
mke2fs=$(PATH=$PATH:/sbin:/usr/sbin command -v mke2fs) && "$mke2fs" -q -t ext2 "$work/disk" || fail "no second disk"
for firmware in "" --uefi; do
    first_instruction $firmware
    first_instruction $firmware --disk "$work/disk"
    first_instruction $firmware --memory 1G
done
first_instruction --cpu qemu64 --memory 32M
finish
