// Runs a scenario of a few threads under one schedule after another, on one host thread, so that what depends on the
// order of their steps shows, and can be had again.
//
// What threads share they use through sim/explored_atomics.hpp and sim/explored_cpus.hpp. Before each such access the
// explorer decides who goes on; between two of them a thread runs undisturbed. explore() tries every schedule in which
// at most so many threads are interrupted that could have gone on (Musuvathi and Qadeer, "Iterative context bounding",
// 2007), fewest interruptions first. A thread is interrupted only before an access that others can tell the place of:
// one to a location that another thread uses too, one of them writing. Which these are is learned from the runs
// themselves; exploration starts over when one more shows.
//
// Under x86_tso each thread has a store buffer (Sewell et al., "x86-TSO", 2010): its own loads see it, those of others
// do not, locked instructions and fences empty it. Whether a store has left it by then is decided when another thread
// accesses the location; at most so many times a store is late.
//
// A run fails when the scenario or a check says so, when nobody can go on (each thread is parked, or waits in a loop
// for a change that does not come), and when it does not end.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/sim/context.hpp>

namespace exo::sim {

enum class ordering : std::uint8_t {
    sequential,  // everybody sees every store at once
    x86_tso,     // store buffers
    late_locked, // and read-modify-writes, atomic all the same, wait in them too: more than x86 does, less than others
};

// Made anew for each run.
class scenario {
public:
    virtual ~scenario() = default;
    [[nodiscard]] virtual unsigned threads() const { return 2; }
    virtual void run(unsigned thread) = 0;
    // After all threads have ended.
    virtual void check() {}
};

struct finding {
    std::string failure;  // what went wrong in the last run; empty: nothing, in any
    std::string schedule; // how that run went, for replay()
    std::string trace;    // the same, step by step
    std::uint64_t runs{};
    bool complete{}; // every schedule within the bound was run

    [[nodiscard]] bool failed() const { return !failure.empty(); }
    [[nodiscard]] std::string report() const
    {
        const auto ran = std::to_string(runs) + " runs" + (complete || failed() ? "" : ", more left");
        return failed() ? failure + "\nin the schedule \"" + schedule + "\", after " + ran + ":\n" + trace : ran;
    }
};

class explorer {
public:
    // A variable, or an entry of a table, that threads may use at once.
    enum class location : std::uint64_t { none = ~std::uint64_t{0} };

    using factory = std::function<std::unique_ptr<scenario>()>;

    explicit explorer(factory make, ordering memory = ordering::x86_tso) : make_{std::move(make)}, memory_{memory} {}
    explorer(const explorer&) = delete;
    explorer& operator=(const explorer&) = delete;

    // All schedules with at most so many interruptions and late stores; gives up after `limit` runs.
    [[nodiscard]] finding explore(unsigned interruptions, unsigned late_stores, std::uint64_t limit = 1'000'000)
    {
        how_ = search::systematic;
        late_bound_ = late_stores;
        finding found;
        bound_ = 0;
        path_.clear();
        for (;;) {
            if (found.runs == limit)
                return found;
            run_into(found);
            if (std::exchange(learned_, false)) {
                path_.clear();
                found.failure.clear(); // it will come again, with all that it takes to replay it
                continue;
            }
            if (found.failed())
                return found;
            while (!path_.empty() && path_.back().taken + 1 == path_.back().options)
                path_.pop_back();
            if (!path_.empty()) {
                ++path_.back().taken;
            } else if (bound_++ == interruptions) {
                found.complete = true;
                return found;
            }
        }
    }

    // `runs` schedules drawn from `seed`, interrupted anywhere.
    [[nodiscard]] finding sample(std::uint32_t seed, std::uint64_t runs)
    {
        how_ = search::random;
        random_.seed(seed);
        finding found;
        while (found.runs < runs && !found.failed())
            run_into(found);
        return found;
    }

    // The schedule of a finding.
    [[nodiscard]] finding replay(std::string_view schedule)
    {
        how_ = search::replay;
        told_.clear();
        while (!schedule.empty()) {
            const auto moment = number(schedule);
            told_[moment] = static_cast<unsigned>(number(schedule));
        }
        finding found;
        run_into(found);
        return found;
    }

    // The explorer whose scenario is running here; null outside of one.
    [[nodiscard]] static explorer* here() { return here_; }
    // The thread that is running; `nobody` while the scenario is made, checked, and ended.
    static constexpr unsigned nobody = ~0u;
    [[nodiscard]] unsigned thread() const { return self_; }

