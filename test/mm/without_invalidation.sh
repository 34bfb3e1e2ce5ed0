#!/usr/bin/env bash
# without_invalidation.sh SOURCE WORK [HEADER...]: takes the places of include/exo/mm that record or make an
# invalidation, or have a CPU told of one, out, one at a time, and the checks by which a CPU that was not told notices;
# runs the mm tests without each. Fails when they pass all the same.
set -u
source=$(cd "$1" && pwd) work=$2
shift 2
headers=("$@")
((${#headers[@]})) || mapfile -t headers < <(cd "$source/include/exo/mm" && ls -- *.hpp)
cxx=(${CXX:-g++-12} -std=c++23 -O1 -w)
mapfile -t tests < <(ls -Sr -- "$source"/test/mm/*.cpp) # the quickest to compile first
# A call that is a statement by itself.
place='(([a-z_]+\.)*(batch_?|pending_|how_|to|tlb_?|ipi_|what|running|shootdown_)(\.|->)(invalidate[a-z_]*|flush|apply|call|join|add[a-z_]*|widened)|^ +(invalidate_page|flush))\(.*\);'
# HEADER:WHAT IT DOES THEN:SED EXPRESSION
checks=(
    'remembered_spaces.hpp:keeps what is older than the space:s/known.generation == generation [?]/true ?/'
    'remembered_spaces.hpp:keeps what another space left under an id:s/[{]space, never[}]/{space, generation}/'
    'remembered_spaces.hpp:takes a later call for the earlier one too:s/if [(]known.generation [+] 1 == generation[)]//'
    'shootdown.hpp:counts no change:s/space.advance[(][)]/space.generation()/'
    'shootdown.hpp:forgets nothing on the CPU itself:s/^ *forget_here[(]asked[)];//'
    'shootdown.hpp:takes a call that came late for one in time:s/ && p.loaded_ == &asked.space//'
)

rm -rf "$work"
mkdir -p "$work"
"${cxx[@]}" -I"$source/include" -c "$source/test/main.cpp" -o "$work/main.o" || exit 2

# survives INCLUDE: whether all tests pass with the headers in INCLUDE; test by test, so that the first failure does.
# What has found one goes first the next time.
survives() {
    local i test
    for i in "${!tests[@]}"; do
        test=${tests[i]}
        "${cxx[@]}" -I"$1" -I"$source/test" "$test" "$work/main.o" -o "$work/test" 2>"$work/errors" || {
            cat "$work/errors"
            exit 2
        }
        timeout 600 "$work/test" >"$work/output" 2>&1 || {
            (($? == 124)) && finder="$(basename "$test"), which did not end" || finder=$(basename "$test")
            unset "tests[i]"
            tests=("$test" "${tests[@]}")
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

# without HEADER WHAT SED: whether a test fails when HEADER is changed so.
without() {
    local original=$source/include/exo/mm/$1 copy=$work/include/exo/mm/$1
    sed -E "$3" "$original" >"$copy"
    cmp -s "$original" "$copy" && {
        echo "$1 is the same without: $2"
        exit 2
    }
    removed=$((removed + 1))
    if survives "$work/include"; then
        missed=$((missed + 1))
        echo "NOT FOUND: $1: $2"
    else
        echo "found by $finder: $1: $2"
    fi
    cp "$original" "$copy"
}

for header in "${headers[@]}"; do
    while IFS=: read -r line text; do
        without "$header" "$line $text" "${line}s/$place/;/"
    done < <(grep -nE "$place" "$source/include/exo/mm/$header")
    for check in "${checks[@]}"; do
        IFS=: read -r where what change <<<"$check"
        [[ $where == "$header" ]] && without "$header" "$what" "$change"
    done
done
echo "$removed places taken out, $missed of them without a test that fails"
((removed > 0 && missed == 0))
