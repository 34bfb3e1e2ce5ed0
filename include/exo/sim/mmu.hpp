// A memory management unit in software, one per simulated CPU: it walks the real tables, honours what they grant, marks
// entries accessed and dirty, and remembers as much as hardware may: translations tagged with address-space ids, paths
// through tables, and, where the format says so, that something was absent.
//
// The oracle: whatever is about to be used is compared with what the tables say at that moment. An access that gets
// through only because something was remembered that should have been forgotten is a violation. Accesses denied by what
// was remembered just fault, as on hardware. Where several threads are told apart, what one of them changed may be
// remembered by others until it has finished, but leads to nothing that is free.

#pragma once

#include <algorithm>
#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/range.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/entry_store.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/hal/translation_root.hpp>
#include <exo/mm/fault.hpp>
#include <exo/sim/memory.hpp>

namespace exo::sim {

// Who asks. The kernel obeys write protection (CR0.WP), never executes user pages (SMEP), and touches them only in a
// copy to or from user memory (SMAP).
enum class privilege : std::uint8_t { user, kernel, kernel_user_copy };

struct page_fault {
    virt_addr address;
    mm::access tried;
    privilege by;
    bool present; // a translation was there, and did not grant this

    friend bool operator==(const page_fault&, const page_fault&) = default;
};

// AtomicRef is what walks read and mark entries through.
template <hal::PteFormat Format, template <class> class AtomicRef = std::atomic_ref>
class mmu {
public:
    using entry = typename Format::entry;

    mmu(physical_memory& memory, unsigned cpus, unsigned id_limit = 16)
        : memory_{memory}, cpus_(cpus), id_limit_{id_limit}
    {
    }

    // The access that CPU `cpu` makes to one byte. Where it goes, or the fault that it causes.
    std::expected<phys_addr, page_fault> access(unsigned cpu, virt_addr v, mm::access tried, privilege by)
    {
        if (!unpublished_.empty() &&
            std::find(unpublished_.begin(), unpublished_.end(), thread_()) != unpublished_.end())
            report("tables were changed and used without publish()", v);
        const auto to = access_unjudged(cpu, v, tried, by);
        if (to)
            if (const translated now = look_at_tables(cpu, v);
                !now.grants(tried, by) || now.page != to->align_down(page_size)) {
                if (!being_changed(cpu, v))
                    report("a stale translation was used", v);
                else if (is_free_(frame_number{to->align_down(page_size)}))
                    report("a stale translation to free memory was used", v);
            }
        return to;
    }
    // The same while tables change on other CPUs: what is remembered may be old without anybody being at fault.
    std::expected<phys_addr, page_fault> access_unjudged(unsigned cpu, virt_addr v, mm::access tried, privilege by)
    {
        EXO_CHECK(cpus_[cpu].root);
        if (!Format::is_canonical(v))
            return std::unexpected{page_fault{v, tried, by, false}};
        const translated found = look_up(cpu, v, tried == mm::access::write);
        if (!found.grants(tried, by)) {
            // A fault ends what was remembered about the page, unless the format says otherwise (SDM 3A, 4.10.4.1).
            if (!Format::caches_absent)
                forget_page(cpu, v);
            return std::unexpected{page_fault{v, tried, by, found.present}};
        }
        return found.page + (v.value() & (page_size - 1));
    }

