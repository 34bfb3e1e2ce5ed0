# Boot time and the kernel's own memory stay within their bounds, as the booted kernel itself counts them.
. "$(dirname "$0")/common.bash" "$@"

own=$("$exo" run --log "$work/log" --exec "sed -n 's/^KernelOwn: *\([0-9]*\) kB$/\1/p' /proc/meminfo")
expect_match "KernelOwn of /proc/meminfo" "$own" '^[1-9][0-9]*$'
((own < 4096)) || fail "the kernel uses $own KiB of 256 MiB for itself"
micros=$(sed -n 's/^.*first user instruction after \([0-9]*\) us.*$/\1/p' "$work/log")
expect_match "time to the first user instruction" "$micros" '^[1-9][0-9]*$'
((micros < 100000)) || fail "the first user instruction came $micros us after kernel entry"
echo "kernel memory $own KiB, first user instruction after $micros us"
finish