    // The run has failed, and goes no further.
    [[noreturn]] void fail(std::string why)
    {
        failure_ = std::move(why);
        leave(here_now(), host_);
        EXO_PANIC("a run went on after its failure");
    }
    void require(bool holds, const char* what)
    {
        if (!holds)
            fail(what);
    }

    // Locations. Those of one maker are numbered in the order of making, so they mean the same in each run.
    [[nodiscard]] location make_location()
    {
        auto& made = self_ == nobody ? made_ : threads_[self_]->made;
        return location{std::uint64_t{self_ + 1} << 32 | made++};
    }
    // Memory in which every 8 bytes are a location, for location_of.
    void watch(std::span<const std::byte> memory)
    {
        watched_ = memory;
        watched_from_ = made_;
        made_ += static_cast<std::uint32_t>(memory.size() / sizeof(std::uint64_t));
    }
    [[nodiscard]] location location_of(const void* p) const
    {
        const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(p) - watched_.data());
        return offset < watched_.size() ? location{watched_from_ + offset / sizeof(std::uint64_t)} : location::none;
    }
    // What was at `where` ends: the caller's stores to it matter no more, those of others come before.
    void forget(location where)
    {
        if (self_ == nobody)
            return;
        std::erase_if(threads_[self_]->buffer, [&](const store_entry& s) { return s.where == where; });
        for (auto& t : threads_)
            while (count_in(*t, where) > 0)
                drain_one(*t);
    }

    // Accesses, by the memory that the location has and its size.

    [[nodiscard]] std::uint64_t load(location where, const void* address, std::size_t size)
    {
        if (self_ == nobody)
            return read(address, size);
        const bool matters = visit(where, false);
        auto& me = *threads_[self_];
        for (auto s = me.buffer.rbegin(); s != me.buffer.rend(); ++s)
            if (s->address == address)
                return noted("loads its own", where, s->value);
        if (!matters)
            return read(address, size);
        settle(where, false);
        me.seen.emplace_back(where, info_of(where).version);
        return noted("loads", where, read(address, size));
    }
    void store(location where, void* address, std::size_t size, std::uint64_t value, bool locked)
    {
        if (self_ == nobody)
            return write(address, size, value);
        if (memory_ == ordering::sequential || locked) {
            (void)modify(where, address, size, [&](std::uint64_t) { return std::pair{true, value}; });
            return;
        }
        const bool matters = visit(where, true);
        auto& me = *threads_[self_];
        noted("stores", where, value);
        ++info_of(where).version;
        if (me.buffer.empty() && !matters)
            write(address, size, value); // nobody can tell when
        else
            me.buffer.push_back({where, address, size, value, false});
    }
    // A locked instruction: change(old) says whether to write, and what. Returns the old value.
    template <class Change>
    std::uint64_t modify(location where, void* address, std::size_t size, Change change)
    {
        if (self_ == nobody) {
            const auto old = read(address, size);
            if (const auto [writes, value] = change(old); writes)
                write(address, size, value);
            return old;
        }
        const bool matters = visit(where, true);
        auto& me = *threads_[self_];
        const bool late = memory_ == ordering::late_locked;
        while (late ? count_in(me, where) > 0 : !me.buffer.empty())
            drain_one(me);
        settle(where, true);
        const auto old = read(address, size);
        if (const auto [writes, value] = change(old); writes) {
            noted("modifies", where, value);
            ++info_of(where).version;
            if (late)
                me.buffer.push_back({where, address, size, value, true});
            else
                write(address, size, value);
        } else {
            noted("compares", where, old);
        }
        if (matters)
            me.seen.emplace_back(where, info_of(where).version);
        return old;
    }
    // Empties the store buffer of the calling thread.
    void fence()
    {
        if (self_ == nobody)
            return;
        auto& me = *threads_[self_];
        while (!me.buffer.empty())
            drain_one(me);
    }

