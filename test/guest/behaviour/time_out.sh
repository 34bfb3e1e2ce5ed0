# A command that does not end is ended, and said so.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --timeout 8 --exec 'echo started; sleep 1000' 2>"$work/err")
expect "status" $? 124
expect "output" "$out" started
expect_match "standard error" "$(cat "$work/err")" 'timed out after 8 s'
finish
