#!/usr/bin/env bash
# without_metrics.sh CXX INCLUDE WORK: a scheduler that records nothing, with policies that do not either, is,
# instruction for instruction, one from whose sources the counting was taken out; and one that records is not.
set -eu
cxx=$1 include=$2 work=$3
sources="exo/sched/scheduler.hpp exo/sched/policies/deadline.hpp exo/sched/policies/throttled.hpp"
rm -rf "$work"
mkdir -p "$work"
cp -r "$include" "$work/with"
cp -r "$include" "$work/without"

# What counts is a statement of its own: it becomes an empty one.
counter='([a-z_]+\.)*(metrics_\.[a-z_]+|overruns_|miss(es|ed)_|throttles_)(\.(add|record|end_episode)\(| = )'
count="^$counter[^;]*;\$|^([a-z_]+(\.|->))*(template )?note<&counters::[a-z_]+>\(\);\$"
for source in $sources; do
    sed -E "s/^ +//; s/$count/;/" "$include/$source" >"$work/without/$source"
    sed -E "s/^ +//" "$include/$source" >"$work/with/$source"
    taken_out=$(diff "$work/with/$source" "$work/without/$source" | grep -c '^<') || true
    echo "$taken_out places taken out of $source"
    if grep -nE "$counter" "$work/without/$source"; then
        echo "there the counting is not a statement on a line of its own"
        exit 1
    fi
    ((taken_out > 0)) || { echo "$source counts in other ways than this test knows"; exit 1; }
done

# The functions of its machine are not known: calls of them are compared too.
cat >"$work/unit.cpp" <<'CPP'
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/scheduler.hpp>

using namespace exo;

struct machine {
    using state = bool;
    bool save_and_disable() noexcept;
    void restore(bool saved) noexcept;
    bool enabled() noexcept;
    unsigned current_cpu() const noexcept;
    unsigned cpu_limit() const noexcept;
    instant now() const noexcept;
    void arm(instant) noexcept;
    void halt_until_interrupt() noexcept;
    void poll(auto&& done) noexcept
    {
        while (!done()) {
        }
    }
};
struct contexts {
    using context = void*;
    using entry = void (*)(void*) noexcept;
    void prepare(context&, std::span<std::byte>, entry, void*) noexcept;
    void switch_to(context&, context&) noexcept;
};
struct hooks {
    void switching(const auto& a, const auto& b, const sched::turn_start& begins) noexcept { switched(&a, &b, begins); }
    void ended(const auto& t) noexcept { gone(&t); }
    void kick(unsigned) noexcept;
    void switched(const void*, const void*, const sched::turn_start&) noexcept;
    void gone(const void*) noexcept;
};
using policy = sched::run_queue<sched::basic_deadline<trace::RECORDING>,
                                sched::throttled<sched::fixed_priority, trace::RECORDING>, sched::fair>;
template class sched::scheduler<policy, hal::flat_topology<>, contexts, machine, machine, machine, machine, machine,
                                hooks, trace::RECORDING>;
CPP

# code FROM RECORDING: the assembly, without what numbers labels.
code() {
    (cd "$work/$1" && "$cxx" -std=c++23 -O2 -fno-exceptions -DNDEBUG -DRECORDING="$2" -I. -S -o - ../unit.cpp) |
        sed -E 's/\.L[A-Za-z_]*[0-9]+/.L/g; /^#|\.file|\.ident/d'
}
code with not_recording >"$work/compiled_out"
code without not_recording >"$work/taken_out"
code with recording >"$work/counting"
echo "$(wc -l <"$work/compiled_out") lines of assembly without, $(wc -l <"$work/counting") with"
diff "$work/compiled_out" "$work/taken_out" >"$work/difference" ||
    { echo "metrics that are compiled out leave instructions:"; head -40 "$work/difference"; exit 1; }
if diff -q "$work/compiled_out" "$work/counting" >/dev/null; then echo "nothing is compared"; exit 1; fi
