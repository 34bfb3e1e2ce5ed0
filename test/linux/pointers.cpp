// Every system call that takes a pointer, with pointers that it must refuse; and that there is none which is not tried.

#include "../proc/world.hpp"

#include <array>

#include <exo/linux/dispatcher.hpp>

#include "pointer_trials.hpp"

using namespace exo;
using namespace world;
using pointer_trials::what;

namespace {

using system_type = simulated_kernel::kernel_type::system_type;

// Which parameters of each call are pointers, as the functions behind them declare it.
class pointer_parameters {
public:
    template <auto Function>
    void set(nr n)
    {
        record(n, static_cast<decltype(Function)>(nullptr)); // only its type, not the function
    }
    template <class R, class... Args>
    void record([[maybe_unused]] nr n, result<R> (*)(linux_abi::call<system_type>&, Args...))
    {
        [[maybe_unused]] int position = 0;
        ((std::is_same_v<Args, user_addr> ? is_pointer[static_cast<std::size_t>(n)][position++] = true
                                          : ++position != 0),
         ...);
    }
    std::array<std::array<bool, 6>, linux_abi::number_limit> is_pointer{};
};

TEST_CASE("there is a trial for every pointer that a system call takes")
{
    pointer_parameters found;
    linux_abi::add_calls<system_type>(found);
    std::size_t pointers = 0;
    for (std::size_t n = 0; n < linux_abi::number_limit; ++n)
        for (int position = 0; position < 6; ++position) {
            if (!found.is_pointer[n][static_cast<std::size_t>(position)])
                continue;
            ++pointers;
            bool tried = false;
            for (const auto& t : pointer_trials::trials)
                tried = tried || (t.call == static_cast<long>(n) && t.position() == position);
            for (const auto& e : pointer_trials::exemptions)
                tried = tried || (e.call == static_cast<long>(n) && e.position == position);
            CAPTURE(linux_abi::name_of(n));
            CAPTURE(position);
            CHECK(tried);
        }
    CHECK(pointers > 120);
}

class trial_process {
public:
    trial_process(view& self, std::uint64_t child) : self_{self}, child_{child}
    {
        const auto area = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 2 * page_size, 3, 0x22, -1, 0));
        scratch_ = area;
        vector_ = area + page_size;
        inner_ = vector_ + 16;
        self.store(vector_, scratch_);
        self.store(vector_ + 8, std::uint64_t{8});
        name_ = self.put("/tmp/pointers");
        fresh_ = self.put("/tmp/pointers-none");
        program_ = self.put("/bin/sh");
        link_ = self.put("/proc/self");
        root_ = self.put("/");
        signals_ = self.put(std::string_view{"\0\2\0\0\0\0\0\0", 8}); // SIGUSR1
        file_ = self.call(nr::open, name_, 0x42, 0600);
        CHECK(self.call(nr::ftruncate, file_, page_size) == 0);
        directory_ = self.call(nr::open, root_, 0x10000);
        CHECK(directory_ > 0);
        CHECK(self.call(nr::pipe2, scratch_, 0x800) == 0);
        source_ = self.load<int>(scratch_);
        sink_ = self.load<int>(scratch_ + 4);
        CHECK(self.call(nr::setgroups, 2, scratch_) == 0);
        change_mask(self, 0, proc::signal_set::of(signal::sigusr1));
    }

    long call(long number, std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t e,
              std::uint64_t f)
    {
        return self_.call(static_cast<nr>(number), a, b, c, d, e, f);
    }
    unsigned char load(std::uint64_t at) { return self_.load<unsigned char>(at); }
    void store(std::uint64_t at, unsigned char value) { self_.store(at, value); }
    std::uint64_t value(what wanted)
    {
        switch (wanted) {
        case what::source: return static_cast<std::uint64_t>(source_);
        case what::sink: return static_cast<std::uint64_t>(sink_);
        case what::file: return static_cast<std::uint64_t>(file_);
        case what::directory: return static_cast<std::uint64_t>(directory_);
        case what::name: return name_;
        case what::fresh: return fresh_;
        case what::program: return program_;
        case what::link: return link_;
        case what::root: return root_;
        case what::scratch: return scratch_;
        case what::vector: return vector_;
        case what::inner: return inner_;
        case what::self: return static_cast<std::uint64_t>(self_.call(nr::getpid));
        case what::signals: return signals_;
        default: return 0;
        }
    }
    void make_ready(unsigned flags)
    {
        while (self_.call(nr::read, source_, scratch_, page_size) > 0) {
        }
        for (std::uint64_t at = 0; at < 512; at += 8)
            self_.store(scratch_ + at, std::uint64_t{0});
        CHECK(self_.call(nr::write, sink_, scratch_, 8) == 8);
        self_.call(nr::lseek, directory_, 0, 0);
        while (wait_for(self_, -1, 1).id > 0) {
        }
        if ((flags & pointer_trials::child) != 0) {
            self_.fork(child_);
            CHECK(self_.call(nr::waitid, 0, 0, 0, 0x1000004, 0) == 0); // leaves it
        }
        if ((flags & pointer_trials::signal) != 0)
            self_.call(nr::kill, self_.call(nr::getpid), 10);
    }
    void wrong(long number, int position, const char* name, std::uint64_t, long outcome)
    {
        CAPTURE(linux_abi::name_of(static_cast<std::uint64_t>(number)));
        CAPTURE(position);
        CAPTURE(std::string{name});
        CHECK(outcome == minus(posix::fault));
    }

private:
    view& self_;
    std::uint64_t child_;
    std::int64_t source_{}, sink_{}, file_{}, directory_{};
    std::uint64_t name_{}, fresh_{}, program_{}, link_{}, root_{}, scratch_{}, vector_{}, inner_{}, signals_{};
};

TEST_CASE("whatever is not the program's to read or write is EFAULT to every call, and stays as it was")
{
    simulated_kernel machine;
    const auto child = machine.add([](view& self) { self.exit(0); });
    const auto status = machine.run([&](view& self) {
        trial_process p{self, child};
        CHECK(pointer_trials::run(p) == 0);
        self.exit(3);
    });
    CHECK(status == 3);
    check_clean(machine, 3);
}

TEST_CASE("registers that hold addresses are not given the kernel's")
{
    simulated_kernel machine;
    machine.run([&](view& self) {
        CHECK(self.call(nr::arch_prctl, 0x1002, 0xffff'8000'0000'0000) == minus(posix::perm)); // ARCH_SET_FS
        CHECK(self.call(nr::arch_prctl, 0x1001, 0xffff'8000'0000'0000) == minus(posix::perm)); // ARCH_SET_GS
        CHECK(self.call(nr::arch_prctl, 0x1001, 0x1234) == 0);
        const auto at = self.allocate(16);
        CHECK(self.call(nr::arch_prctl, 0x1004, at) == 0); // ARCH_GET_GS
        CHECK(self.call(nr::arch_prctl, 0x1003, at + 8) == 0); // ARCH_GET_FS
        CHECK(self.load<std::uint64_t>(at) == 0x1234);
        CHECK(self.load<std::uint64_t>(at + 8) == self.tls());
        CHECK(self.call(nr::arch_prctl, 0x1005, at) == minus(posix::inval));
        const auto brk = self.call(nr::brk, 0);
        for (const std::uint64_t end : {0x7fff'ffff'f001, 0x8000'0000'0000})
            CHECK(self.call(nr::brk, end) == brk);
        CHECK(self.call(nr::brk, 0xffff'8000'0000'0000) == brk);
        self.exit(0);
    });
    check_clean(machine);
}

} // namespace
