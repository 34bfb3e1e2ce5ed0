# Shared by the tests in this folder: $exo, a work folder, expectations that name what differed, and a person at the
# console.

set -u
exo=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}
# expect WHAT ACTUAL EXPECTED
expect() { [[ $2 == "$3" ]] || fail "$1: '$2', not '$3'"; }
# expect_match WHAT ACTUAL REGULAR_EXPRESSION
expect_match() { [[ $2 =~ $3 ]] || fail "$1: '$2' does not match '$3'"; }
finish() { exit "$failed"; }

# at_console OPTION...: starts a machine with a shell on its console, in process $machine.
at_console() {
    coproc console { timeout 120 "$exo" run --log "$work/log" "$@" 2>&1; }
    machine=$console_PID
    exec 5<&"${console[0]}" 6>&"${console[1]}"
    seen= before=
}
# wait_for TEXT: reads what the machine prints until TEXT appears in what came since the last wait; $before is what came
# before it.
wait_for() {
    local part last=${1: -1}
    while [[ $seen != *"$1"* ]]; do
        IFS= read -r -d "$last" -t 60 part <&5 || { fail "no '$1' in: $seen$part"; return 1; }
        seen+=$part$last
    done
    before=${seen%%"$1"*}
    seen=${seen#*"$1"}
}
type_in() { printf "$1" >&6; }
