// A whole kernel on the simulated machine: the templates that boot, with functions of the host for programs, and the
// terminal's other side in the hands of the test. It has one CPU or several, which take turns (sim/virtual_cpus.hpp),
// as platform().cpus_.explore(seed) says in ways drawn at random. Several may live in one process.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/check.hpp>
#include <exo/elf/layout.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/fs/stream.hpp>
#include <exo/fs/tmpfs/tmpfs.hpp>
#include <exo/kernel.hpp>
#include <exo/mm/heap_policy.hpp>
#include <exo/platform.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/memory.hpp>
#include <exo/sim/mmu.hpp>
#include <exo/sim/user_mode.hpp>
#include <exo/sim/virtual_calls.hpp>
#include <exo/sim/virtual_cpus.hpp>
#include <exo/sync/lock_counters.hpp>

namespace exo::sim {

// Decides which allocations fail: those of the heap, and kernel stacks.
class allocation_faults {
public:
    // The `n`th from now on fails (1: the next), once. 0: none.
    void fail_nth(std::uint64_t n) { fails_at_ = n == 0 ? 0 : asked_ + n; }
    [[nodiscard]] bool failed() const { return fails_at_ != 0 && asked_ >= fails_at_; }
    [[nodiscard]] bool next_fails() { return ++asked_ == fails_at_; }

private:
    std::uint64_t asked_{};
    std::uint64_t fails_at_{};
};

class failing_heap final : public allocator {
public:
    explicit failing_heap(allocation_faults& faults) : faults_{faults} {}
    void put_before(allocator& heap) { heap_ = &heap; }

    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        return faults_.next_fails() ? nullptr : heap_->allocate(bytes, alignment);
    }
    void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept override
    {
        heap_->deallocate(memory, bytes, alignment);
    }

private:
    allocation_faults& faults_;
    allocator* heap_{};
};

class text_sink {
public:
    void write(std::string_view text) noexcept { text_ += text; }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    std::string text_;
};

// Not random at all: the same in every run.
class seeded_entropy {
public:
    [[nodiscard]] result<> fill(std::span<std::byte> into) noexcept
    {
        for (auto& b : into)
            b = static_cast<std::byte>(random_());
        return {};
    }

private:
    std::mt19937 random_{1};
};

// The Platform.
class kernel_platform {
public:
    using format_type = x86_64::paging_4_level;
    using interrupts_type = virtual_cpus;
    using cpu_type = virtual_cpus;
    using clock_type = virtual_cpus;
    using timer_type = virtual_cpus;
    using cpu_control_type = virtual_cpus;
    using phys_type = physical_memory;
    using entries_type = sim::entries<format_type>;
    using tlb_type = cpu_paging<mmu<format_type>, virtual_cpus>;
    using translation_root_type = tlb_type;
    using ipi_type = virtual_calls;
    using atomics_type = virtual_atomics;
    using context_type = fibers;
    using entropy_type = seeded_entropy;
    using heap_policy_type = mm::checked_heap;
    using user_mode_type = sim::user_mode<format_type>;

    explicit kernel_platform(std::size_t frames, unsigned cpus = 1)
        : cpus_{cpus}, memory_{frames}, unit_{memory_, cpus}, entries_{unit_}, paging_{unit_, cpus_},
          user_mode_{unit_, memory_, cpus_}, ipi_{cpus_}, heap_{faults}
    {
        // The first frame is the kernel's root table, which maps nothing.
        const frame_number root = memory_.frames().begin;
        std::memset(memory_.to_pointer(root.address()), 0, page_size);
        usable_ = {(root + 1).address(), memory_.frames().end.address()};
        for (unsigned cpu = 0; cpu < cpus; ++cpu)
            unit_.load(cpu, {root.address()}, hal::remembered::forget);
    }

