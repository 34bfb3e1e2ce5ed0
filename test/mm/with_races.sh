#!/usr/bin/env bash
# with_races.sh SOURCE WORK [NUMBER...]: puts races into include/exo, one at a time, and explores the scenarios of the room
# with it. Fails when they pass all the same. A race is a header, a sed script that makes it, and what it is.
set -u
source=$(cd "$1" && pwd) work=$2
shift 2
cxx=(${CXX:-g++-12} -std=c++23 -O1 -w)

races=(
    'mm/table_sharing.hpp|/to.invalidate_page(v.align_down/,/to.retire/s/to.retire(child)/release_reference(memory_, child)/|a table is dropped before other CPUs have forgotten it'
    'mm/table_sharing.hpp|s/^\( *\)forbid_write(source + i);/\1;/|children of a table that is copied stay writable in the original'
    'mm/flush_batch.hpp|s/^\( *\)how_.flush(pending_);/\1retired_.release(); how_.flush(pending_);/|frames are freed before the flush'
    'mm/frame_allocator.hpp|s/^ *references.store(1, .*two dropped at once.*$//|two last references dropped at once leave no count'
    'mm/frame_allocator.hpp|s/references.fetch_sub(1, std::memory_order_acq_rel)/references.load(); references.store(before - 1, std::memory_order_relaxed)/|references are dropped in two steps'
    'mm/shootdown.hpp|/ void load(/,/^    }/{/running.join/d;s/move_to(p, .*/&space.running.join(cpu_.current_cpu());/}|a CPU joins after it has loaded the root'
    'mm/shootdown.hpp|/void move_to(/,/^    }/{/root_.load(/d;s/^ *p.loaded_ = space;/&root_.load(root, what);/}|a CPU leaves before it has loaded the other root'
    'mm/shootdown.hpp|/void evict(/,/^    }/s/call(.*);//|a space ends in which a CPU lingers'
    'mm/address_space_regions.hpp|/::fork()/,/auto child/s/auto guard = lock();//|a fork does not wait for faults'
    'mm/shootdown.hpp|s/kept_out_ = space.closed.load(.*);/kept_out_ = false;/|a fault does not wait for a fork'
    'mm/shootdown.hpp|/void close(/,/^    }/{/while (processors_/d;/Atomics::pause/d}|a fork does not wait for a fault'
    'mm/shootdown.hpp|s/p.inside_.store(&space, std::memory_order_seq_cst)/p.inside_.store(\&space, std::memory_order_release)/|a fault looks whether it may enter before others see it'
    'mm/table_sharing.hpp|s/while (locked.exchange(true, .*))$/while (false)/|a table becomes private while it is copied for another thread'
    'mm/table_sharing.hpp|/bool fill(owned_slot/,/^    }/s/if (!entries().compare_exchange(at.slot, empty, leaf))/entries().store(at.slot, leaf); if (false)/|two faults fill one entry'
    'mm/table_sharing.hpp|/bool replace(owned_slot/,/^    }/s/if (entries().compare_exchange(at.slot, e, leaf))/entries().exchange(at.slot, leaf);/|two faults copy one page'
    'mm/address_space_faults.hpp|s/const bool at_once = .*;/const bool at_once = true;/|a page that replaces another is written before other CPUs have forgotten that'
    'mm/address_space_faults.hpp|s/if (format::attributes(leaf, 0).software & changing_leaf)/if (false)/|a second fault gives the right to write to such a page'
    'mm/table_sharing.hpp|s/while (!format::writable(e) \&\& marked(e) == judged \&\&$/while (!format::writable(e) \&\&/|a fault gives the right to write to a page that another is changing'
    'mm/table_sharing.hpp|/result<frame_number> split(entry/,/^    }/s/to.flush();/;/|a large page is split while CPUs remember it whole'
    'mm/table_sharing.hpp|s/const entry old = entries().exchange(slot, entry{});/const entry old = entries().load(slot); entries().store(slot, entry{});/|a large page is taken out in two steps to be split'
    'mm/table_sharing.hpp|s/return to.alone() ? split(slot, level, v, to) : fail(errors::busy);/return split(slot, level, v, to);/|two faults split one large page'
    'mm/table_sharing.hpp|/result<> come_apart/,/^    }/s/if (!to.alone())/if (false)/|two faults make single frames of one block'
    'mm/address_space_faults.hpp|s/!here.fill(\*at, leaf_for(r, \*have.block(), true, 1))/(here.fill(*at, leaf_for(r, *have.block(), true, 1)), false)/|a large page that came second is lost'
    'mm/table_sharing.hpp|/forbid_write_in(child))$/{n;s/to.invalidate_everything();/;/}|other CPUs may write to a last-level table that a fork shares'
    'sync/wait_queue.hpp|/maybe_waiting() const/,/^    }/s/Atomics::fence.*//|no fence between a change and the look at who waits for it'
    'sync/mutex.hpp|s/return !held_.exchange(true, std::memory_order_acquire)/return !held_.load() \&\& (held_.store(true, std::memory_order_relaxed), true)/|a mutex is taken in two steps'
    'sync/seqlock.hpp|s/return begin % 2 == 0 \&\& /return /|a sequence lock is read while it is written'
    'sync/inbox.hpp|s/newest_.exchange(nullptr, std::memory_order_acquire)/newest_.load(); newest_.store(nullptr, std::memory_order_release)/|an inbox is emptied in two steps'
    'sched/scheduler.hpp|/unsigned place_for(/,/^    }/s/if (t.on_cpu_.load(.*))$/if (false)/|a thread that is on its stack still is sent to another CPU'
    'sched/scheduler.hpp|s/hooks_.switching(.*);$/&previous->on_cpu_.store(false, std::memory_order_release);/|a thread is said to be off its stack before it is'
    'sched/scheduler.hpp|s/if (t.token_.exchange(task::token::set, .*) != task::token::parked)$/const auto was = t.token_.load(); t.token_.store(task::token::set, std::memory_order_relaxed); if (was != task::token::parked)/|a thread is woken in two steps'
    'sched/scheduler.hpp|/void interrupt(/,/^    }/s/kick(p, there)/;/|a thread that is wanted is not interrupted where it runs'
    'sched/scheduler.hpp|s/if (homeless \&\& /if (false \&\& /|a thread that may not stay is sent nowhere'
    'sched/scheduler.hpp|/void take_over_change(/,/^    }/s/if (t.cpu_.load(.*) != number(p)) {$/if (false) {/|a change does not follow the thread that it is for'
    'sched/scheduler.hpp|/bool accept(/,/^    }/s/if (t.changed_.load(.*))$/if (false)/|a thread comes to a CPU without its change'
    'sched/scheduler.hpp|/void ask_for_work(/,/^    }/s/if (p.requesting_.load(.*))$/if (false)/|a CPU asks for work twice at once'
    'sched/scheduler.hpp|s/^ *thief.requesting_.store(false, .*$//|a CPU asks for work once and never again'
    'sched/scheduler.hpp|/loot movable_to(/,/^    }/s/if (wanted \&\& t.affinity_.contains(cpu)) {$/if (wanted) {/|a thread is stolen that is bound'
    'sched/scheduler.hpp|s/const bool rung = p.bell_.stop_listening();/const bool rung = (p.bell_.stop_listening(), false);/|a CPU that polls halts though it was rung for'
    'sched/inheriting_mutex.hpp|s/(lock_.contended() ? contended : 0), /0, /|a lock that is handed over forgets who waits'
    'sched/inheriting_mutex.hpp|/bool try_acquire(/,/^    }/{s/return owner_.compare_exchange_strong(.*/return owner_.load() == 0 \&\& (owner_.store(word(self), std::memory_order_relaxed), true);/;s/^ *std::memory_order_relaxed);$//}|a lock is taken in two steps'
    'sched/inheritance.hpp|/static bool wait(/,/^    }/s/^ *update(&owner, changed);$//|who holds a lock inherits nothing'
    'sched/change_notice.hpp|s/if (at_.compare_exchange_strong(seen, state::none, .*))$/at_.store(state::none, std::memory_order_release); if (true)/|a notice is put away in two steps'
)

