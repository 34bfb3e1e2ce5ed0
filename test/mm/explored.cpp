// Un-share, fault, fork, unmap and shoot-down at once, under every schedule with few interruptions.

#include <doctest/doctest.h>

#include <mm/explored_world.hpp>

using namespace exo;
using namespace explored_test;

namespace {

// What must not go unnoticed.

struct without_calls : sound {
    struct ipi {
        explicit ipi(explored_cpus&) {}
        void call(const cpu_set&, void (*)(void*) noexcept, void*) noexcept {}
    };
};

// Changes in two steps, as if without the lock prefix.
template <class T>
struct two_step_ref : sim::explored_atomic_ref<T> {
    using sim::explored_atomic_ref<T>::explored_atomic_ref;
    T exchange(T value, std::memory_order) const noexcept
    {
        const T old = this->load();
        this->store(value, std::memory_order_release);
        return old;
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order) const noexcept
    {
        const T old = this->load();
        if (old == expected)
            this->store(desired, std::memory_order_release);
        return std::exchange(expected, old) == old;
    }
};
struct two_step_entries : sound {
    using entries = x86_64::basic_paging_entries<two_step_ref>;
};

template <class T>
struct two_step_atomic : sim::explored_atomic<T> {
    T fetch_add(T n, std::memory_order) noexcept
    {
        const T old = this->load();
        this->store(old + n, std::memory_order_release);
        return old;
    }
    T fetch_sub(T n, std::memory_order order) noexcept { return fetch_add(T{} - n, order); }
};
struct two_step_counts : sound {
    struct counts : explored_atomics {
        template <class T>
        using atomic = two_step_atomic<T>;
    };
};

using large = with_large_pages<sound, 1>;
using two_large = with_large_pages<sound, 2>;
using large_on_riscv = with_large_pages<on_riscv, 1>;

template <unsigned Thread>
struct without_fence_of {
    struct atomics : explored_atomics {
        static void fence(std::memory_order order) noexcept
        {
            if (sim::explorer::here()->thread() != Thread)
                explored_atomics::fence(order);
        }
    };
};

// A parent with two pages on CPU 0, and children, which share all of its tables, on the others.
template <class Parts = sound>
struct family : world<Parts> {
    using typename world<Parts>::space;
    explicit family(unsigned size) : world<Parts>{size}
    {
        members.push_back(this->make_space(2));
        while (members.size() < size)
            members.push_back(*members[0]->fork());
        for (unsigned i = 0; i < size; ++i)
            this->cpus.on(i, [&] {
                this->activate(*members[i]);
                this->look(0);
            });
    }
    void expect(unsigned member, std::optional<std::uint64_t> first, std::optional<std::uint64_t> second)
    {
        require(this->read(*members[member], 0) == first && this->read(*members[member], 1) == second,
                "somebody else's contents");
    }
    void check() override
    {
        std::erase(members, ref<space>{});
        this->finish(std::move(members));
    }
    std::vector<ref<space>> members;
};

// Each writes, and then has what it wrote and nobody else's.
template <unsigned Members, class Parts = sound>
struct write_one_page : family<Parts> {
    write_one_page() : family<Parts>{Members} {}
    void run(unsigned thread) override { require(this->store(*this->members[thread], 0, thread), "a write failed"); }
    void check() override
    {
        for (unsigned i = 0; i < Members; ++i)
            this->expect(i, i, 101);
        family<Parts>::check();
    }
};

// The second page finds tables that the first write made private, or that its neighbour left.
struct write_two_pages : family<> {
    write_two_pages() : family{2} {}
    void run(unsigned thread) override
    {
        for (unsigned i = 0; i < 2; ++i)
            require(store(*members[thread], (thread + i) % 2, 10 * thread + i), "a write failed");
    }
    void check() override
    {
        expect(0, 0, 1);
        expect(1, 11, 10);
        family::check();
    }
};

template <class Parts = sound>
struct write_and_exit : family<Parts> {
    write_and_exit() : family<Parts>{2} {}
    void run(unsigned thread) override
    {
        if (thread == 0)
            require(this->store(*this->members[0], 0, 1), "a write failed");
        else
            this->members[1].reset();
    }
    void check() override
    {
        this->expect(0, 1, 101);
        family<Parts>::check();
    }
};

// The last two users of a table leave at once.
template <class Parts = sound>
struct exit_and_exit : family<Parts> {
    exit_and_exit() : family<Parts>{2} {}
    void run(unsigned thread) override { this->members[thread].reset(); }
};

// A third keeps the tables shared for part of the time.
struct write_exit_write : family<> {
    write_exit_write() : family{3} {}
    void run(unsigned thread) override
    {
        if (thread == 1)
            members[1].reset();
        else
            require(store(*members[thread], 0, thread), "a write failed");
    }
    void check() override
    {
        expect(0, 0, 101);
        expect(2, 2, 101);
        family::check();
    }
};

template <class Parts = sound>
struct unmap_and_access : family<Parts> {
    unmap_and_access() : family<Parts>{2} {}
    void run(unsigned thread) override
    {
        auto& mine = *this->members[thread];
        if (thread == 0) {
            require(mine.unmap({this->page(0), this->page(1)}).has_value(), "unmap failed");
        } else {
            require(this->load(mine, 0) == 100, "a read saw another's change");
            require(this->store(mine, 0, 1), "a write failed");
            require(this->load(mine, 0) == 1, "a write is lost");
        }
    }
    void check() override
    {
        this->expect(0, {}, 101);
        this->expect(1, 1, 101);
        family<Parts>::check();
    }
};

struct unmap_all_and_write : family<> {
    unmap_all_and_write() : family{2} {}
    void run(unsigned thread) override
    {
        if (thread == 0)
            require(members[0]->unmap({page(0), page(2)}).has_value(), "unmap failed");
        else
            require(store(*members[1], 1, 1), "a write failed");
    }
    void check() override
    {
        expect(0, {}, {});
        expect(1, 100, 1);
        family::check();
    }
};

struct protect_and_write : family<> {
    protect_and_write() : family{2} {}
    void run(unsigned thread) override
    {
        if (thread == 0)
            require(members[0]->protect({page(0), page(1)}, mm::protection::read).has_value(),
                    "protect failed");
        else
            require(store(*members[1], 0, 1), "a write failed");
    }
    void check() override
    {
        cpus.on(0, [&] { require(!store(*members[0], 0, 2), "a write to what is read-only"); });
        expect(0, 100, 101);
        expect(1, 1, 101);
        family::check();
    }
};

struct discard_and_write : family<> {
    discard_and_write() : family{2} {}
    void run(unsigned thread) override
    {
        if (thread == 0)
            require(members[0]->discard({page(0), page(1)}).has_value(), "discard failed");
        else
            require(store(*members[1], 0, 1), "a write failed");
    }
    void check() override
    {
        expect(0, 0, 101);
        expect(1, 1, 101);
        family::check();
    }
};

// One space, its two pages there, loaded on two CPUs, which remember both or nothing.
template <class Parts = sound>
struct one_space : world<Parts> {
    using typename world<Parts>::space;
    explicit one_space(bool remembered = true) : world<Parts>{2}
    {
        for (unsigned i = 0; i < 2; ++i)
            this->cpus.on(i, [&] {
                this->activate(*all[0]);
                for (unsigned p = 0; remembered && p < 2; ++p)
                    this->look(p);
            });
    }
    void check() override { this->finish(std::move(all)); }
    std::vector<ref<space>> all{this->make_space(2)};
};

// Two CPUs write the same to a page that a child shares, and the second one tells so; a third, which remembers the page
// as it was, reads it when it has been told.
struct write_and_tell : world<> {
    write_and_tell() : world{3}
    {
        for (unsigned i = 0; i < 3; ++i)
            cpus.on(i, [&] {
                activate(*all[0]);
                look(0);
            });
    }
    void run(unsigned thread) override
    {
        if (thread < 2) {
            require(store(*all[0], 0, 7), "a write failed");
            told |= thread == 1;
        } else {
            const bool was_told = told;
            const auto value = load(*all[0], 0);
            require(!was_told || value == 7, "what was read is older than what the reader had been told of");
        }
    }
    void check() override { finish(std::move(all)); }
    std::vector<ref<space>> make()
    {
        std::vector<ref<space>> parent_and_child;
        parent_and_child.push_back(make_space(1));
        parent_and_child.push_back(*parent_and_child[0]->fork());
        return parent_and_child;
    }
    std::vector<ref<space>> all = make();
    bool told{};
};

// What a fork's child sees is what the parent held at one moment, whatever the parent writes on another CPU.
template <class Parts = sound, bool Remembered = true>
struct fork_and_write : one_space<Parts> {
    fork_and_write() : one_space<Parts>{Remembered} {}
    void run(unsigned thread) override
    {
        auto& parent = *this->all[0];
        if (thread == 1) {
            for (unsigned i = 0; i < 2; ++i)
                require(this->store(parent, i, 1), "a write failed");
            return;
        }
        auto child = *parent.fork();
        const auto second = this->read(*child, 1);
        const auto first = this->read(*child, 0);
        require(second == 101 || first == 1, "a later write came through, an earlier one did not");
        this->all.push_back(std::move(child));
        seen[0] = first;
        seen[1] = second;
    }
    void check() override
    {
        for (unsigned i = 0; i < 2; ++i) {
            require(this->read(*this->all[0], i) == 1, "a write of the parent is lost");
            require(this->read(*this->all[1], i) == seen[i], "a write of the parent came through to the child");
        }
        one_space<Parts>::check();
    }
    std::optional<std::uint64_t> seen[2];
};

template <class Parts = sound>
struct fork_and_fork : one_space<Parts> {
    void run(unsigned) override { this->all.push_back(*this->all[0]->fork()); }
    void check() override
    {
        for (auto& s : this->all)
            require(this->read(*s, 0) == 100 && this->read(*s, 1) == 101, "a child lacks what its parent had");
        one_space<Parts>::check();
    }
};

template <class Parts = sound>
struct unmap_under_reader : one_space<Parts> {
    void run(unsigned thread) override
    {
        if (thread == 0) {
            require(this->all[0]->unmap({this->page(0), this->page(1)}).has_value(), "unmap failed");
        } else {
            const auto value = this->load(*this->all[0], 0);
            require(!value || value == 100, "a read of what was freed");
        }
    }
};

// Who writes leaves a mark in the entry, also while its rights change.
template <class Parts = sound>
struct protect_under_writer : one_space<Parts> {
    void run(unsigned thread) override
    {
        if (thread == 0)
            require(this->all[0]->protect({this->page(0), this->page(1)}, mm::protection::read).has_value(),
                    "protect failed");
        else
            (void)this->store(*this->all[0], 0, 1);
    }
    void check() override
    {
        const auto leaf = this->memory.tables.find(this->all[0]->root(), this->page(0));
        const bool written = this->read(*this->all[0], 0) != 100;
        require(!written || Parts::format::dirty(leaf.value), "a page was written and is not dirty");
        one_space<Parts>::check();
    }
};

// Two threads of one space fault at once, in one page or in neighbours; each has a word of its own.
template <bool Touched, bool SamePage, class Parts = sound>
struct fault_and_fault : world<Parts> {
    using typename world<Parts>::space;
    fault_and_fault() : world<Parts>{2}
    {
        for (unsigned i = 0; i < 2; ++i)
            this->cpus.on(i, [&] { this->activate(*all[0]); });
    }
    static unsigned page_of(unsigned thread) { return SamePage ? 0 : thread; }
    void run(unsigned thread) override
    {
        for (std::uint64_t value = 1; value <= 2; ++value)
            require(this->store(*all[0], page_of(thread), value, thread), "a write failed");
    }
    void check() override
    {
        for (unsigned i = 0; i < 2; ++i)
            require(this->read(*all[0], page_of(i), i) == 2, "a write is lost");
        this->finish(std::move(all));
    }
    // If the pages have been touched, a child shares them and their tables.
    std::vector<ref<space>> make()
    {
        std::vector<ref<space>> made;
        if (Touched) {
            made.push_back(this->make_space(2));
            made.push_back(*made[0]->fork());
        } else {
            made.push_back(this->make_empty_space(this->region_pages));
        }
        return made;
    }
    std::vector<ref<space>> all = make();
};

// Of two that fault in one page, one finds the tables shared, and the other finds that the child has left them.
template <bool OwnTables, class Parts = sound>
struct fault_and_fault_and_exit : world<Parts> {
    using typename world<Parts>::space;
    fault_and_fault_and_exit() : world<Parts>{3}
    {
        for (unsigned i = 0; i < 2; ++i)
            this->cpus.on(i, [&] {
                this->activate(*parent);
                if (OwnTables && i == 0)
                    require(this->store(*parent, 1, 0), "a write failed");
            });
    }
    void run(unsigned thread) override
    {
        if (thread == 2)
            return child.reset();
        for (std::uint64_t value = 1; value <= 2; ++value)
            require(this->store(*parent, 0, value, thread), "a write failed");
    }
    void check() override
    {
        for (unsigned i = 0; i < 2; ++i)
            require(this->read(*parent, 0, i) == 2, "a write is lost");
        std::vector<ref<space>> all;
        all.push_back(std::move(parent));
        this->finish(std::move(all));
    }
    ref<space> parent = this->make_space(2);
    ref<space> child = *parent->fork();
};

// Two that both want the large page at which they fault, and memory has one or two.
template <class Parts>
struct fill_large_at_once : fault_and_fault<false, false, Parts> {
    void check() override
    {
        require(Parts::large_pages == 1 || this->in_large_page(*this->all[0]),
                "there was a large page, and nobody has it");
        fault_and_fault<false, false, Parts>::check();
    }
};

// What other CPUs use of a large page when one takes a part of it away, for good or for writing.
template <class Parts, bool Unmaps>
struct split_under_user : one_space<Parts> {
    void run(unsigned thread) override
    {
        auto& shared = *this->all[0];
        const virt_range first_page{this->page(0), this->page(1)};
        if (thread == 0) {
            require((Unmaps ? shared.unmap(first_page) : shared.protect(first_page, mm::protection::read)).has_value(),
                    "no memory to take a part away");
            return;
        }
        require(this->store(shared, 1, 7), "a write to what stays failed");
        (void)this->store(shared, 0, 7);
        require(this->load(shared, 1) == 7, "a write to what stays is lost");
    }
    void check() override
    {
        auto& shared = *this->all[0];
        require(!this->in_large_page(shared), "a page has two rights");
        this->cpus.on(0, [&] { require(!this->store(shared, 0, 8), "a write to what was taken away"); });
        for (unsigned i = 0; i < 2; ++i) {
            const auto leaf = this->memory.tables.find(shared.root(), this->page(i));
            require(this->read(shared, i) != 7 || Parts::format::dirty(leaf.value),
                    "a page was written and is not dirty");
        }
        require(this->read(shared, 1) == 7, "a write to what stays is lost");
        one_space<Parts>::check();
    }
};

// What is left of a large page that a child had too, and of which one page was written meanwhile: who writes next gets
// single pages out of it.
template <class Parts>
struct come_apart_at_once : world<Parts> {
    come_apart_at_once() : world<Parts>{2}
    {
        auto child = *all[0]->fork();
        this->write(*all[0], 2, 102);
        child.reset();
        for (unsigned i = 0; i < 2; ++i)
            this->cpus.on(i, [&] { this->activate(*all[0]); });
    }
    void run(unsigned thread) override { require(this->store(*all[0], thread, thread), "a write failed"); }
    void check() override
    {
        for (unsigned i = 0; i < 3; ++i)
            require(this->read(*all[0], i) == (i == 2 ? 102 : i), "a write is lost");
        this->finish(std::move(all));
    }
    std::vector<ref<typename world<Parts>::space>> all{this->make_space(2)};
};

// The same while the child is there at first, and has the large page whole.
template <class Parts>
struct write_twice_and_exit : family<Parts> {
    write_twice_and_exit() : family<Parts>{2} {}
    void run(unsigned thread) override
    {
        if (thread == 1)
            return this->members[1].reset();
        for (unsigned i = 0; i < 2; ++i)
            require(this->store(*this->members[0], i, i), "a write failed");
    }
    void check() override
    {
        this->expect(0, 0, 1);
        family<Parts>::check();
    }
};

enum class leaving { by_halt, for_another, when_told };

// The last reference to a space goes while a CPU that lingers in it leaves.
template <leaving How>
struct end_and_leave : world<> {
    end_and_leave() : world{2}
    {
        cpus.on(1, [&] {
            activate(*ending);
            look(0);
            const sync::pin off{cpus, cpus};
            tell.linger();
        });
    }
    void run(unsigned thread) override
    {
        if (thread == 0)
            return ending.reset();
        if (How == leaving::for_another) {
            activate(*other);
            require(load(*other, 0) == 100, "a page of another space was read");
        } else {
            const sync::pin off{cpus, cpus};
            if (How == leaving::by_halt)
                tell.unload();
        }
    }
    void check() override
    {
        std::vector<ref<space>> rest;
        rest.push_back(std::move(other));
        finish(std::move(rest));
    }
    ref<space> ending = make_space(1), other = make_space(1);
};

// A CPU that lingers comes back while another unmaps, and has halted in between or not.
template <bool Halts>
struct unmap_and_come_back : world<> {
    unmap_and_come_back() : world{2}
    {
        cpus.on(0, [&] { activate(*shared); });
        cpus.on(1, [&] {
            activate(*shared);
            look(0);
            look(1);
            const sync::pin off{cpus, cpus};
            tell.linger();
        });
    }
    void run(unsigned thread) override
    {
        if (thread == 0) {
            require(shared->unmap({page(0), page(1)}).has_value(), "unmap failed");
            return;
        }
        if (Halts) {
            const sync::pin off{cpus, cpus};
            tell.unload();
        }
        activate(*shared);
        require(load(*shared, 1) == 101, "a page of another was read");
        (void)load(*shared, 0);
    }
    void check() override
    {
        std::vector<ref<space>> all;
        all.push_back(std::move(shared));
        finish(std::move(all));
    }
    ref<space> shared = make_space(2);
};

// A CPU reads a page that another copies, and writes it then.
template <class Parts>
struct copy_and_look : world<Parts> {
    copy_and_look() : world<Parts>{2}
    {
        for (unsigned i = 0; i < 2; ++i)
            this->cpus.on(i, [&] { this->activate(*all[0]); });
    }
    void run(unsigned thread) override
    {
        if (thread == 1)
            (void)this->load(*all[0], 0);
        require(this->store(*all[0], 0, 1), "a write failed");
    }
    void check() override { this->finish(std::move(all)); }
    std::vector<ref<typename world<Parts>::space>> make()
    {
        std::vector<ref<typename world<Parts>::space>> parent_and_child;
        parent_and_child.push_back(this->make_space(1));
        parent_and_child.push_back(*parent_and_child[0]->fork());
        return parent_and_child;
    }
    std::vector<ref<typename world<Parts>::space>> all = make();
};

template <class Parts = sound>
struct unmap_and_fault : fault_and_fault<false, true, Parts> {
    void run(unsigned thread) override
    {
        if (thread == 0)
            require(this->all[0]->unmap({this->page(0), this->page(1)}).has_value(), "unmap failed");
        else
            (void)this->store(*this->all[0], 0, 1);
    }
    void check() override
    {
        require(this->memory.tables.find(this->all[0]->root(), this->page(0)).value == 0, "what was unmapped is there");
        this->finish(std::move(this->all));
    }
};

// Two that call each other, with interrupts off.
struct unmap_and_unmap : one_space<> {
    void run(unsigned thread) override
    {
        require(all[0]->unmap({page(thread), page(thread + 1)}).has_value(), "unmap failed");
    }
};

// A CPU that comes and goes while another unmaps.
template <class Parts = sound>
struct unmap_under_visitor : world<Parts> {
    using typename world<Parts>::space;
    unmap_under_visitor() : world<Parts>{2}
    {
        this->cpus.on(0, [&] { this->activate(*all[0]); });
    }
    void run(unsigned thread) override
    {
        if (thread == 0) {
            require(all[0]->unmap({this->page(0), this->page(1)}).has_value(), "unmap failed");
            return;
        }
        for (int i = 0; i < 2; ++i) {
            this->activate(*all[0]);
            const auto value = this->load(*all[0], 0);
            require(!value || value == 100, "a read of what was freed");
            this->deactivate(*all[0]);
        }
    }
    void check() override { this->finish(std::move(all)); }
    std::vector<ref<space>> all{this->make_space(2)};
};

// A CPU loads a space while another fills an entry, where even absent ones are remembered: it is told, or sees that.
template <class Atomics>
struct fill_under_loader : sim::scenario {
    void run(unsigned thread) override
    {
        if (thread == 0) {
            entry.store(1, std::memory_order_release);
            told = running.members().contains(1);
        } else {
            running.join(1);
            seen = entry.load(std::memory_order_acquire) == 1;
        }
    }
    void check() override { require(told || seen, "a CPU neither sees a change nor is told"); }

