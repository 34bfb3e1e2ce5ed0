#!/usr/bin/env bash
# without_observers.sh CXX INCLUDE WORK: locks that nobody observes are, instruction for instruction, those from whose
# sources the observers were taken out; locks that are checked, or counted, are not.
set -euo pipefail
cxx=$1 include=$2 work=$3
sources="exo/sync/spin_lock.hpp exo/sync/mutex.hpp exo/sched/inheriting_mutex.hpp"
rm -rf "$work"
mkdir -p "$work"
cp -r "$include" "$work/with"
cp -r "$include" "$work/without"

# What is told is a statement of its own: it becomes an empty one.
for source in $sources; do
    sed -E 's/^ *(\[\[maybe_unused\]\] auto attempt = |[a-z]+->)?observer_\.[a-z]+\([^;]*\);$/;/' "$include/$source" >"$work/without/$source"
    taken_out=$(diff "$work/with/$source" "$work/without/$source" | grep -c '^<') || true
    echo "$taken_out places taken out of $source"
    if grep -nE 'observer_\.' "$work/without/$source"; then
        echo "there an observer is not told in a statement on a line of its own"
        exit 1
    fi
    ((taken_out > 0)) || { echo "$source tells observers in other ways than this test knows"; exit 1; }
done

# The functions of its machine are not known: calls of them are compared too.
cat >"$work/unit.cpp" <<'CPP'
#include <exo/sched/inheriting_mutex.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/spin_lock.hpp>

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
    sync::held_locks* held_spin_locks() noexcept;
    sync::lock_counters* lock_counters() noexcept;
};
struct contexts {
    using context = void*;
    using entry = void (*)(void*) noexcept;
    void prepare(context&, std::span<std::byte>, entry, void*) noexcept;
    void switch_to(context&, context&) noexcept;
};
struct hooks {
    void switching(const auto&, const auto&, const sched::turn_start&) noexcept {}
    void ended(const auto&) noexcept {}
    void kick(unsigned) noexcept;
};
using scheduler = sched::scheduler<sched::fixed_priority, hal::flat_topology<>, contexts, machine, machine, machine,
                                   machine, machine, hooks, trace::not_recording>;
static_assert(sizeof(scheduler::task) != 0);
template class sync::spin_lock<sync::lock_rank::heap, machine>;
template class sync::mutex<sync::lock_rank::inode>;
template class sched::inheriting_mutex<scheduler, sync::lock_rank::futexes>;
CPP

# code FROM [OPTION...]: the assembly, without what numbers labels.
code() {
    local from=$1
    shift
    (cd "$work/$from" && "$cxx" -std=c++23 -O2 -fno-exceptions -DNDEBUG "$@" -I. -S -o - ../unit.cpp) |
        sed -E 's/\.L[A-Za-z_]*[0-9]+/.L/g; /^#|\.file|\.ident/d'
}
code with >"$work/unobserved"
code without >"$work/taken_out"
diff "$work/unobserved" "$work/taken_out" >"$work/difference" ||
    { echo "observers that do nothing leave instructions:"; head -40 "$work/difference"; exit 1; }
for how in EXO_CHECK_LOCKS EXO_COUNT_LOCKS; do
    code with -D$how=1 >"$work/observed"
    echo "$(wc -l <"$work/unobserved") lines of assembly without, $(wc -l <"$work/observed") with $how"
    if diff -q "$work/unobserved" "$work/observed" >/dev/null; then echo "nothing is compared"; exit 1; fi
done
