// hal::UserMode on the simulated machine: programs are functions of the host, which reach their memory through the
// software MMU and the kernel through its system-call layer.
//
// What would be instructions is a word in the program's memory that says which function stands there, so a program runs
// only where its image is mapped, and executable. A function sees user mode through its program_view: registers,
// memory, system calls. Signal handlers are functions too, called in the middle of the system call or access that they
// interrupt; execve abandons the function that called it, by an exception of the host. A process that ends is never
// resumed: nothing on its host stack is destroyed, so a function keeps nothing there that owns host memory.

#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/hal/user_mode.hpp>
#include <exo/linux/numbers.hpp>
#include <exo/mm/fault.hpp>
#include <exo/proc/fault.hpp>
#include <exo/sim/memory.hpp>
#include <exo/sim/mmu.hpp>
#include <exo/sim/virtual_cpus.hpp>

namespace exo::sim {

struct user_frame {
    std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    std::uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
    std::uint64_t vector, error_code;
    std::uint64_t rip, cs, rflags, rsp, ss;
    std::uint64_t program; // which execve this frame comes from
};

// What the trap handlers of a simulated kernel are.
struct user_traps {
    std::function<void(user_frame&)> system_call;
    std::function<void(user_frame&, virt_addr, mm::access)> page_fault;
    std::function<bool(virt_addr, mm::access)> resolve_fault;
    std::function<void(user_frame&, proc::fault)> exception;
    std::function<void(user_frame&)> return_to_user;
    std::function<bool()> return_work_pending;
};

template <hal::PteFormat Format>
class user_mode {
public:
    using frame = user_frame;
    struct state {
        std::uint64_t tls{};
        std::uint64_t gs{};
        std::array<std::byte, 512> registers{};
    };

    class program_view;
    using function = std::function<void(program_view&)>;

    user_mode(mmu<Format>& unit, physical_memory& memory, virtual_cpus& cpus)
        : unit_{unit}, memory_{memory}, cpus_{cpus}, live_(cpus.cpu_limit())
    {
    }
    user_mode(const user_mode&) = delete;
    user_mode& operator=(const user_mode&) = delete;

    void connect(user_traps traps) { traps_ = std::move(traps); }

    // Functions stand one after the other from here on in every program.
    static constexpr std::uint64_t code_begin = 0x401000;
    static constexpr std::uint64_t instruction = 0x6578'6f66'0000'0000; // "exof" and the number of the function
    static constexpr std::uint64_t spacing = 16;
    // Where `f` stands.
    std::uint64_t add(function f)
    {
        functions_.push_back(std::move(f));
        return code_begin + (functions_.size() - 1) * spacing;
    }
    [[nodiscard]] std::size_t function_count() const { return functions_.size(); }

    // hal::UserMode.
    [[nodiscard]] user_addr user_limit() noexcept { return user_addr{0x7fff'ffff'f000}; }
    [[nodiscard]] frame start_frame(user_addr entry, user_addr stack) noexcept
    {
        frame f{};
        f.rip = entry.value();
        f.rsp = stack.value();
        f.program = ++programs_;
        sanitize(f);
        return f;
    }
    void sanitize(frame& f) noexcept
    {
        f.cs = 0x33;
        f.ss = 0x2b;
        f.rflags = (f.rflags & 0x240dd5) | 0x202;
        if (f.rip >= user_limit().value())
            f.rip = 0;
    }
    [[noreturn]] void enter(frame& first)
    {
        frame f = first;
        for (;;) {
            try {
                const std::uint64_t entry = f.rip;
                leave_kernel(f);
                program_view{*this, f}.settle(entry); // a signal may have come before the first instruction
                execute(f);
            } catch (const abandoned&) {
                continue;
            }
            EXO_PANIC("a program returned from its first function");
        }
    }