    explored_atomics::atomic<int> entry;
    mm::basic_active_cpus<Atomics> running;
    bool told{};
    bool seen{};
};

// The CPUs, which may be interrupted before a spinning lock is taken, too.
class interruptible final : public sync::any_parker {
public:
    explicit interruptible(explored_cpus& cpus) : cpus_{cpus} {}
    thread current() const noexcept override { return cpus_.current(); }
    void park(instant deadline) noexcept override { cpus_.park(deadline); }
    void unpark(const thread& t) noexcept override { cpus_.unpark(t); }
    bool interrupted() const noexcept override { return cpus_.interrupted(); }
    instant now() const noexcept override { return cpus_.now(); }
    state save_and_disable() noexcept override
    {
        if (sim::explorer::here()->thread() != sim::explorer::nobody)
            step("takes a spinning lock");
        return cpus_.save_and_disable();
    }
    void restore(const state& saved) noexcept override { cpus_.restore(saved); }
    bool enabled() noexcept override { return cpus_.enabled(); }

private:
    explored_cpus& cpus_;
};

// A space that maps a file of two pages, which loses the second one.
struct shrink_under_user : world<> {
    struct file final : mm::pager {
        explicit file(memory_system& of) : memory{of}
        {
            for (auto& f : contents)
                f = *memory.frames.allocate(0);
        }
        result<frame_number> get_page(std::uint64_t index, bool) override
        {
            step("asks for a page");
            result<frame_number> found = fail(mm::beyond_end, index);
            const auto here = sim::explorer::here();
            here->as(here->thread(), [&] { // a file that loses the page does so before or after
                if (index >= size)
                    return;
                memory.frames.acquire(contents[index]);
                found = contents[index];
            });
            return found;
        }
        void shrink(explored_cpus& cpus, unsigned to)
        {
            interruptible parker{cpus};
            const auto before = std::exchange(size, to);
            step("refuses pages");
            require(mappings_.forget_from(parker, to).has_value(), "no memory to forget a page");
            for (auto i = to; i < before; ++i)
                mm::release_reference(memory, contents[i]);
        }
        mm::object_mappings* mappings() noexcept override { return &mappings_; }
        void last_reference() noexcept override {}

