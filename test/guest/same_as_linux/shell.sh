# The shell's own constructs: expansion, functions, here-documents, job control by hand, traps.
f() { local x=$1; echo "f:$x:$#"; return 4; }
f a b; echo "status $?"
echo $((6 * 7)) ${#HOME} ${unset:-default} "$(printf '%05d' 42)"
case abc in a*) echo matches ;; esac
cat <<EOF
here $((1 + 1))
EOF
trap 'echo trapped' USR1
kill -USR1 $$
sleep 0.05 & wait $!; echo "waited $?"
(exit 7); echo "subshell $?"
sh -c 'kill -TERM $$'; echo "killed $?"
{ echo out; echo err >&2; } 2>/dev/null
set -- a 'b c' d; for word; do printf '<%s>' "$word"; done; echo
i=0; while [ $i -lt 5 ]; do i=$((i + 1)); [ $i = 3 ] && continue; printf '%s ' $i; done; echo
echo abc | { read -r line; echo "read $line"; }
yes | head -n 1000 | wc -l
exit 42
