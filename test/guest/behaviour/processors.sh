# Every CPU of the machine runs programs, and the first that panics stops all of them and reports once.
. "$(dirname "$0")/common.bash" "$@"

run_on() {
    local cpus=$1
    shift
    out=$("$exo" run --smp "$cpus" --log "$work/log" --timeout 120 "$@" --exec '
nproc; grep -c ^processor /proc/cpuinfo; grep -c "^cpu[0-9]" /proc/stat
i=0; while [ $i -lt $(nproc) ]; do taskset -c $i cut -d" " -f39 /proc/self/stat; i=$((i + 1)); done')
    expect "status with $cpus CPUs" $? 0
    expect "CPUs of $cpus, and where each of as many processes ran" "$(echo $out)" \
        "$(echo $cpus $cpus $cpus $(seq 0 $((cpus - 1))))"
    took=$(sed -n "s/.*exo: $cpus CPUs, after \([0-9]*\) us.*/\1/p" "$work/log")
    [[ $took ]] || fail "the log does not tell of $cpus CPUs"
}
run_on 2
run_on 4 --uefi
# 63 CPUs start within a second; of three times one, as the host may be busy.
for _ in 1 2 3; do
    run_on 64
    echo "the start of 63 CPUs took $took us"
    ((took < 1000000)) && break
done
((took < 1000000)) || fail "the start of 63 CPUs took too long"

# Without ACPI's tables one CPU runs, and the console is read.
out=$("$exo" run --smp 4 --no-acpi --log "$work/log" --timeout 60 --exec 'nproc; date +%Y; exit 3')
expect "status without ACPI" $? 3
expect "output without ACPI" "$out" "1
$(date -u +%Y)"
grep -qa 'no valid ACPI tables' "$work/log" || fail "the log does not tell that ACPI's tables are missing"

# 64 processes that compute spread from one CPU to 16. Where the host has less than 16 the guest's CPUs stand still for
# most of the time that its clock tells: what 100 ms do is for test/sched/spreading.cpp.
out=$("$exo" run --smp 16 --timeout 120 --exec '/test/spread 64 20')
expect "status of spreading, which read: $out" $? 0
echo "$out"

# A CPU that has interrupts off for long is told of, with where it is; then all goes on.
out=$("$exo" run --smp 4 --append provoke --log "$work/log" --timeout 120 --exec '
taskset -c 2 /test/provoke spin a00000000; echo "went on"')
expect "status and output of a CPU that was stuck" "$? $out" $'0 nothing stopped it\nwent on'
log=$(tr -d '\r' <"$work/log")
expect "reports of a stuck CPU" "$(grep -ac 'takes no interrupts' <<<"$log")" 1
expect_match "which is stuck" "$log" 'CPU 2 takes no interrupts'
expect_match "where it is" "$log" $'exo: CPU 2 is at\n  registers\n.*  calls\n[^\n]*spin_with_interrupts_off.*exo_trap'

"$exo" run --smp 4 --append provoke --log "$work/log" --timeout 60 --exec '
for i in 0 1 3; do taskset -c $i sh -c "while :; do :; done" & done; taskset -c 2 /test/provoke overflow 0' >/dev/null 2>&1
expect "status of a panic" $? 125
grep -qa 'CPU 2 of 4 panics, 3 others have stopped' "$work/log" || fail "the log does not tell that the others stopped"
"$exo" run --smp 4 --append provoke --log "$work/log" --timeout 60 --exec '
for i in 0 1 2 3; do taskset -c $i /test/provoke overflow 0 & done; wait' >/dev/null 2>&1
expect "status of panics on all CPUs" $? 125
expect "reports of all" "$(grep -ca 'panic:' "$work/log")" 1
grep -qa 'panics, 3 others have stopped' "$work/log" || fail "the log does not tell of three others that stopped"
finish