    // What hardware does unasked: fills a translation, or drops one.
    void speculate(unsigned cpu, virt_addr v)
    {
        if (cpus_[cpu].root && Format::is_canonical(v))
            (void)look_up(cpu, v, false);
    }
    // Whether a translation of `v` is remembered that an access would use.
    [[nodiscard]] bool remembers(unsigned cpu, virt_addr v) const
    {
        const cpu_state& here = cpus_[cpu];
        const auto holds = [&](unsigned tag) {
            const auto hit = here.pages.find({tag, 0, number_at(v, 0)});
            return hit != here.pages.end() && hit->second.present;
        };
        return here.root && (holds(tag_of(here.root->id)) || holds(global_tag));
    }
    // Whether `cpu` remembers a way into `f` that its next access could take.
    [[nodiscard]] bool reaches(unsigned cpu, frame_number f) const
    {
        const cpu_state& here = cpus_[cpu];
        const auto leads_there = [&](const auto& remembered, auto address_in) {
            return std::any_of(remembered.begin(), remembered.end(), [&](const auto& r) {
                return (r.first.tag == tag_of(here.root->id) || r.first.tag == global_tag) &&
                       frame_number{address_in(r.second)} == f;
            });
        };
        return here.root && (frame_number{here.root->table} == f ||
                             leads_there(here.pages, [](const translated& t) { return t.page; }) ||
                             leads_there(here.paths, [](const path& p) { return p.table; }));
    }
    template <class Random>
    void evict_something(unsigned cpu, Random& random)
    {
        auto drop_one = [&](auto& remembered) {
            if (!remembered.empty())
                remembered.erase(std::next(remembered.begin(),
                                           static_cast<std::ptrdiff_t>(random() % remembered.size())));
        };
        random() % 2 ? drop_one(cpus_[cpu].pages) : drop_one(cpus_[cpu].paths);
    }

    // What is wrong with what the kernel did so far.
    [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }

    // The instructions behind hal::Tlb and hal::TranslationRoot, for CPU `cpu`.
    void invalidate_page(unsigned cpu, virt_addr v) { forget_page(cpu, v); }
    void invalidate_space(unsigned cpu, hal::address_space_id id)
    {
        std::erase_if(cpus_[cpu].pages, [&](const auto& p) { return p.first.tag == tag_of(id); });
        std::erase_if(cpus_[cpu].paths, [&](const auto& p) { return p.first.tag == tag_of(id); });
    }
    void invalidate_all(unsigned cpu)
    {
        cpus_[cpu].pages.clear();
        cpus_[cpu].paths.clear();
    }
    void load(unsigned cpu, const hal::translation_root& root, hal::remembered what)
    {
        EXO_CHECK(std::to_underlying(root.id) < id_limit_);
        EXO_CHECK(memory_.contains(root.table));
        cpus_[cpu].root = root;
        if (what == hal::remembered::forget || id_limit_ == 1)
            invalidate_space(cpu, root.id);
    }
    [[nodiscard]] hal::translation_root current(unsigned cpu) const
    {
        return cpus_[cpu].root.value_or(hal::translation_root{});
    }
    [[nodiscard]] unsigned id_limit() const { return id_limit_; }

    // From now on, which thread runs (null: none to be told from others), and whether a frame is free.
    void tell_apart(std::function<const void*()> thread, std::function<bool(frame_number)> is_free)
    {
        thread_ = std::move(thread);
        is_free_ = std::move(is_free);
    }
    // What a thread, or the one that runs, has changed by now nobody may use any more as it was.
    void finished(const void* thread)
    {
        std::erase_if(unfinished_, [&](const auto& change) { return change.second == thread; });
    }
    void finished()
    {
        if (!unfinished_.empty())
            finished(thread_());
    }

    // What sim::entries tells about changes of tables.
    void entries_changed(const entry* slot)
    {
        const void* const thread = thread_();
        if (std::find(unpublished_.begin(), unpublished_.end(), thread) == unpublished_.end())
            unpublished_.push_back(thread);
        if (thread)
            unfinished_.emplace(slot, thread);
    }
    void entries_published()
    {
        if (!unpublished_.empty())
            std::erase(unpublished_, thread_());
    }
    void report(const char* what, virt_addr v)
    {
        char text[32];
        std::snprintf(text, sizeof text, " at %#llx", static_cast<unsigned long long>(v.value()));
        violations_.push_back(std::string{what} + text);
    }

private:
    // What a walk yields for one base page: the part of the leaf, at `level`, that it lies in, or that the entry at
    // `level` is absent.
    struct translated {
        bool present;
        unsigned level;
        phys_addr page;
        hal::protection granted;
        bool global;
        bool dirty;