        memory_system& memory;
        frame_number contents[2];
        unsigned size{2};
        mm::object_mappings mappings_;
    };

    explicit shrink_under_user(mm::sharing kind, bool filled = true, bool forked = false) : world{2}
    {
        user = *space::create(memory, {virt_addr{0x1000}, base, base + (std::uint64_t{1} << 30)});
        EXO_CHECK(user->map({.address = base,
                             .length = 2 * page_size,
                             .where = mm::placement::fixed,
                             .kind = kind,
                             .backing = ref<mm::pager>{mapped}})
                      .has_value());
        if (filled)
            (void)read(*user, 1);
        if (forked)
            child = *user->fork();
        cpus.on(1, [&] {
            activate(*user);
            look(1);
        });
    }
    void expect_forgotten(space& s)
    {
        require(!read(s, 1).has_value(), "a page behind the end is mapped");
        require(read(s, 0).has_value(), "a page before the end is gone");
    }
    void check() override
    {
        expect_forgotten(*user);
        cpus.on(1, [&] { deactivate(*user); });
        mapped.shrink(cpus, 0);
        std::vector<ref<space>> all;
        all.push_back(std::move(user));
        if (child)
            all.push_back(std::move(child));
        finish(std::move(all));
    }

    file mapped{memory};
    ref<space> user;
    ref<space> child;
};

template <bool Filled>
struct shrink_and_access : shrink_under_user {
    shrink_and_access() : shrink_under_user{mm::sharing::private_copy, Filled} {}
    void run(unsigned thread) override
    {
        if (thread == 0) {
            mapped.shrink(cpus, 1);
            expect_forgotten(*user);
        } else {
            (void)load(*user, 1);
            (void)store(*user, 1, 1);
        }
    }
};

struct shrink_and_fork : shrink_under_user {
    shrink_and_fork() : shrink_under_user{mm::sharing::shared} {}
    void run(unsigned thread) override
    {
        if (thread == 0)
            mapped.shrink(cpus, 1);
        else
            child = *user->fork();
    }
    void check() override
    {
        expect_forgotten(*child);
        shrink_under_user::check();
    }
};

struct shrink_and_move : shrink_under_user {
    static constexpr virt_addr elsewhere = base - 16 * page_size;