    [[nodiscard]] interrupts_type& interrupts() noexcept { return cpus_; }
    [[nodiscard]] cpu_type& cpu() noexcept { return cpus_; }
    [[nodiscard]] phys_type& phys() noexcept { return memory_; }
    [[nodiscard]] clock_type& clock() noexcept { return cpus_; }
    [[nodiscard]] user_mode_type& user_mode() noexcept { return user_mode_; }
    [[nodiscard]] entropy_type& entropy() noexcept { return entropy_; }
    [[nodiscard]] entries_type& entries() noexcept { return entries_; }
    [[nodiscard]] tlb_type& tlb() noexcept { return paging_; }
    [[nodiscard]] ipi_type& ipi() noexcept { return ipi_; }
    [[nodiscard]] translation_root_type& translation_root() noexcept { return paging_; }
    [[nodiscard]] context_type& context() noexcept { return fibers_; }
    [[nodiscard]] timer_type& timer() noexcept { return cpus_; }
    [[nodiscard]] cpu_control_type& cpu_control() noexcept { return cpus_; }
    [[nodiscard]] text_sink& log() noexcept { return log_; }
    [[nodiscard]] text_sink& console() noexcept { return console_; }

    [[nodiscard]] std::span<const phys_range> usable_memory() noexcept { return {&usable_, 1}; }
    [[nodiscard]] std::uint64_t image_bytes() noexcept { return page_size; }
    [[nodiscard]] std::uint64_t memory_bytes() noexcept { return memory_.frames().size() * page_size; }
    [[nodiscard]] frame_number kernel_root() noexcept { return memory_.frames().begin; }
    [[nodiscard]] instant entry_time() noexcept { return {}; }
    [[nodiscard]] std::int64_t wall_clock_base() noexcept { return 1'700'000'000'000'000'000; }

    // Larger than on a real machine: the programs' functions run there too.
    [[nodiscard]] result<std::span<std::byte>> allocate_stack()
    {
        if (faults.next_fails())
            return fail(errors::out_of_memory, stack_size);
        if (free_stacks_.empty()) {
            auto made = std::make_unique<std::byte[]>(stack_size);
            free_stacks_.push_back(made.get());
            stacks_.emplace(made.get(), std::move(made));
        }
        std::byte* const stack = free_stacks_.back();
        free_stacks_.pop_back();
        return std::span{stack, stack_size};
    }
    void free_stack(std::span<std::byte> stack)
    {
        unit_.finished(stack.data());
        free_stacks_.push_back(stack.data());
    }
    [[nodiscard]] std::size_t user_mode_count() const { return user_mode_.function_count(); }
    [[nodiscard]] std::size_t stacks_in_use() const { return stacks_.size() - free_stacks_.size(); }
    [[nodiscard]] allocator& filter_heap(allocator& heap)
    {
        heap_.put_before(heap);
        return heap_;
    }

