# Processes on all CPUs that do everything at once: nothing is lost, stale, or left behind (test/guest/programs/torture.cpp).
. "$(dirname "$0")/common.bash" "$@"

torture() {
    local cpus=$1 seconds=$2 seed=$3
    shift 3
    out=$("$exo" run --smp "$cpus" --memory 512M --timeout 200 "$@" --exec "/test/torture $seconds $seed 2>/dev/null")
    expect "status with $cpus CPUs $*" $? 0
    expect_match "outcome with $cpus CPUs $*" "$out" 'all right$'
}
for uefi in "" --uefi; do
    torture 1 1 1 $uefi
    torture 2 2 2 $uefi
    torture 4 2 3 $uefi
    torture 16 2 4 $uefi
    torture 64 1 5 $uefi
done

# What it took it gives back, but for a few frames of kernel stacks and of the heap that each CPU keeps.
out=$("$exo" run --smp 4 --timeout 100 --exec '
free_frames() { while read -r name value; do [ "$name" = exo_mm_frames_free ] && echo "$value"; done </proc/exo/metrics; }
torture() { /test/torture $1 6 >/dev/null 2>&1 || exit; sleep 0.5; }
torture 1; x=$(free_frames); before=$(free_frames)
torture 5; after=$(free_frames)
echo $((before - after))')
expect "status of the run whose frames are counted" $? 0
((out <= 32)) || fail "$out frames are lost"
finish