    shrink_and_move() : shrink_under_user{mm::sharing::shared} {}
    void move(virt_addr from, virt_addr to)
    {
        require(user->remap({.address = from,
                             .old_length = 2 * page_size,
                             .length = 2 * page_size,
                             .may_move = true,
                             .target = to})
                    .has_value(),
                "no memory to move");
    }
    void run(unsigned thread) override
    {
        if (thread == 0)
            mapped.shrink(cpus, 1);
        else
            move(base, elsewhere);
    }
    void check() override
    {
        move(elsewhere, base);
        shrink_under_user::check();
    }
};

struct shrink_and_exit : shrink_under_user {
    shrink_and_exit() : shrink_under_user{mm::sharing::shared, true, true} {}
    void run(unsigned thread) override
    {
        if (thread == 0)
            mapped.shrink(cpus, 1);
        else
            child.reset();
    }
};

} // namespace

TEST_CASE("Spaces that un-share the same tables at once each have their own")
{
    CHECK_CLEAN(explore<write_one_page<2>>(2, 1));
    CHECK_CLEAN(explore<write_one_page<3>>(1, 1));
    CHECK_CLEAN(explore<write_two_pages>(2, 1));
    CHECK_CLEAN(explore<protect_and_write>(2, 1));
}

TEST_CASE("Tables outlive the exit of one of their users, and no longer")
{
    CHECK_CLEAN(explore<write_and_exit<>>(3, 1));
    CHECK_CLEAN(explore<exit_and_exit<>>(3, 1));
    CHECK_CLEAN(explore<write_exit_write>(1, 1));
}

