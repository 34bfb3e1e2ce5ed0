# fork of much touched memory runs as many instructions as fork of little. Time would not tell: the emulator forgets the
# pages that it has seen one by one.
. "$(dirname "$0")/common.bash" "$@"

"$exo" bench guest --icount --filter 'fork_call/(64KiB|256MiB)' >"$work/table" || fail "no figures: $(cat "$work/table")"
cat "$work/table"
cost() { awk -v name="guest/fork_call/$1" '$1 == name { printf "%d", $2 }' "$work/table"; }
small=$(cost 64KiB) large=$(cost 256MiB)
expect_match "instructions of a small fork" "$small" '^[1-9][0-9]*$'
expect_match "instructions of a large fork" "$large" '^[1-9][0-9]*$'
((large * 100 <= small * 105)) || fail "fork of 256 MiB: $large instructions, of 64 KiB: $small"
finish
