# A thousand processes at once, each with a kernel stack, tables and pages of its own, and everything comes back: all
# page tables, and all frames but for what the heap and the kernel stacks keep at hand, now more, now less.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --timeout 120 --exec '
metric() { while read -r name value; do [ "$name" = "$1" ] && echo "$value"; done </proc/exo/metrics; }
/test/processes 1000; x=$(metric exo_mm_frames_free)
frames=$(metric exo_mm_frames_free); tables=$(metric exo_mm_page_tables)
/test/processes 1000
# What is kept at hand may be at its least before and at its most now; what is lost adds up with each round.
i=0
while [ $((frames - $(metric exo_mm_frames_free))) -gt 32 ] && [ $i -lt 3 ]; do
    /test/processes 1000 >/dev/null || exit 1
    i=$((i + 1))
done
echo "tables $((tables - $(metric exo_mm_page_tables))) frames $((frames - $(metric exo_mm_frames_free)))"')
expect "status" $? 0
expect_match "output" "$out" \
    '^(1000 alive'$'\n''1000 ended, statuses right, then none'$'\n''){2}tables 0 frames -?[0-9]+$'
lost=${out##* }
((lost <= 32)) || fail "$lost frames fewer than before"
finish