TEST_CASE("Unmapping in one space takes nothing from another that shares its tables")
{
    CHECK_CLEAN(explore<unmap_and_access<>>(2, 1));
    CHECK_CLEAN(explore<unmap_all_and_write>(2, 1));
    CHECK_CLEAN(explore<discard_and_write>(2, 1));
}

TEST_CASE("Faults of two threads of one space lose nothing, whether both are in one page or not")
{
    CHECK_CLEAN(explore<fault_and_fault<false, true>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<false, false>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<true, true>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<true, false>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault_and_exit<false>>(1, 1));
    CHECK_CLEAN(explore<fault_and_fault_and_exit<true>>(2, 1));
    CHECK_CLEAN(explore<copy_and_look<sound>>(2, 1));
    CHECK_CLEAN(explore<copy_and_look<on_riscv>>(2, 1));
    CHECK_CLEAN(explore<unmap_and_fault<>>(2, 1));
}

TEST_CASE("A fork takes one moment of a space that is being written")
{
    CHECK_CLEAN(explore<fork_and_write<>>(2, 1));
    CHECK_CLEAN(explore<fork_and_write<sound, false>>(2, 1));
    CHECK_CLEAN(explore<fork_and_fork<>>(2, 1));
}

TEST_CASE("Of two faults at once in a large page both get it, or both single pages")
{
    CHECK_CLEAN(explore<fill_large_at_once<large>>(2, 1));
    CHECK_CLEAN(explore<fill_large_at_once<two_large>>(2, 1));
    CHECK_CLEAN(explore<fill_large_at_once<large_on_riscv>>(2, 1));
    CHECK_CLEAN(explore<unmap_and_fault<large>>(2, 1));
}

