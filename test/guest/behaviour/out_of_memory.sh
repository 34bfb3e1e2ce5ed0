# A hog takes all the memory there is: it ends, and those beside it do not notice. The log names it, with its size.
. "$(dirname "$0")/common.bash" "$@"

out=$("$exo" run --memory 96M --timeout 120 --log "$work/log" --exec '
metric() { while read -r name value; do [ "$name" = "$1" ] && echo "$value"; done </proc/exo/metrics; }
/test/hog 4 64; x=$(metric exo_mm_frames_free)
before=$(metric exo_mm_frames_free)
/test/hog 4 256
after=$(metric exo_mm_frames_free); i=0
while [ $((before - after)) -gt 32 ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); after=$(metric exo_mm_frames_free); done
echo "frames $((before - after))"
echo "kills $(metric exo_mm_out_of_memory_kills_total)"')
expect "status" $? 0
hog='hog [0-9]+: signal 9'$'\n'
expect_match "output" "$out" "^($hog$hog${hog}4 of 4 unharmed"$'\n'"){2}frames [-0-9]+"$'\n''kills 6$'
lost=${out##*frames } lost=${lost%%$'\n'*}
((lost <= 32)) || fail "$lost frames fewer than before"
while read -r _ pid _; do
    grep -Eqa "out of memory: killed process ${pid%:} \(hog\), which kept [0-9]{5} KiB and [0-9]+ KiB of page tables" \
        "$work/log" || fail "the log does not tell of ${pid%:}"
done < <(grep '^hog' <<<"$out")
finish
