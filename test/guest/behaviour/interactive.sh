# A person at the console: prompts, line editing, Ctrl-C, and leaving the shell powers off.
. "$(dirname "$0")/common.bash" "$@"

# converse OPTION...
converse() {
    at_console "$@"
    wait_for '# ' && type_in 'echo $((6 * 7))\n' && wait_for '42' &&
        wait_for '# ' && type_in 'echo wronh\177g\n' && wait_for $'\nwrong' &&
        wait_for '# ' && type_in 'echo asleep; sleep 1000\n' && wait_for $'\nasleep' && type_in '\003' &&
        wait_for '# ' && type_in 'echo $?\n' && wait_for $'\n130' &&
        wait_for '# ' && type_in 'cat\n' && wait_for 'cat' && type_in 'to be read\n' && wait_for $'\nto be read' &&
        type_in '\004' &&
        wait_for '# ' && type_in 'exit 5\n'
    wait "$machine"
    expect "status after leaving the shell" $? 5
}
converse
converse --no-acpi # whose interrupts are where machines have them by convention
finish
