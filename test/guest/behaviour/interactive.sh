# A person at the console: prompts, line editing, Ctrl-C, and leaving the shell powers off.
. "$(dirname "$0")/common.bash" "$@"

# wait_for TEXT: reads what the machine prints until TEXT appears in what came since the last wait.
wait_for() {
    local byte
    while [[ $seen != *"$1"* ]]; do
        IFS= read -r -d '' -n 1 -t 60 byte <&5 || { fail "no '$1' in: $seen"; return 1; }
        seen+=$byte
    done
    seen=${seen#*"$1"}
}
type_in() { printf "$1" >&6; }

# at_console OPTION...
at_console() {
    coproc machine { timeout 120 "$exo" run --log "$work/log" "$@" 2>&1; }
    local pid=$machine_PID
    exec 5<&"${machine[0]}" 6>&"${machine[1]}"
    seen=
    wait_for '# ' && type_in 'echo $((6 * 7))\n' && wait_for '42' &&
        wait_for '# ' && type_in 'echo wronh\177g\n' && wait_for $'\nwrong' &&
        wait_for '# ' && type_in 'echo asleep; sleep 1000\n' && wait_for $'\nasleep' && type_in '\003' &&
        wait_for '# ' && type_in 'echo $?\n' && wait_for $'\n130' &&
        wait_for '# ' && type_in 'cat\n' && wait_for 'cat' && type_in 'to be read\n' && wait_for $'\nto be read' &&
        type_in '\004' &&
        wait_for '# ' && type_in 'exit 5\n'
    wait "$pid"
    expect "status after leaving the shell" $? 5
}
at_console
at_console --no-acpi # whose interrupts are where machines have them by convention
finish