        [[nodiscard]] static translated absent(unsigned level)
        {
            return {false, level, {}, hal::protection::none, false, false};
        }
        [[nodiscard]] bool grants(mm::access tried, privilege by) const
        {
            using enum hal::protection;
            const bool user_page = includes(granted, user);
            if (by == privilege::user && !user_page)
                return false;
            if (by == privilege::kernel && user_page)
                return false;
            if (by == privilege::kernel_user_copy && tried == mm::access::execute && user_page)
                return false;
            return includes(granted, tried == mm::access::read    ? read
                                     : tried == mm::access::write ? write
                                                                  : execute);
        }
    };

    // A table reached, and what the entries above it still grant.
    struct path {
        phys_addr table;
        hal::protection granted;
    };
    static constexpr hal::protection everything = hal::protection::read | hal::protection::write |
                                                  hal::protection::execute | hal::protection::user;

    struct key {
        unsigned tag;         // an address-space id, or shared by all
        unsigned level;       // of the table that a path leads to; 0 for a page
        std::uint64_t number; // of the page, or of the block that the table covers

        friend auto operator<=>(const key&, const key&) = default;
    };
    static constexpr unsigned global_tag = ~0u;
    [[nodiscard]] static unsigned tag_of(hal::address_space_id id) { return std::to_underlying(id); }
    [[nodiscard]] static std::uint64_t number_at(virt_addr v, unsigned level)
    {
        return v.value() / hal::bytes_at<Format>(level);
    }

    struct cpu_state {
        std::optional<hal::translation_root> root;
        std::map<key, translated> pages; // the TLB, by base page
        std::map<key, path> paths;       // the paging-structure caches
    };

    // From what is remembered, or else from a walk that is then remembered.
    translated look_up(unsigned cpu, virt_addr v, bool will_write)
    {
        cpu_state& here = cpus_[cpu];
        const unsigned tag = tag_of(here.root->id);
        for (const unsigned t : {tag, global_tag}) {
            const auto hit = here.pages.find({t, 0, number_at(v, 0)});
            if (hit == here.pages.end())
                continue;
            const translated& found = hit->second;
            if (!will_write || found.dirty || !includes(found.granted, hal::protection::write))
                return found;
            here.pages.erase(hit); // the first write: the entry has to be marked, so walk again
            break;
        }

        unsigned level = hal::root_level<Format>;
        path at{here.root->table, everything};
        for (unsigned l = 0; l < hal::root_level<Format>; ++l) {
            const auto known = here.paths.find({tag, l, number_at(v, l + 1)});
            if (known != here.paths.end()) {
                level = l;
                at = known->second;
                break;
            }
        }
        const translated found = walk(v, level, at, true, will_write, [&](unsigned l, const path& p) {
            here.paths[{tag, l, number_at(v, l + 1)}] = p;
        });
        if (found.present || Format::caches_absent) {
            const auto at_v = here.pages.insert_or_assign({found.global ? global_tag : tag, 0, number_at(v, 0)}, found);
            check_size(here.pages, at_v.first);
        }
        return found;
    }
    // Processors must not come to see two sizes of translation for one address (Intel SDM 3A, 4.10.2.3). As none did
    // before, whatever else is remembered around the new one has the size of its neighbours.
    void check_size(const std::map<key, translated>& pages, typename std::map<key, translated>::const_iterator fresh)
    {
        const auto check = [&](const std::pair<const key, translated>& other) {
            const auto& [tag, unused, number] = fresh->first;
            const unsigned larger = std::max(fresh->second.level, other.second.level);
            if (fresh->second.present && other.second.present && fresh->second.level != other.second.level &&
                other.first.tag == tag &&
                number_at(virt_addr{number << page_shift}, larger) ==
                    number_at(virt_addr{other.first.number << page_shift}, larger))
                report("two sizes of translation are remembered", virt_addr{number << page_shift});
        };
        if (fresh != pages.begin())
            check(*std::prev(fresh));
        if (const auto after = std::next(fresh); after != pages.end())
            check(*after);
    }

