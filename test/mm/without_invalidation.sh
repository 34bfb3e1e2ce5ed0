#!/usr/bin/env bash
# without_invalidation.sh SOURCE WORK [HEADER...]: takes the places of include/exo/mm that record or make an
# invalidation out, one at a time, and runs the mm tests without it. Fails when they pass all the same.
set -u
source=$(cd "$1" && pwd) work=$2
shift 2
headers=("$@")
((${#headers[@]})) || mapfile -t headers < <(cd "$source/include/exo/mm" && ls -- *.hpp)
cxx=(${CXX:-g++-12} -std=c++23 -O1 -w)
tests=("$source"/test/mm/*.cpp)

rm -rf "$work"
mkdir -p "$work"
"${cxx[@]}" -I"$source/include" -c "$source/test/main.cpp" -o "$work/main.o" || exit 2

# survives INCLUDE: whether all tests pass with the headers in INCLUDE; test by test, so that the first failure does.
survives() {
    local test
    for test in "${tests[@]}"; do
        "${cxx[@]}" -I"$1" -I"$source/test" "$test" "$work/main.o" -o "$work/test" 2>"$work/errors" || {
            cat "$work/errors"
            exit 2
        }
        timeout 300 "$work/test" >"$work/output" 2>&1 || {
            finder=$(basename "$test")
            return 1
        }
    done
}

survives "$source/include" || {
    cat "$work/output"
    echo "the tests fail as they are ($finder)"
    exit 2
}
cp -r "$source/include" "$work/include"
removed=0 missed=0
for header in "${headers[@]}"; do
    original=$source/include/exo/mm/$header
    copy=$work/include/exo/mm/$header
    while IFS=: read -r line text; do
        sed "${line}s/\b\(batch_*\|pending_\|how_\|to\)[.]\(invalidate[a-z_]*\|flush\)(.*);/;/" "$original" >"$copy"
        cmp -s "$original" "$copy" && {
            echo "$header:$line cannot be taken out by itself: $text"
            exit 2
        }
        removed=$((removed + 1))
        if survives "$work/include"; then
            missed=$((missed + 1))
            echo "NOT FOUND: $header:$line $text"
        else
            echo "found by $finder: $header:$line $text"
        fi
        cp "$original" "$copy"
    done < <(grep -nE '\b(batch_?|pending_|how_|to)\.(invalidate[a-z_]*|flush)\(.*;' "$original")
done
echo "$removed invalidations taken out, $missed of them without a test that fails"
((removed > 0 && missed == 0))