    [[nodiscard]] std::size_t copy_from_user(std::byte* to, user_addr from, std::size_t size)
    {
        return copy(from, size, mm::access::read, [to](std::size_t done, std::byte* user, std::size_t piece) {
            std::memcpy(to + done, user, piece);
        });
    }
    [[nodiscard]] std::size_t copy_to_user(user_addr to, const std::byte* from, std::size_t size)
    {
        return copy(to, size, mm::access::write, [from](std::size_t done, std::byte* user, std::size_t piece) {
            std::memcpy(user, from + done, piece);
        });
    }
    [[nodiscard]] result<std::uint32_t> compare_exchange_user(user_addr at, std::uint32_t expected,
                                                              std::uint32_t desired)
    {
        std::uint32_t found = 0;
        if (!at.is_aligned(sizeof found) ||
            copy(at, sizeof found, mm::access::write, [&](std::size_t, std::byte* user, std::size_t) {
                std::memcpy(&found, user, sizeof found);
                if (found == expected)
                    std::memcpy(user, &desired, sizeof desired);
            }) != sizeof found)
            return fail(errors::bad_address, at.value());
        return found;
    }

    void save(state& s) noexcept { s = live_[cpus_.current_cpu()]; }
    void load(const state& s) noexcept { live_[cpus_.current_cpu()] = s; }
    void reset(state& s) noexcept { s = {}; }
    [[nodiscard]] std::uint64_t tls_base(const state& s) noexcept { return s.tls; }
    void set_tls_base(state& s, std::uint64_t base) noexcept { s.tls = base; }
    [[nodiscard]] std::uint64_t gs_base(const state& s) noexcept { return s.gs; }
    void set_gs_base(state& s, std::uint64_t base) noexcept { s.gs = base; }
    [[nodiscard]] std::span<const std::byte> fpu_image(const state& s) noexcept { return s.registers; }
    // Law of this machine's unit: the last byte is zero.
    [[nodiscard]] result<> set_fpu_image(state& s, std::span<const std::byte> image) noexcept
    {
        if (image.size() != s.registers.size() || image.back() != std::byte{0})
            return fail(errors::invalid_argument);
        std::memcpy(s.registers.data(), image.data(), image.size());
        return {};
    }
    void set_kernel_stack(std::byte*) noexcept {}
    [[nodiscard]] std::uint64_t hardware_capabilities() noexcept { return 0x178bfbff; }

private:
    struct abandoned {};

    // Piece by piece, each within a page. How many bytes were moved.
    template <class Move>
    std::size_t copy(user_addr at, std::size_t size, mm::access how, Move move)
    {
        EXO_CHECK(cpus_.enabled()); // a fault may have to wait
        std::size_t done = 0;
        while (done < size) {
            const user_addr from = at + done;
            if (from < at || from >= user_limit())
                break;
            const std::size_t in_page = page_size - (from.value() & (page_size - 1));
            const std::size_t piece = size - done < in_page ? size - done : in_page;
            const virt_addr v{from.value()};
            const auto physical = unit_.access(cpus_.current_cpu(), v, how, privilege::kernel_user_copy);
            if (physical) {
                move(done, memory_.to_pointer(*physical), piece);
                done += piece;
            } else if (!traps_.resolve_fault(v, how)) {
                break;
            }
        }
        return done;
    }

    // On the way to user mode, as the exit path of a real kernel does it.
    void leave_kernel(frame& f)
    {
        for (;;) {
            traps_.return_to_user(f);
            const auto saved = cpus_.save_and_disable();
            if (traps_.return_work_pending())
                cpus_.restore(saved);
            else if (!cpus_.go_on_computing())
                break;
        }
        unit_.finished();
    }

