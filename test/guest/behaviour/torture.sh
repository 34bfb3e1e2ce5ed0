# Processes on all CPUs that do everything at once: nothing is lost, stale, or left behind (test/guest/programs/torture.cpp).
. "$(dirname "$0")/common.bash" "$@"

torture() {
    local cpus=$1 seconds=$2 seed=$3
    shift 3
    out=$("$exo" run --smp "$cpus" --timeout 200 "$@" --exec "/test/torture $seconds $seed 2>/dev/null")
    expect "status with $cpus CPUs" $? 0
    expect_match "outcome with $cpus CPUs" "$out" 'all right$'
}
torture 1 2 1
torture 2 5 2
torture 4 5 3 --uefi
torture 16 5 4
finish