TEST_CASE("A large page that is split loses no write, and nobody remembers it in two sizes")
{
    CHECK_CLEAN(explore<split_under_user<large, true>>(2, 1));
    CHECK_CLEAN(explore<split_under_user<large, false>>(2, 1));
    CHECK_CLEAN(explore<split_under_user<large_on_riscv, true>>(2, 1));
    CHECK_CLEAN(explore<split_under_user<large_on_riscv, false>>(2, 1));
}

TEST_CASE("Spaces share a large page, and each writes to pages of its own")
{
    CHECK_CLEAN(explore<fork_and_write<large>>(2, 1));
    CHECK_CLEAN(explore<fork_and_write<large_on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fork_and_fork<large>>(2, 1));
    CHECK_CLEAN(explore<write_one_page<2, large>>(2, 1));
    CHECK_CLEAN(explore<write_one_page<2, large_on_riscv>>(2, 1));
    CHECK_CLEAN(explore<unmap_and_access<large>>(2, 1));
    CHECK_CLEAN(explore<unmap_and_access<large_on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<true, false, large>>(2, 1));
}

TEST_CASE("The last user of what was a shared large page has its single pages, and once")
{
    CHECK_CLEAN(explore<write_twice_and_exit<large>>(2, 1));
    CHECK_CLEAN(explore<write_twice_and_exit<large_on_riscv>>(2, 1));
    CHECK_CLEAN(explore<come_apart_at_once<large>>(1, 1));
    CHECK_CLEAN(explore<come_apart_at_once<large_on_riscv>>(1, 1));
}

