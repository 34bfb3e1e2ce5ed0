#!/bin/bash
# What a second CPU brings: two programs that only compute, in a guest with one CPU and in one with two, in turn. Needs
# two CPUs of the host that do nothing else, and a kernel that is built (./exo run builds it).
#
# usage: bash bench/guest/throughput.sh [ROUNDS]
set -euo pipefail
exo=$(cd "$(dirname "$0")/../.." && pwd)/exo
work='BEGIN { for (i = 0; i < 500000; i++) x = (x + i) % 97 }'

# The seconds that both take in a guest with $1 CPUs, by the guest's clock.
both() {
    "$exo" run --smp "$1" --exec "read begin rest </proc/uptime; awk '$work' & awk '$work' & wait
        read end rest </proc/uptime; echo both took \$begin \$end" |
        awk '/^both took/ { print $4 - $3 }'
}

for ((round = 0; round < ${1:-5}; ++round)); do
    for cpus in 1 2; do
        echo "$cpus $(both "$cpus")"
    done
done | awk '
    $1 == 1 { one = $2 }
    $1 == 2 { printf "one CPU %.2f s, two %.2f s: %.2f times the work\n", one, $2, one / $2; print one / $2 | "sort -n" }
    END { close("sort -n") }' | awk '
    NF > 1 { print; next }
    { ratio[++count] = $1 }
    END { printf "median of %d rounds: %.2f\n", count, ratio[int((count + 1) / 2)] }'
