# Programs find themselves elsewhere each time, unless that is turned off.
. "$(dirname "$0")/common.bash" "$@"

# different COLUMN TEXT: how many values there are in a column.
different() { awk "{ print \$$1 }" <<<"$2" | sort -u | wc -l; }
look='for i in 1 2 3 4 5 6 7 8; do /test/places; done; for i in 1 2 3 4; do /test/places-pie; done;
for i in 1 2 3; do /test/places-pie fixed; done'
out=$("$exo" run --exec "$look")
expect "status" $? 0
plain=$(sed -n '1,8p' <<<"$out") pie=$(sed -n '9,12p' <<<"$out") fixed=$(sed -n '13,15p' <<<"$out")
expect "entries of programs of fixed place" "$(different 1 "$plain")" 1
for column in 2 3 4 5; do
    (($(different $column "$plain") >= 7)) || fail "too few different values in column $column: $plain"
done
for column in 1 2 3 4 5; do
    expect "different values in column $column of position-independent programs" "$(different $column "$pie")" 4
done
for column in 1 2 3 4; do
    expect "different values in column $column with personality" "$(different $column "$fixed")" 1
done
expect "random bytes with personality" "$(different 5 "$fixed")" 3
expect_match "where a position-independent program begins" "$fixed" '^55555555'

out=$("$exo" run --append norandmaps --exec 'for i in 1 2 3; do /test/places-pie; done')
for column in 1 2 3 4; do
    expect "different values in column $column with norandmaps" "$(different $column "$out")" 1
done
expect "random bytes with norandmaps" "$(different 5 "$out")" 3
finish