    // Runs what stands at f.rip, until it returns. True if it was a restorer, which has changed the registers and does
    // not return to its caller.
    bool execute(frame& f)
    {
        program_view view{*this, f};
        std::uint64_t word = 0;
        view.read(f.rip, &word, sizeof word, mm::access::execute);
        if ((word & 0xffff'ffff'0000'0000) != instruction || (word & 0xffff'ffff) >= functions_.size()) {
            view.trap(proc::fault::invalid_opcode);
            return true;
        }
        const std::uint64_t stack = f.rsp;
        functions_[word & 0xffff'ffff](view);
        if (!view.restored_)
            f.rsp = stack;
        return view.restored_;
    }

    mmu<Format>& unit_;
    physical_memory& memory_;
    virtual_cpus& cpus_;
    std::vector<state> live_; // what each CPU holds
    user_traps traps_;
    std::deque<function> functions_; // which stay where they are
    std::uint64_t programs_{};
};

template <hal::PteFormat Format>
class user_mode<Format>::program_view {
public:
    program_view(user_mode& mode, user_frame& f) : mode_{mode}, frame{f} {}

private:
    user_mode& mode_;

public:
    user_frame& frame;

    // A system call: the result, or -errno.
    template <class... Args>
    std::int64_t call(linux_abi::number n, Args... arguments)
    {
        return call_from(frame.rip + after_call, n, arguments...);
    }
    // The same, with the program somewhere else: a new process starts there.
    template <class... Args>
    std::int64_t call_from(std::uint64_t address, linux_abi::number n, Args... arguments)
    {
        const std::uint64_t here = frame.rip;
        const auto outcome = call_at(address, n, {to_word(arguments)...});
        frame.rip = here;
        return outcome;
    }
    std::int64_t fork(std::uint64_t child) { return call_from(child, linux_abi::number::fork); }
    [[noreturn]] void exit(int code)
    {
        static_cast<void>(call(linux_abi::number::exit_group, code));
        EXO_PANIC("exit_group returned");
    }

    // Memory, as the program's own instructions would use it: page faults and signals included.
    template <class T>
        requires std::is_trivially_copyable_v<T>
    T load(std::uint64_t address)
    {
        T value;
        read(address, &value, sizeof value, mm::access::read);
        return value;
    }
    template <class T>
        requires std::is_trivially_copyable_v<T>
    void store(std::uint64_t address, const T& value)
    {
        const auto* from = reinterpret_cast<const std::byte*>(&value);
        touch(address, sizeof value, mm::access::write, [from](std::size_t done, std::byte* user, std::size_t piece) {
            std::memcpy(user, from + done, piece);
        });
    }
    void read(std::uint64_t address, void* into, std::size_t size, mm::access how)
    {
        auto* to = static_cast<std::byte*>(into);
        touch(address, size, how, [to](std::size_t done, std::byte* user, std::size_t piece) {
            std::memcpy(to + done, user, piece);
        });
    }
    std::string load_string(std::uint64_t address)
    {
        std::string text;
        while (const char c = load<char>(address + text.size()))
            text += c;
        return text;
    }
    // Room below the stack pointer, for as long as the function runs.
    std::uint64_t allocate(std::size_t size) { return frame.rsp = (frame.rsp - size) & ~std::uint64_t{15}; }
    std::uint64_t put(std::string_view text)
    {
        const std::uint64_t at = allocate(text.size() + 1);
        for (std::size_t i = 0; i < text.size(); ++i)
            store(at + i, text[i]);
        store(at + text.size(), '\0');
        return at;
    }
    // An array of pointers to strings, and a null one.
    std::uint64_t put_strings(std::initializer_list<std::string_view> texts)
    {
        std::vector<std::uint64_t> pointers;
        for (const auto text : texts)
            pointers.push_back(put(text));
        const std::uint64_t at = allocate((texts.size() + 1) * sizeof(std::uint64_t));
        for (std::size_t i = 0; i < texts.size(); ++i)
            store(at + i * sizeof(std::uint64_t), pointers[i]);
        store(at + texts.size() * sizeof(std::uint64_t), std::uint64_t{0});
        return at;
    }

    // Floating-point and vector registers, a byte pattern of them.
    [[nodiscard]] std::byte vector_register() const { return mode_.live_[mode_.cpus_.current_cpu()].registers[0]; }
    void set_vector_register(std::byte value) { mode_.live_[mode_.cpus_.current_cpu()].registers[0] = value; }
    [[nodiscard]] std::uint64_t tls() const { return mode_.live_[mode_.cpus_.current_cpu()].tls; }

