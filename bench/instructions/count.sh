#!/usr/bin/env bash
# count.sh PROGRAM PAGES FUNCTION LIMIT...: fails where a function of the program takes more instructions a page than its
# limit. Instructions, unlike time, are the same on every run.
set -eu
program=$1 pages=$2
shift 2
status=0
while (($#)); do
    counted=$(valgrind --tool=callgrind --toggle-collect="$1" --callgrind-out-file=/dev/null "$program" 2>&1 |
        sed -n 's/^.*Collected : \([0-9]*\)$/\1/p')
    [[ $counted ]] || { echo "$1: valgrind counted nothing"; exit 2; }
    awk -v what="$1" -v n="$counted" -v pages="$pages" -v limit="$2" \
        'BEGIN { printf "%-12s %6.2f instructions a page, at most %s\n", what, n / pages, limit; exit n > limit * pages }' ||
        status=1
    shift 2
done
exit $status
