# Memory that runs out is ENOMEM to who asked; the kernel and the others go on, and nothing is lost.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --memory 48M --timeout 120 --exec '
free_frames() { while read -r name value; do [ "$name" = exo_mm_frames_free ] && echo "$value"; done </proc/exo/metrics; }
/test/exhaust; x=$(free_frames)
before=$(free_frames)
for i in 1 2 3 4; do /test/exhaust || echo "status $?"; done
# The shell reaps those whose parent was killed while it waits for something.
after=$(free_frames); i=0
while [ $((before - after)) -gt 32 ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); after=$(free_frames); done
echo alive $((before - after))')
expect "status" $? 0
expect_match "output" "$out" $'^(fork: out of memory or killed\n){5}alive [-0-9]+$'
# Hundreds of processes ended in between. What may differ is how many of the 8 kernel stacks that are kept for the next
# threads are in use: 4 frames each.
lost=${out##* }
((lost <= 32)) || fail "$lost frames fewer than before"
finish
