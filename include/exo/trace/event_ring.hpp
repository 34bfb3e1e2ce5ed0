// The last events of one writer, to be read by others at any time.
//
// The writer never waits, and overwrites the oldest. A reader takes each event as it finds it, and learns afterwards
// from how far the writer has come whether that was whole.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <exo/hal/atomics.hpp>
#include <exo/trace/counter.hpp>

namespace exo::trace {

template <class Event, std::size_t Capacity, class Recording = recording, hal::Atomics Atomics = hal::standard_atomics>
requires std::is_trivially_copyable_v<Event>
class event_ring {
public:
    static constexpr std::size_t capacity = Capacity;

    // By one writer at a time: a CPU with interrupts off.
    void record(const Event& event) noexcept
    {
        std::uint64_t words[word_count]{};
        std::memcpy(words, &event, sizeof(Event));
        const auto at = written_.load(std::memory_order_relaxed);
        // Whoever reads one of these words finds out, by the fence, that its slot was being written.
        begun_.store(at + 1, std::memory_order_relaxed);
        Atomics::fence(std::memory_order_release);
        for (std::size_t i = 0; i < word_count; ++i)
            slots_[at % Capacity][i].store(words[i], std::memory_order_relaxed);
        written_.store(at + 1, std::memory_order_release);
    }

    // Calls visit(const Event&, bool follows) for those that are there, the oldest first. Those overwritten meanwhile
    // are left out: the next one then does not follow the one visited before. Returns whether the last one visited is
    // the last recorded.
    template <class Visit>
    bool for_each(Visit visit) const
    {
        const auto end = written_.load(std::memory_order_acquire);
        bool follows = false;
        for (auto at = end < Capacity ? 0 : end - Capacity; at < end; ++at) {
            std::uint64_t words[word_count];
            for (std::size_t i = 0; i < word_count; ++i)
                words[i] = slots_[at % Capacity][i].load(std::memory_order_relaxed);
            Atomics::fence(std::memory_order_acquire);
            if (begun_.load(std::memory_order_relaxed) > at + Capacity) {
                follows = false;
                continue;
            }
            Event event;
            std::memcpy(&event, words, sizeof(Event));
            visit(event, std::exchange(follows, true));
        }
        return follows && begun_.load(std::memory_order_acquire) == end;
    }

private:
    static constexpr std::size_t word_count = (sizeof(Event) + 7) / 8;
    template <class T>
    using atomic = typename Atomics::template atomic<T>;

    atomic<std::uint64_t> begun_{};
    atomic<std::uint64_t> written_{};
    atomic<std::uint64_t> slots_[Capacity][word_count]{};
};

template <class Event, std::size_t Capacity, hal::Atomics Atomics>
requires std::is_trivially_copyable_v<Event>
class event_ring<Event, Capacity, not_recording, Atomics> {
public:
    void record(const Event&) noexcept {}
    template <class Visit>
    bool for_each(Visit) const
    {
        return false;
    }
};

} // namespace exo::trace
