// What is done when memory has run out and nobody can give any back: a process ends, and its memory is taken from it at
// once, whatever it waits for.
//
// Only page faults end processes, since a program cannot be told that its store failed. What the kernel allocates for a
// system call is ENOMEM instead.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/ref.hpp>
#include <exo/base/time.hpp>
#include <exo/mm/footprint.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_id.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/signal_posting.hpp>
#include <exo/proc/thread.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::proc {

// A policy says how much it would rather end a process than others; 0: not at all. This one ends the largest.
struct largest_process {
    template <class System>
    [[nodiscard]] std::uint64_t score(const process<System>& p, const mm::footprint& memory) const
    {
        return p.id() == init_id ? 0 : memory.total();
    }
};

template <class System, class Policy = largest_process>
class out_of_memory_killer {
public:
    using process_type = process<System>;
    using image_type = program_image<System>;

    explicit out_of_memory_killer(System& system) : system_{system} {}

    // What one fault that found no memory keeps from call to call.
    struct shortage {
        unsigned in_vain{}; // how often it went on because there seemed to be memory
    };

    // For a thread that found no memory, and holds no lock that ending a process takes. True: there may be some now.
    // False: the thread's own process is the one that ends, and has been told so, or there is none to end.
    [[nodiscard]] bool make_room(thread<System>& t, shortage& found)
    {
        const auto before = rounds_.load(std::memory_order_acquire);
        auto guard = lock_.lock(system_.parker());
        if (rounds_.load(std::memory_order_relaxed) != before)
            return true; // somebody else made room meanwhile
        if (has_room(found))
            return true; // or did so before this thread came here
        const auto own = t.process().find_image();
        candidate worst;
        bool ending = false;
        for (auto p = system_.processes().find_from(init_id); p; p = system_.processes().find_from(p->id() + 1)) {
            const auto image = p->find_image();
            const bool dying = is_dying(*p);
            if (!image) {
                ending = ending || (dying && p->state != process_state::zombie);
            } else if (!dying) {
                const auto memory = image->space().memory_footprint();
                if (const auto score = policy_.score(*p, memory); score > worst.score)
                    worst = {p, image, memory, score};
            } else if (image == own) {
                return false;
            } else if (image->space().virtual_pages() != 0 && all_die(*image)) {
                clear(*image); // it is on its way: its memory need not wait for it
                return true;
            }
        }
        if (ending) { // it gives its memory back right now
            system_.parker().park(system_.now() + milliseconds(1));
            return true;
        }
        if (has_room(found))
            return true; // it came while this waited for a space that gave it back
        if (!worst.chosen) {
            system_.log().line("out of memory, and no process to end");
            return false;
        }
        end(worst);
        if (worst.image == own)
            return false;
        clear(*worst.image);
        return true;
    }

private:
    static constexpr unsigned attempts = 8; // with memory that there seems to be

    struct candidate {
        ref<process_type> chosen;
        ref<image_type> image;
        mm::footprint memory;
        std::uint64_t score{};
    };

    [[nodiscard]] bool has_room(shortage& found)
    {
        if (found.in_vain == attempts || system_.memory().frames.below(mm::watermark::high))
            return false;
        ++found.in_vain;
        return true;
    }
    [[nodiscard]] static bool is_dying(process_type& p)
    {
        auto guard = p.lock();
        return p.ending || p.threads.empty();
    }
    // Calls visit(guard, p) for the processes that run in `image`: a child in vfork does so with its parent.
    template <class Visit>
    void for_each_user(const image_type& image, Visit visit)
    {
        auto guard = system_.processes().lock();
        system_.processes().for_each(guard, [&](process_type& p) {
            if (p.runs_in(image))
                visit(guard, p);
        });
    }
    [[nodiscard]] bool all_die(const image_type& image)
    {
        bool all = true;
        for_each_user(image, [&](auto&, process_type& p) { all = all && is_dying(p); });
        return all;
    }
    void end(const candidate& worst)
    {
        const process_type& p = *worst.chosen;
        system_.log().line("out of memory: killed process ", p.id(), " (", p.name(), "), which kept ",
                           worst.memory.pages >> 10, " KiB and ", worst.memory.tables >> 10, " KiB of page tables");
        system_.memory().counters().out_of_memory_kills.add();
        for_each_user(*worst.image, [](auto& guard, process_type& user) {
            (void)post<System>(guard, user, {.number = signal::sigkill, .code = signal_code::kernel});
        });
    }
    void clear(image_type& image)
    {
        image.space().clear();
        rounds_.fetch_add(1, std::memory_order_release);
    }

    System& system_;
    [[no_unique_address]] Policy policy_;
    sync::mutex<sync::lock_rank::out_of_memory> lock_; // one at a time
    std::atomic<std::uint64_t> rounds_{};
};

} // namespace exo::proc