TEST_CASE("Where tables do not forbid writing and absence is remembered, the same holds")
{
    CHECK_CLEAN(explore<write_one_page<2, on_riscv>>(2, 1));
    CHECK_CLEAN(explore<write_and_exit<on_riscv>>(3, 1));
    CHECK_CLEAN(explore<exit_and_exit<on_riscv>>(3, 1));
    CHECK_CLEAN(explore<unmap_and_access<on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<false, true, on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<false, false, on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<true, true, on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault<true, false, on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fault_and_fault_and_exit<true, on_riscv>>(2, 1));
    CHECK_CLEAN(explore<unmap_and_fault<on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fork_and_write<on_riscv>>(2, 1));
    CHECK_CLEAN(explore<fork_and_write<on_riscv, false>>(2, 1));
    CHECK_CLEAN(explore<protect_under_writer<on_riscv>>(2, 1));
    CHECK_CLEAN(explore<unmap_under_reader<on_riscv>>(3, 1));
    CHECK_CLEAN(explore<unmap_under_visitor<on_riscv>>(2, 1));
}

TEST_CASE("No frame is freed before every CPU that uses the space has forgotten it")
{
    CHECK_CLEAN(explore<unmap_under_reader<>>(3, 1));
    CHECK_CLEAN(explore<unmap_and_unmap>(3, 1));
    CHECK_CLEAN(explore<unmap_under_visitor<>>(2, 1));
    CHECK(explore<unmap_under_reader<without_calls>>(2, 1).failure == "a frame is freed, and a CPU still reaches it");
    CHECK(explore<unmap_under_visitor<without_calls>>(2, 1).failure == "a frame is freed, and a CPU still reaches it");
    const auto found = explore<fork_and_write<without_calls>>(2, 1);
    REQUIRE(found.failed());
    sim::explorer again{[] { return std::make_unique<fork_and_write<without_calls>>(); }};
    CHECK(again.replay(found.schedule).failure == found.failure);
}