    // What the tables say now, without a trace.
    translated look_at_tables(unsigned cpu, virt_addr v)
    {
        return walk(v, hal::root_level<Format>, {cpus_[cpu].root->table, everything}, false, false,
                    [](unsigned, const path&) {});
    }

    // Whether another thread has changed an entry on the way to `v` and has not finished.
    bool being_changed(unsigned cpu, virt_addr v)
    {
        if (unfinished_.empty())
            return false;
        bool found = false;
        const auto look = [&](unsigned level, const path& at) {
            const auto* slot =
                reinterpret_cast<const entry*>(memory_.to_pointer(at.table)) + hal::index_at<Format>(v, level);
            for (auto c = unfinished_.lower_bound({slot, nullptr}); c != unfinished_.end() && c->first == slot; ++c)
                found = found || c->second != thread_();
        };
        const path root{cpus_[cpu].root->table, everything};
        look(hal::root_level<Format>, root);
        (void)walk(v, hal::root_level<Format>, root, false, false, look);
        return found;
    }

    template <class Passed>
    translated walk(virt_addr v, unsigned level, path at, bool mark, bool will_write, Passed passed)
    {
        for (;;) {
            if (!memory_.contains(at.table)) {
                report("a walk left physical memory", v);
                return translated::absent(level);
            }
            AtomicRef<entry> slot{*(reinterpret_cast<entry*>(memory_.to_pointer(at.table)) +
                                    hal::index_at<Format>(v, level))};
            entry value = slot.load(std::memory_order_acquire);
            if (!Format::is_present(value))
                return translated::absent(level);
            if (Format::is_table(value, level)) {
                // Formats whose tables limit what is below them mark tables accessed as well.
                if (Format::hierarchical_write && mark && !mark_entry(slot, value, false))
                    continue;
                if (Format::hierarchical_write)
                    at.granted = at.granted & Format::attributes(value, level).access;
                at.table = Format::address(value, level);
                --level;
                passed(level, at);
                continue;
            }
            const auto attributes = Format::attributes(value, level);
            const auto granted = at.granted & attributes.access;
            const bool writes = will_write && includes(granted, hal::protection::write);
            if (mark && !mark_entry(slot, value, writes))
                continue;
            const auto offset = v.align_down(page_size).value() & (hal::bytes_at<Format>(level) - 1);
            return {true, level, Format::address(value, level) + offset, granted, attributes.global,
                    Format::dirty(value) || writes};
        }
    }

    // False if the entry changed meanwhile.
    static bool mark_entry(AtomicRef<entry> slot, entry value, bool dirty)
    {
        entry marked = Format::with_accessed(value);
        marked = dirty ? Format::with_dirty(marked) : marked;
        return marked == value || slot.compare_exchange_strong(value, marked);
    }

    // What was remembered of the page around `v`, of whatever size it was or is, and the path to it. (INVLPG forgets
    // all paths of the space; the law asks for no more than these.)
    void forget_page(unsigned cpu, virt_addr v)
    {
        cpu_state& here = cpus_[cpu];
        if (!here.root)
            return;
        const unsigned tag = tag_of(here.root->id);
        unsigned level_now = 0;
        if constexpr (Format::caches_absent)
            if (const translated now = look_at_tables(cpu, v); now.present)
                level_now = now.level;
        std::erase_if(here.pages, [&](const auto& p) {
            const unsigned level = p.second.present ? p.second.level : level_now;
            return (p.first.tag == tag || p.first.tag == global_tag) &&
                   number_at(virt_addr{p.first.number << page_shift}, level) == number_at(v, level);
        });
        for (unsigned l = 0; l < hal::root_level<Format>; ++l)
            here.paths.erase({tag, l, number_at(v, l + 1)});
    }

    physical_memory& memory_;
    std::vector<cpu_state> cpus_;
    std::vector<std::string> violations_;
    unsigned id_limit_;
    std::function<const void*()> thread_{[] { return nullptr; }};
    std::function<bool(frame_number)> is_free_{[](frame_number) { return false; }};
    std::vector<const void*> unpublished_;                      // threads
    std::set<std::pair<const entry*, const void*>> unfinished_; // entries, with the threads that changed them
};

// Models of hal::Tlb and hal::TranslationRoot: the MMU of the CPU that runs the call.
template <class Mmu, hal::CpuLocal Cpus>
class cpu_paging {
public:
    cpu_paging(Mmu& unit, const Cpus& cpus) : unit_{unit}, cpus_{cpus} {}