    // Something that others can tell the place of, and that is no access to memory.
    void step(const char* what)
    {
        if (self_ == nobody)
            return;
        interruptible(true);
        noted(what, location::none, 0);
    }
    // The calling thread goes on once `ready()`.
    void wait(const char* what, std::function<bool()> ready)
    {
        EXO_CHECK(self_ != nobody);
        if (ready())
            return;
        noted(what, location::none, 0);
        threads_[self_]->ready = std::move(ready);
        threads_[self_]->waits_for = what;
        others_go_on();
    }
    // The calling thread has looked at what it waits for in vain: it goes on once some of that has changed.
    void pause()
    {
        if (self_ == nobody)
            return;
        auto& me = *threads_[self_];
        me.ready = [this, &me] {
            return std::any_of(me.seen.begin(), me.seen.end(),
                               [&](const auto& s) { return info_of(s.first).version != s.second; });
        };
        me.waits_for = "spins";
        others_go_on();
        me.seen.clear();
    }
    // Runs f as if `thread` did, which is not running and does not begin meanwhile.
    template <class F>
    void as(unsigned thread, F f)
    {
        const auto before = std::exchange(self_, thread);
        undisturbed_ = true;
        fence();
        f();
        undisturbed_ = false;
        self_ = before;
    }

private:
    enum class search : std::uint8_t { systematic, random, replay };

    struct decision {
        unsigned taken;
        unsigned options;
        std::uint64_t moment;
    };
    struct store_entry {
        location where;
        void* address;
        std::size_t size;
        std::uint64_t value;
        bool locked; // by ordering::late_locked
    };
    struct location_info {
        std::uint64_t version{};  // changes with every store
        std::uint32_t readers{};  // a bit per thread
        std::uint32_t writers{};
    };
    struct event {
        unsigned thread;
        const char* what;
        location where;
        std::uint64_t value;
    };

    static constexpr std::size_t stack_bytes = 256 * 1024;
    static constexpr std::uint64_t longest_run = 1'000'000; // decisions
    struct fiber {
        fibers::context context;
        std::unique_ptr<std::byte[]> stack{new std::byte[stack_bytes]};
    };
    // A thread of the scenario, and its CPU.
    struct thread_state {
        fiber on;
        std::vector<store_entry> buffer; // the oldest first
        std::function<bool()> ready;     // empty: yes
        const char* waits_for{};
        std::vector<std::pair<location, std::uint64_t>> seen; // since the last pause, with the version
        std::uint32_t made{};
        bool ended{true};
        bool draining{};
    };

    // One run.

    void run_into(finding& found)
    {
        EXO_CHECK(!here_); // scenarios do not explore
        here_ = this;
        ++found.runs;
        moment_ = depth_ = 0;
        interruptions_ = late_ = 0;
        made_ = 0;
        self_ = nobody;
        undisturbed_ = false;
        failure_.clear();
        deviations_.clear();
        events_.clear();
        if (!conductor_) {
            conductor_ = std::make_unique<fiber>();
            machine_.prepare(conductor_->context, {conductor_->stack.get(), stack_bytes}, &conduct, this);
        }
        machine_.switch_to(host_, conductor_->context);
        here_ = nullptr;
        if (failure_.empty())
            return;
        found.failure = failure_;
        found.schedule = deviations_;
        found.trace = describe_events();
        // Threads stand still in the middle of what they did, and refer to what is left of the scenario; nobody knows
        // how to let go of that.
        static auto& remains = *new std::vector<std::pair<std::unique_ptr<fiber>, decltype(threads_)>>;
        remains.emplace_back(std::move(conductor_), std::move(threads_));
        threads_.clear();
    }

    static void conduct(void* argument) noexcept
    {
        auto& e = *static_cast<explorer*>(argument);
        for (;;) {
            auto story = e.make_();
            e.start(*story);
            e.self_ = nobody;
            story->check();
            story.reset();
            e.machine_.switch_to(e.conductor_->context, e.host_);
        }
    }
    // Returns when all threads have ended, and their stores are where they belong.
    void start(scenario& story)
    {
        story_ = &story;
        while (threads_.size() < story.threads()) {
            threads_.push_back(std::make_unique<thread_state>());
            auto& on = threads_.back()->on;
            machine_.prepare(on.context, {on.stack.get(), stack_bytes}, &run_thread, this);
        }
        for (auto& t : threads_) {
            t->ended = false;
            t->made = 0;
            t->seen.clear();
        }
        others_go_on();
    }
    static void run_thread(void* argument) noexcept
    {
        auto& e = *static_cast<explorer*>(argument);
        for (;;) {
            e.story_->run(e.self_);
            e.threads_[e.self_]->ended = true;
            e.others_go_on();
        }
    }

    fibers::context& here_now() { return self_ == nobody ? conductor_->context : threads_[self_]->on.context; }
    void leave(fibers::context& from, fibers::context& to) { machine_.switch_to(from, to); }
    void switch_to(unsigned next)
    {
        auto& t = *threads_[next];
        t.ready = nullptr;
        if (next == self_)
            return;
        auto& from = here_now();
        self_ = next;
        leave(from, t.on.context);
    }
    [[nodiscard]] bool can_go_on(unsigned t) const
    {
        return !threads_[t]->ended && (!threads_[t]->ready || threads_[t]->ready());
    }
    [[nodiscard]] unsigned count() const { return static_cast<unsigned>(threads_.size()); }