TEST_CASE("A CPU that lingers in a space reaches nothing of it after it has left, or was told to")
{
    CHECK_CLEAN(explore<end_and_leave<leaving::by_halt>>(3, 1));
    CHECK_CLEAN(explore<end_and_leave<leaving::for_another>>(3, 1));
    CHECK_CLEAN(explore<end_and_leave<leaving::when_told>>(3, 1));
    CHECK_CLEAN(explore<unmap_and_come_back<false>>(3, 1));
    CHECK_CLEAN(explore<unmap_and_come_back<true>>(3, 1));
}

TEST_CASE("A page that was written is not read as it was before by who has been told")
{
    CHECK_CLEAN(explore<write_and_tell>(2, 1));
}

TEST_CASE("A page behind the new end of a file is mapped nowhere once the file is smaller")
{
    CHECK_CLEAN(explore<shrink_and_access<true>>(2, 1));
    CHECK_CLEAN(explore<shrink_and_access<false>>(2, 1));
    CHECK_CLEAN(explore<shrink_and_fork>(2, 1));
    CHECK_CLEAN(explore<shrink_and_move>(2, 1));
    CHECK_CLEAN(explore<shrink_and_exit>(2, 1));
}

TEST_CASE("Counts and entries change in one step, or it shows")
{
    CHECK_CLEAN(explore<protect_under_writer<>>(2, 1));
    CHECK(explore<protect_under_writer<two_step_entries>>(2, 1).failure == "a page was written and is not dirty");
    CHECK(explore<exit_and_exit<two_step_counts>>(2, 1).failed());
    CHECK(explore<write_and_exit<two_step_counts>>(2, 1).failed());
}

TEST_CASE("A CPU that loads a space sees a change of its tables or is told of it, and needs its fence for that")
{
    using sim::ordering;
    const auto explore = []<class Atomics>(Atomics, ordering memory) {
        return sim::explorer{[] { return std::make_unique<fill_under_loader<Atomics>>(); }, memory}.explore(2, 2);
    };
    for (const auto memory : {ordering::x86_tso, ordering::late_locked})
        CHECK_CLEAN(explore(explored_atomics{}, memory));
    const std::string missed = "a CPU neither sees a change nor is told";
    CHECK(explore(without_fence_of<0>::atomics{}, ordering::x86_tso).failure == missed);
    // The locked instruction that joins is a fence itself on x86, and need not be elsewhere.
    CHECK_CLEAN(explore(without_fence_of<1>::atomics{}, ordering::x86_tso));
    CHECK(explore(without_fence_of<1>::atomics{}, ordering::late_locked).failure == missed);
}
