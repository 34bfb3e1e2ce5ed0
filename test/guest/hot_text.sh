#!/usr/bin/env bash
# hot_text.sh NM KERNEL: what system calls and switches run through lies on few pages of the kernel's code.
set -euo pipefail
nm=$1 kernel=$2
readonly limit=$((14 * 4096))

symbols=$("$nm" --demangle --numeric-sort "$kernel")
address() { awk -v name="$1" '$3 == name { print $1; exit }' <<<"$symbols"; }
begin=$(address exo_text_begin) end=$(address exo_text_hot_end)
size=$((16#$end - 16#$begin))
echo "$size bytes of $((16#$(address exo_text_end) - 16#$begin)) are hot"
((size <= limit)) || { echo "that is more than $limit"; exit 1; }

# Some of them are inlined everywhere, as the compiler likes.
found=0
for function in exo_on_system_call exo_on_trap exo_switch_stacks '::on_system_call(' '::switch_to_next(' \
    '::arm_for_turn(' '::unpark(' 'scheduler<.*::current() const$' '::look_again(' '::shootdown<.*::load(' \
    'fs::pipe::take([^)]*)$' 'fs::pipe::give([^)]*)$' 'descriptor_table::get('; do
    places=$(grep -- "$function" <<<"$symbols" | grep -v '\.cold' || true)
    [[ $places ]] || continue
    found=$((found + 1))
    awk -v begin="$begin" -v end="$end" '$1 < begin || $1 >= end { print "not among them:", $0; outside = 1 }
        END { exit outside }' <<<"$places" | cut -c1-120
done
((found >= 9)) || { echo "only $found of the functions are there"; exit 1; }