    // Decisions.

    // The one of `options` to take now; 0 is what happens when nothing special does.
    unsigned decide(unsigned options, bool interrupts = false)
    {
        if (options == 1)
            return 0;
        unsigned taken = 0;
        switch (how_) {
        case search::systematic:
            if (depth_ == path_.size())
                path_.push_back({0, options, moment_});
            // A scenario does the same when it is scheduled the same.
            EXO_CHECK(path_[depth_].options == options && path_[depth_].moment == moment_);
            taken = path_[depth_++].taken;
            break;
        case search::random:
            taken = interrupts && random_() % 8 != 0 ? 0 : static_cast<unsigned>(random_() % options);
            break;
        case search::replay:
            if (const auto told = told_.find(moment_); told != told_.end())
                taken = told->second;
            EXO_CHECK(taken < options); // else the schedule is another scenario's
            break;
        }
        if (taken != 0)
            deviations_ += (deviations_.empty() ? "" : " ") + std::to_string(moment_) + ":" + std::to_string(taken);
        return taken;
    }
    void next_moment()
    {
        if (++moment_ == longest_run)
            fail("the run does not end");
    }

    // Before a step of the calling thread: another may go first.
    void interruptible(bool matters)
    {
        next_moment();
        if (undisturbed_ || !matters || (how_ == search::systematic && interruptions_ == bound_))
            return;
        candidates_.clear();
        for (unsigned i = 1; i < count(); ++i)
            if (const auto t = (self_ + i) % count(); can_go_on(t))
                candidates_.push_back(t);
        if (const auto taken = decide(static_cast<unsigned>(candidates_.size()) + 1, true); taken != 0) {
            ++interruptions_;
            switch_to(candidates_[taken - 1]);
        }
    }
    // The calling thread cannot go on; returns when it can again, and was chosen. Returns to the conductor when all
    // have ended.
    void others_go_on()
    {
        for (;;) {
            next_moment();
            candidates_.clear();
            const auto first = self_ == nobody ? 0 : self_ + 1;
            for (unsigned i = 0; i < count(); ++i)
                if (const auto t = (first + i) % count(); can_go_on(t))
                    candidates_.push_back(t);
            if (!candidates_.empty())
                return switch_to(candidates_[decide(static_cast<unsigned>(candidates_.size()))]);
            for (unsigned t = 0; t < count(); ++t)
                if (!threads_[t]->buffer.empty())
                    candidates_.push_back(t);
            if (!candidates_.empty()) {
                drain_one(*threads_[candidates_[decide(static_cast<unsigned>(candidates_.size()))]]);
                continue;
            }
            if (std::all_of(threads_.begin(), threads_.end(), [](const auto& t) { return t->ended; })) {
                if (self_ != nobody)
                    leave(here_now(), conductor_->context);
                return;
            }
            std::string why = "nobody can go on:";
            for (unsigned t = 0; t < count(); ++t)
                if (!threads_[t]->ended)
                    why += " thread " + std::to_string(t) + " " + threads_[t]->waits_for + ";";
            fail(why);
        }
    }

    // What is shared.

    location_info& info_of(location where)
    {
        const auto id = static_cast<std::uint64_t>(where);
        const auto maker = static_cast<std::uint32_t>(id >> 32);
        const auto index = static_cast<std::uint32_t>(id);
        if (locations_.size() <= maker)
            locations_.resize(maker + 1);
        if (locations_[maker].size() <= index)
            locations_[maker].resize(index + 1);
        return locations_[maker][index];
    }
    [[nodiscard]] static bool is_shared(const location_info& info)
    {
        const auto users = info.readers | info.writers;
        return info.writers != 0 && (users & (users - 1)) != 0;
    }
    [[nodiscard]] bool visible(location where)
    {
        return where != location::none && (how_ != search::systematic || is_shared(info_of(where)));
    }
    // The calling thread is about to access `where`; whether others can tell.
    bool visit(location where, bool writes)
    {
        EXO_CHECK(where != location::none); // made where no explorer knew of it
        location_info& info = info_of(where);
        const bool before = is_shared(info);
        (writes ? info.writers : info.readers) |= 1u << self_;
        const bool now = is_shared(info);
        learned_ = learned_ || now != before;
        const bool matters = now || how_ != search::systematic;
        interruptible(matters);
        return matters;
    }

