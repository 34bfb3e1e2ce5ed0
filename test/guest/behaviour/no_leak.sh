# A thousand processes leave as many free frames as there were, once caches (pages of files, kernel stacks) are warm.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --timeout 240 --exec '
free_frames() { while read -r name value; do [ "$name" = exo_mm_frames_free ] && echo "$value"; done </proc/exo/metrics; }
loop() { i=0; while [ $i -lt $1 ]; do /bin/true || exit 1; i=$((i + 1)); done; }
loop 20; /bin/true | /bin/true | /bin/true | /bin/true; free_frames >/dev/null; x=$(free_frames)
before=$(free_frames)
loop 1000
after=$(free_frames)
echo "$before $after"')
expect "status" $? 0
expect_match "two counts" "$out" '^[1-9][0-9]* [1-9][0-9]*$'
read -r before after <<<"$out"
expect "free frames after 1,000 processes" "$after" "$before"
finish
