# Memory that runs out is ENOMEM to who asked; the kernel and the others go on, and nothing is lost.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --memory 48M --timeout 120 --exec '
free_frames() { while read -r name value; do [ "$name" = exo_mm_frames_free ] && echo "$value"; done </proc/exo/metrics; }
/test/exhaust; x=$(free_frames)
before=$(free_frames)
/test/exhaust; echo "status $?"
after=$(free_frames)
[ "$before" = "$after" ] && echo same || echo "$before $after"
echo alive')
expect "status" $? 0
expect "output" "$out" $'fork: out of memory or killed\nfork: out of memory or killed\nstatus 0\nsame\nalive'
finish