rm -rf "$work"
mkdir -p "$work"
"${cxx[@]}" -I"$source/include" -c "$source/test/main.cpp" -o "$work/main.o" || exit 2

# survives INCLUDE ROOM: whether all scenarios of the room pass with the headers in INCLUDE.
survives() {
    "${cxx[@]}" -I"$1" -I"$source/test" "$source/test/$2"/explored*.cpp "$work/main.o" -o "$work/test" 2>"$work/errors" || {
        cat "$work/errors"
        exit 2
    }
    local status=0
    timeout 600 "$work/test" --abort-after=1 >"$work/output" 2>&1 || status=$?
    ((status == 124)) && how='found, as it did not end' || how=found
    return "$status"
}

for room in mm sync sched; do
    survives "$source/include" $room || {
        cat "$work/output"
        echo "the scenarios fail as they are"
        exit 2
    }
done
missed=0 numbers=("$@")
((${#numbers[@]})) || numbers=("${!races[@]}")
for number in "${numbers[@]}"; do
    IFS='|' read -r header script what <<<"${races[number]}"
    rm -rf "$work/include"
    cp -r "$source/include" "$work/include"
    sed "$script" "$source/include/exo/$header" >"$work/include/exo/$header"
    cmp -s "$source/include/exo/$header" "$work/include/exo/$header" && {
        echo "$header is no longer as the race expects: $what"
        exit 2
    }
    if survives "$work/include" "${header%%/*}"; then
        missed=$((missed + 1))
        echo "NOT FOUND: $what"
    else
        echo "$how: $what"
        grep -m1 'logged:' "$work/output"
    fi
done
echo "${#numbers[@]} races, $missed of them not found"
((missed == 0))
