# An unknown system call answers ENOSYS and is logged by name, once.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --log "$work/log" --exec '/test/unknown_call')
expect "answers" "$out" "ENOSYS ENOSYS ENOSYS"
expect "log lines that name add_key" "$(grep -ca 'add_key' "$work/log")" 1
finish
