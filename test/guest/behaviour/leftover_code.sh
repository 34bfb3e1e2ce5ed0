# Memory in which firmware and loader left code is as fast as other memory: QEMU makes stores to it slow. What the kernel
# allocates first is found in what the first program costs: a signal (some 5,000 instructions) beside a plain system
# call (300), which was 300 times as long there.
. "$(dirname "$0")/common.bash" "$@"

for firmware in "" --uefi; do
    "$exo" run $firmware --exec "/bench/exo-guest-bench '--benchmark_filter=getppid|signal_deliver'" >"$work/table" ||
        fail "no figures with '$firmware': $(cat "$work/table")"
    ratio=$(awk '{ took[$1] = $2 } END { printf "%d", took["guest/signal_deliver"] / took["guest/getppid"] }' "$work/table")
    expect_match "times of system calls" "$ratio" '^[1-9][0-9]*$'
    echo "with '$firmware' a signal takes as long as $ratio system calls"
    ((ratio < 60)) || fail "with '$firmware' a signal takes as long as $ratio system calls"
done
finish
