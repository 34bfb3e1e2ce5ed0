# A CPU that waits for the next thread of a space stays in it for a while, and one that sleeps is not called for it.
. "$(dirname "$0")/common.bash" "$@"

# Where the host runs the two CPUs in turn they wait for too long, so it may be tried again.
for _ in 1 2 3 4 5; do
    out=$("$exo" run --smp 2 --timeout 60 --exec /test/lingering)
    expect "status" $? 0
    read -r loads calls <<<"$(sed 's/[a-z]* //' <<<"$out" | xargs)"
    ((loads < 500)) && break
done
echo "$loads loads of the space for 2,000 waits; $calls calls for 20 unmaps beside a CPU that sleeps"
((loads < 500)) || fail "a CPU that has waited loads the space again"
((calls <= 5)) || fail "a CPU that sleeps is called"
finish