    // The program computes for a while: time passes, and others get their turn.
    void spend(duration time)
    {
        do {
            if (time > duration{})
                time = mode_.cpus_.spend_uninterrupted(time);
            interrupted([] {});
        } while (time > duration{});
    }
    void trap(proc::fault what)
    {
        interrupted([&] { mode_.traps_.exception(frame, what); });
    }

private:
    friend class user_mode;
    static constexpr std::uint64_t syscall_length = 2;
    // Where a function "is" when it makes a system call, and when it is interrupted: not where functions start, so that
    // a handler of the same function in between is told apart.
    static constexpr std::uint64_t after_call = 8;
    static constexpr std::uint64_t elsewhere = 12;

    // The kernel is entered in the middle of the function, and may have handlers called before it goes on.
    template <class Trap>
    void interrupted(Trap trap_to)
    {
        const std::uint64_t here = frame.rip;
        frame.rip = here + elsewhere;
        trap_to();
        mode_.leave_kernel(frame);
        settle(here + elsewhere);
        frame.rip = here;
    }

    template <class T>
    static std::uint64_t to_word(T value)
    {
        if constexpr (std::is_enum_v<T>)
            return static_cast<std::uint64_t>(value);
        else if constexpr (std::is_signed_v<T>)
            return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
        else
            return std::uint64_t{value};
    }

    std::int64_t call_at(std::uint64_t after, linux_abi::number n, std::array<std::uint64_t, 6> arguments)
    {
        frame.rax = static_cast<std::uint64_t>(n);
        frame.rdi = arguments[0];
        frame.rsi = arguments[1];
        frame.rdx = arguments[2];
        frame.r10 = arguments[3];
        frame.r8 = arguments[4];
        frame.r9 = arguments[5];
        const std::uint64_t program = frame.program;
        do { // more than once if the kernel has the call start again
            frame.rip = after;
            mode_.traps_.system_call(frame);
            mode_.leave_kernel(frame);
            if (frame.program != program)
                throw abandoned{};
            settle(after);
        } while (frame.rip == after - syscall_length);
        return static_cast<std::int64_t>(frame.rax);
    }

    template <class Move>
    void touch(std::uint64_t address, std::size_t size, mm::access how, Move move)
    {
        for (std::size_t done = 0; done < size;) {
            if (mode_.cpus_.wander(true))
                interrupted([] {});
            const virt_addr v{address + done};
            const std::size_t in_page = page_size - (v.value() & (page_size - 1));
            const std::size_t piece = size - done < in_page ? size - done : in_page;
            if (const auto physical = mode_.unit_.access(mode_.cpus_.current_cpu(), v, how, privilege::user)) {
                move(done, mode_.memory_.to_pointer(*physical), piece);
                done += piece;
                continue;
            }
            interrupted([&] { mode_.traps_.page_fault(frame, v, how); });
        }
    }

    // Runs the signal handlers that the kernel has put in the way, the last one put first, until the program is back at
    // `expected`, or at the system call before it.
    void settle(std::uint64_t expected)
    {
        while (frame.rip != expected && frame.rip != expected - syscall_length) {
            const std::uint64_t program = frame.program;
            const bool restored = mode_.execute(frame);
            if (frame.program != program)
                throw abandoned{};
            if (restored)
                continue;
            frame.rip = load<std::uint64_t>(frame.rsp);
            frame.rsp += sizeof(std::uint64_t);
        }
    }

public:
    // What a restorer does.
    void sigreturn()
    {
        frame.rax = static_cast<std::uint64_t>(linux_abi::number::rt_sigreturn);
        mode_.traps_.system_call(frame);
        mode_.leave_kernel(frame);
        restored_ = true;
    }

private:
    bool restored_{};
};

} // namespace exo::sim