    // Memory.

    static std::uint64_t read(const void* address, std::size_t size)
    {
        std::uint64_t value = 0;
        std::memcpy(&value, address, size);
        return value;
    }
    static void write(void* address, std::size_t size, std::uint64_t value) { std::memcpy(address, &value, size); }

    [[nodiscard]] static unsigned count_in(const thread_state& t, location where)
    {
        return static_cast<unsigned>(std::count_if(t.buffer.begin(), t.buffer.end(),
                                                   [&](const store_entry& s) { return s.where == where; }));
    }
    // Stores of others to `where` that come before what the calling thread is about to do there.
    void settle(location where, bool writes)
    {
        for (auto& t : threads_) {
            if (t == threads_[self_] || t->draining || t->buffer.empty())
                continue;
            const auto waiting = count_in(*t, where);
            if (waiting == 0)
                continue;
            next_moment();
            unsigned at_least = 0; // a locked instruction has read already what it replaces
            unsigned so_far = 0;
            for (const store_entry& s : t->buffer) {
                if (s.where == where)
                    ++so_far;
                if (s.where == where && s.locked && writes)
                    at_least = so_far;
            }
            const bool may_be_late = how_ != search::systematic || late_ < late_bound_;
            const auto late = decide(may_be_late ? waiting - at_least + 1 : 1);
            late_ += late != 0;
            while (count_in(*t, where) > late)
                drain_one(*t);
        }
    }
    void drain_one(thread_state& t)
    {
        const store_entry oldest = t.buffer.front();
        t.buffer.erase(t.buffer.begin());
        t.draining = true;
        const auto owner = static_cast<unsigned>(std::find_if(threads_.begin(), threads_.end(), [&](const auto& other) {
                                                     return other.get() == &t;
                                                 }) - threads_.begin());
        const auto before = std::exchange(self_, owner);
        settle(oldest.where, true);
        noted("has stored", oldest.where, oldest.value);
        self_ = before;
        t.draining = false;
        write(oldest.address, oldest.size, oldest.value);
        ++info_of(oldest.where).version;
    }

    // Reports.

    std::uint64_t noted(const char* what, location where, std::uint64_t value)
    {
        if (where == location::none || visible(where))
            events_.push_back({self_, what, where, value});
        return value;
    }
    [[nodiscard]] std::string describe_events() const
    {
        static constexpr std::size_t shown = 400;
        std::string text;
        for (std::size_t i = events_.size() > shown ? events_.size() - shown : 0; i < events_.size(); ++i) {
            const event& e = events_[i];
            text += "  thread " + std::to_string(e.thread) + " " + e.what;
            if (e.where != location::none) {
                const auto id = static_cast<std::uint64_t>(e.where);
                char more[64];
                std::snprintf(more, sizeof more, " %u.%u: %#llx", static_cast<unsigned>(id >> 32),
                              static_cast<unsigned>(id), static_cast<unsigned long long>(e.value));
                text += more;
            }
            text += '\n';
        }
        return text;
    }
    static std::uint64_t number(std::string_view& text)
    {
        std::uint64_t value = 0;
        while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
            value = value * 10 + static_cast<std::uint64_t>(text[0] - '0');
            text.remove_prefix(1);
        }
        if (!text.empty())
            text.remove_prefix(1); // what separates
        return value;
    }

    static inline thread_local explorer* here_ = nullptr;

    factory make_;
    ordering memory_;
    fibers machine_;
    fibers::context host_;
    std::unique_ptr<fiber> conductor_; // makes, checks and ends scenarios
    std::vector<std::unique_ptr<thread_state>> threads_;
    scenario* story_{};
    unsigned self_{nobody};
    bool undisturbed_{};

    search how_{};
    unsigned bound_{};
    unsigned late_bound_{};
    std::vector<decision> path_; // systematic: the decisions of this run
    std::size_t depth_{};
    std::mt19937 random_;
    std::map<std::uint64_t, unsigned> told_;

    std::uint64_t moment_{};
    unsigned interruptions_{};
    unsigned late_{};
    std::vector<unsigned> candidates_;
    std::string deviations_;
    std::string failure_;
    std::vector<event> events_;

    std::vector<std::vector<location_info>> locations_; // by maker and number
    bool learned_{};
    std::uint32_t made_{};
    std::span<const std::byte> watched_;
    std::uint32_t watched_from_{};
};

} // namespace exo::sim