    [[nodiscard]] std::size_t disk_count() noexcept { return disks.size(); }
    [[nodiscard]] hal::block_device& disk(std::size_t index) noexcept { return *disks[index]; }
    [[nodiscard]] processor_description processor(std::size_t) noexcept
    {
        return {.vendor = "exo", .model_name = "simulated", .hertz = 1'000'000'000, .flags = "fpu"};
    }
    [[nodiscard]] const boot_options& options() noexcept { return options_; }
    [[nodiscard]] sync::lock_counters* lock_counters(unsigned cpu) noexcept { return cpus_.lock_counters(cpu); }

    [[noreturn]] void power_off(std::uint8_t status)
    {
        exit_status_ = status;
        for (;;) {
            static_cast<void>(cpus_.save_and_disable());
            cpus_.halt_until_interrupt();
        }
    }

    void kick(unsigned cpu) noexcept { cpus_.interrupt(cpu, on_kick_); }

    template <class Kernel>
    void attach(Kernel& kernel)
    {
        on_kick_ = [&kernel] { kernel.on_kick(); };
        // Programs compute; the kernel takes no time.
        cpus_.connect(
            [this, &kernel] {
                kernel.on_timer(cpus_.interrupted_computation() ? proc::processor_mode::user
                                                                : proc::processor_mode::kernel);
            },
            [&kernel] { kernel.preempt_if_needed(); });
        user_mode_.connect({
            .system_call = [&kernel](user_frame& f) { kernel.on_system_call(f); },
            .page_fault = [&kernel](user_frame& f, virt_addr at, mm::access how) { kernel.on_page_fault(f, at, how); },
            .resolve_fault = [&kernel](virt_addr at, mm::access how) { return kernel.resolve_fault(at, how); },
            .exception = [&kernel](user_frame& f, proc::fault what) { kernel.on_exception(f, what); },
            .return_to_user = [&kernel](user_frame& f) { kernel.on_return_to_user(f); },
            .return_work_pending = [&kernel] { return kernel.return_work_pending(); },
        });
        if (cpus_.cpu_limit() > 1)
            unit_.tell_apart([this] { return running_stack(); },
                             [&frames = kernel.frames()](frame_number f) {
                                 return frames.manages(f) && frames.references(frames.block_of(f)) == 0;
                             });
        for (unsigned cpu = 1; cpu < cpus_.cpu_limit(); ++cpu)
            cpus_.boot(cpu, [&kernel] { kernel.run_processor(); });
    }
    template <class Kernel>
    [[nodiscard]] result<> start_devices(Kernel&)
    {
        return {};
    }

    // The files of the root, by path.
    struct planted_file {
        std::string path;
        std::string contents;
        fs::permission_bits permissions;
    };
    template <class Kernel>
    [[nodiscard]] result<ref<fs::file_system>> root_file_system(Kernel& kernel)
    {
        auto& env = kernel.file_environment();
        auto made = EXO_TRY(fs::tmpfs::create(env, {.root_permissions = 0755}));
        for (const char* directory : {"/dev", "/proc", "/tmp", "/mnt", "/bin"})
            static_cast<void>(EXO_TRY(plant(env, *made, directory, {.type = fs::file_type::directory,
                                                                    .permissions = 0755})));
        for (const auto& file : files) {
            auto node = EXO_TRY(plant(env, *made, file.path, {.type = fs::file_type::regular,
                                                              .permissions = file.permissions}));
            fs::memory_input contents{std::as_bytes(std::span{file.contents})};
            static_cast<void>(EXO_TRY(node->write(0, contents)));
        }
        return ref<fs::file_system>{made};
    }

    allocation_faults faults;
    std::vector<hal::block_device*> disks;
    std::vector<planted_file> files;
    boot_options options_;
    virtual_cpus cpus_;
    std::optional<int> exit_status_;

    [[nodiscard]] const std::vector<std::string>& violations() const { return unit_.violations(); }

private:
    static constexpr std::size_t stack_size = 256 * 1024;

    // By its stack the platform knows a thread; null: a CPU's own.
    [[nodiscard]] const void* running_stack() const
    {
        const auto* const here = static_cast<const std::byte*>(__builtin_frame_address(0));
        const auto after = stacks_.upper_bound(here);
        if (after == stacks_.begin())
            return nullptr;
        const std::byte* const stack = std::prev(after)->first;
        return here < stack + stack_size ? stack : nullptr;
    }

    // The directories above exist.
    static result<ref<fs::inode>> plant(fs::environment& env, fs::tmpfs& where, std::string_view path,
                                        const fs::new_inode& what)
    {
        auto at = EXO_TRY(where.root());
        path.remove_prefix(1);
        for (;;) {
            const auto slash = path.find('/');
            auto guard = at->entries().lock(env.parker);
            if (slash == path.npos)
                return at->create(path, what);
            auto next = EXO_TRY(at->lookup(path.substr(0, slash)));
            guard.unlock();
            at = std::move(next);
            path.remove_prefix(slash + 1);
        }
    }

    physical_memory memory_;
    mmu<format_type> unit_;
    entries_type entries_;
    tlb_type paging_;
    user_mode_type user_mode_;
    ipi_type ipi_;
    fibers fibers_;
    entropy_type entropy_;
    text_sink log_;
    text_sink console_;
    failing_heap heap_;
    phys_range usable_;
    std::function<void()> on_kick_;
    std::map<const std::byte*, std::unique_ptr<std::byte[]>, std::less<>> stacks_;
    std::vector<std::byte*> free_stacks_;
};
static_assert(Platform<kernel_platform>);

// The machine with its kernel. First say what programs there are, then run().
class simulated_kernel {
public:
    using kernel_type = exo::kernel<kernel_platform>;
    using user_mode_type = kernel_platform::user_mode_type;
    using program = user_mode_type::program_view;
    using function = user_mode_type::function;

    explicit simulated_kernel(std::size_t frames = 8192, unsigned cpus = 1)
        : platform_{frames, cpus}, storage_{std::make_unique<storage>()},
          kernel_{*::new (static_cast<void*>(storage_->bytes)) kernel_type{platform_}}
    {
        restorer_ = add([](program& self) { self.sigreturn(); });
    }
    simulated_kernel(const simulated_kernel&) = delete;
    simulated_kernel& operator=(const simulated_kernel&) = delete;

