# Every way a command can end arrives as the shell would see it.
. "$(dirname "$0")/common.bash" "$@"

for status in 0 1 128 255; do
    out=$("$exo" run --exec "echo before; exit $status")
    expect "exit status" $? "$status"
    expect "output" "$out" before
done
"$exo" run --exec 'kill -KILL $$'
expect "status of a killed command" $? 137

# 64 KiB of many lines.
{
    echo 'n=0'
    while (($(wc -c <"$work/long") < 65000)); do
        printf 'n=$((n + 1)) # %060d\n%.0s' {1..50} >>"$work/long"
    done
} 2>/dev/null >"$work/long"
head -c 65000 "$work/long" | sed '$d' >"$work/exec"
lines=$(grep -c 'n + 1' "$work/exec")
printf 'echo $n\nexit 9' >>"$work/exec"
out=$("$exo" run --exec "$(cat "$work/exec")")
expect "status of a long script" $? 9
expect "lines of a long script that ran" "$out" "$lines"

# Bytes arrive as written: no carriage returns, no lost last line, no marker.
"$exo" run --exec 'printf "a\nb\0\377 no newline"' >"$work/out"
printf 'a\nb\0\377 no newline' >"$work/expected"
cmp "$work/out" "$work/expected" || fail "output is not what was written"
finish
