// Reads that write nothing: a reader takes what it finds, and learns afterwards whether a writer was at it (Boehm, "Can
// seqlocks get along with programming language memory models?", 2012).
//
// Writers exclude each other by other means and do not wait for readers. A reader that is disturbed tries again, so it
// makes progress whenever writers pause.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <exo/hal/atomics.hpp>

namespace exo::sync {

// The count by which readers tell. What it protects consists of atomics, read and written relaxed.
template <hal::Atomics Atomics = hal::standard_atomics>
class sequence {
public:
    // By the only writer; every reader between begin and end fails its validation.
    void begin_write() noexcept
    {
        count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        Atomics::fence(std::memory_order_release);
    }
    void end_write() noexcept
    {
        count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

    // What to hand to validate() after the read. It may be odd: then a writer is at work, and validate() will fail.
    [[nodiscard]] std::uint32_t begin_read() const noexcept { return count_.load(std::memory_order_acquire); }
    // True when nothing was written since begin_read() returned `begin`.
    [[nodiscard]] bool validate(std::uint32_t begin) const noexcept
    {
        Atomics::fence(std::memory_order_acquire);
        return begin % 2 == 0 && count_.load(std::memory_order_relaxed) == begin;
    }

private:
    typename Atomics::template atomic<std::uint32_t> count_{};
};

// One value that is read whole.
template <class T, hal::Atomics Atomics = hal::standard_atomics>
    requires std::is_trivially_copyable_v<T>
class seqlock {
public:
    // By one writer at a time.
    void store(const T& value) noexcept
    {
        std::uint64_t words[word_count]{};
        std::memcpy(words, &value, sizeof(T));
        sequence_.begin_write();
        for (std::size_t i = 0; i < word_count; ++i)
            words_[i].store(words[i], std::memory_order_relaxed);
        sequence_.end_write();
    }

    [[nodiscard]] T load() const noexcept
    {
        std::uint64_t words[word_count];
        for (;;) {
            const std::uint32_t begin = sequence_.begin_read();
            for (std::size_t i = 0; i < word_count; ++i)
                words[i] = words_[i].load(std::memory_order_relaxed);
            if (sequence_.validate(begin))
                break;
            Atomics::pause();
        }
        T value;
        std::memcpy(&value, words, sizeof(T));
        return value;
    }

private:
    static constexpr std::size_t word_count = (sizeof(T) + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t);

    sequence<Atomics> sequence_;
    typename Atomics::template atomic<std::uint64_t> words_[word_count]{};
};

} // namespace exo::sync