    [[nodiscard]] kernel_platform& platform() { return platform_; }
    [[nodiscard]] kernel_type& kernel() { return kernel_; }

    // A function that programs can run, fork into or install as a handler, by its address. Before run().
    std::uint64_t add(function f) { return platform_.user_mode().add(std::move(f)); }
    // What a signal action names as its restorer.
    [[nodiscard]] std::uint64_t restorer() const { return restorer_; }
    // A file that execve starts at `entry`.
    void add_program(std::string path, std::uint64_t entry) { programs_.emplace_back(std::move(path), entry); }
    void add_file(std::string path, std::string contents, fs::permission_bits permissions = 0644)
    {
        platform_.files.push_back({std::move(path), std::move(contents), permissions});
    }

    // Boots, with `init` for /bin/sh, until it ends: its status, or nothing if everything came to rest before.
    std::optional<int> run(function init)
    {
        add_program("/bin/sh", add(std::move(init)));
        for (const auto& [path, entry] : programs_)
            add_file(path, program_file(entry), 0755);
        platform_.cpus_.boot(0, [this] { kernel_.run(); });
        static_cast<void>(platform_.cpus_.run_until([this] { return platform_.exit_status_.has_value(); }));
        return exit_status();
    }
    // The same, afterwards.
    [[nodiscard]] std::optional<int> exit_status() const { return platform_.exit_status_; }

    // A static ELF program: a page of headers, the functions, and two pages of data, of which the file holds one.
    [[nodiscard]] std::string program_file(std::uint64_t entry) const
    {
        using layout = elf::layout<elf::file_class::bits64, std::endian::little>;
        constexpr std::uint64_t base = user_mode_type::code_begin - page_size;
        const std::size_t code_size =
            pages_for(platform_.user_mode_count() * user_mode_type::spacing) * page_size;

        layout::header header{};
        std::memcpy(header.ident.magic, elf::magic, sizeof(elf::magic));
        header.ident.word_size = elf::file_class::bits64;
        header.ident.order = elf::byte_order::little;
        header.ident.version = elf::current_version;
        header.type = static_cast<std::uint16_t>(elf::file_type::executable);
        header.machine = static_cast<std::uint16_t>(elf::machine::x86_64);
        header.version = 1;
        header.entry = entry;
        header.program_headers = sizeof(header);
        header.header_size = sizeof(header);
        header.program_header_size = sizeof(layout::program_header);
        header.program_header_count = 2;

        std::string file(page_size + code_size + page_size, '\0');
        layout::program_header code{};
        code.type = static_cast<std::uint32_t>(elf::segment_type::load);
        code.flags = 5;
        code.address = base;
        code.file_size = code.memory_size = page_size + code_size;
        code.alignment = page_size;
        layout::program_header data = code;
        data.flags = 6;
        data.offset = page_size + code_size;
        data.address = base + page_size + code_size;
        data.file_size = page_size;
        data.memory_size = 2 * page_size;
        std::memcpy(file.data(), &header, sizeof(header));
        std::memcpy(file.data() + sizeof(header), &code, sizeof(code));
        std::memcpy(file.data() + sizeof(header) + sizeof(code), &data, sizeof(data));
        for (std::size_t i = 0; i < platform_.user_mode_count(); ++i) {
            const std::uint64_t word = user_mode_type::instruction | i;
            std::memcpy(file.data() + page_size + i * user_mode_type::spacing, &word, sizeof(word));
        }
        return file;
    }
    // Where its data is.
    [[nodiscard]] std::uint64_t data_begin() const
    {
        return user_mode_type::code_begin +
               pages_for(platform_.user_mode_count() * user_mode_type::spacing) * page_size;
    }

private:
    // Never destroyed: a kernel ends when its machine loses its power.
    struct storage {
        alignas(kernel_type) std::byte bytes[sizeof(kernel_type)];
    };

    kernel_platform platform_;
    std::unique_ptr<storage> storage_;
    kernel_type& kernel_;
    std::uint64_t restorer_{};
    std::vector<std::pair<std::string, std::uint64_t>> programs_;
};

} // namespace exo::sim