    void invalidate_page(virt_addr v) noexcept { unit_.invalidate_page(cpus_.current_cpu(), v); }
    void invalidate_range(const virt_range& r, std::uint64_t step) noexcept
    {
        for (virt_addr v = r.begin; v != r.end; v += step)
            invalidate_page(v);
    }
    void invalidate_space(hal::address_space_id id) noexcept { unit_.invalidate_space(cpus_.current_cpu(), id); }
    void invalidate_all() noexcept { unit_.invalidate_all(cpus_.current_cpu()); }

    void load(const hal::translation_root& root, hal::remembered what) noexcept
    {
        unit_.load(cpus_.current_cpu(), root, what);
    }
    [[nodiscard]] hal::translation_root current() const noexcept { return unit_.current(cpus_.current_cpu()); }
    [[nodiscard]] unsigned id_limit() const noexcept { return unit_.id_limit(); }

private:
    Mmu& unit_;
    const Cpus& cpus_;
};

// EntryStore that checks its own law: what hardware may be using changes only by exchange, and every change is
// published before it is used. Just before an exchange it can mark the entry, as hardware might at that moment.
template <hal::PteFormat Format>
class entries {
public:
    using entry = typename Format::entry;

    explicit entries(mmu<Format>& unit) : unit_{unit} {}

    entry load(const entry* slot) noexcept { return at(const_cast<entry*>(slot)).load(std::memory_order_acquire); }
    void store(entry* slot, entry value) noexcept
    {
        if (Format::is_present(load(slot)))
            unit_.report("a plain store replaced an entry in use, table index", index_of(slot));
        at(slot).store(value, std::memory_order_release);
        unit_.entries_changed(slot);
        act_after_change();
    }
    entry exchange(entry* slot, entry value) noexcept
    {
        mark_as_hardware_might(slot);
        unit_.entries_changed(slot);
        const entry old = at(slot).exchange(value, std::memory_order_acq_rel);
        act_after_change();
        return old;
    }
    bool compare_exchange(entry* slot, entry& expected, entry value) noexcept
    {
        mark_as_hardware_might(slot);
        unit_.entries_changed(slot);
        const bool done = at(slot).compare_exchange_strong(expected, value, std::memory_order_acq_rel);
        if (done)
            act_after_change();
        return done;
    }
    void publish() noexcept
    {
        act_after_change();
        unit_.entries_published();
    }

    // From now on, about every other exchange meets an entry that was marked an instant before.
    void mark_at_awkward_moments(unsigned seed) { random_.emplace(seed); }

    // From now on, what hardware does right after an entry that it may be using has changed, and once more when changes
    // are published: whoever invalidates does so after that.
    void after_each_change(std::function<void()> act) { after_change_ = std::move(act); }

private:
    void act_after_change()
    {
        if (after_change_)
            after_change_();
    }
    static std::atomic_ref<entry> at(entry* slot) noexcept { return std::atomic_ref<entry>{*slot}; }
    static virt_addr index_of(const entry* slot)
    {
        return virt_addr{reinterpret_cast<std::uintptr_t>(slot) % page_size / sizeof(entry)};
    }
    void mark_as_hardware_might(entry* slot)
    {
        entry value = load(slot);
        // The level is not known here: tables may be marked too, which formats ignore.
        if (!random_ || (*random_)() % 2 != 0 || !Format::is_present(value) || !Format::is_leaf(value, 0))
            return;
        entry marked = Format::with_accessed(value);
        marked = Format::writable(value) ? Format::with_dirty(marked) : marked;
        at(slot).compare_exchange_strong(value, marked);
    }

    mmu<Format>& unit_;
    std::optional<std::minstd_rand> random_;
    std::function<void()> after_change_;
};

} // namespace exo::sim
