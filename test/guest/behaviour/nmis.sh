# An NMI may come between any two instructions: before an entry to the kernel has exchanged GS, in a copy to user memory,
# in a signal's frame, in a program whose thread is to be interrupted.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --smp 2 --append provoke --log "$work/log" --timeout 120 --exec '
work() { taskset -c 0 sh -c "/test/signals; /test/fault_codes; dd if=/dev/zero of=/dev/null bs=1 count=20000" 2>/dev/null; }
work >/tmp/alone
taskset -c 1 /test/provoke nmi 0 100
taskset -c 1 /test/provoke nmi 0 1000000000 & nmis=$!
for round in 1 2 3; do
    work >/tmp/beside; echo $?
    cmp /tmp/alone /tmp/beside
done
kill $nmis; wait $nmis; echo $?')
expect "status beside NMIs" $? 0
expect "what was found beside NMIs" "$(echo $out)" "nothing stopped it 0 0 0 Terminated 143"
finish
