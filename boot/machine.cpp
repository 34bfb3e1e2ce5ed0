#include "machine.hpp"

#include <cstring>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/arch/x86_64/apic_id.hpp>
#include <exo/drivers/acpi/hpet_table.hpp>
#include <exo/drivers/fw_cfg.hpp>
#include <exo/drivers/pci.hpp>
#include <exo/drivers/pic.hpp>
#include <exo/drivers/rtc.hpp>
#include <exo/drivers/virtio.hpp>

#include "panic.hpp"

// startup.S: what is copied, where in it the page tables' address is, and the stacks: each processor takes one.
extern "C" {
extern const char exo_startup_begin[], exo_startup_end[], exo_startup_root[];
constinit std::uint64_t* exo_startup_stacks = nullptr;
constinit std::int64_t exo_startup_stacks_left = 0;
}

namespace exo::boot {
namespace {

constexpr x86_64::port_registers all_ports{0};
constexpr std::uint16_t rtc_port = 0x70;

// What /proc/cpuinfo shows, in Linux's words.
struct processor_words {
    char text[256]{};
    std::size_t size{};

    void add_if(bool present, std::string_view word)
    {
        if (!present || size + word.size() + 1 > sizeof text)
            return;
        if (size > 0)
            text[size++] = ' ';
        std::memcpy(text + size, word.data(), word.size());
        size += word.size();
    }
};
constinit processor_words processor_flags;
constinit const machine::clock_type* clock_of_locks = nullptr;

void log_left_out(std::uint32_t apic_id, std::string_view why)
{
    boot::log("exo: the CPU with APIC id ", decimal{apic_id}, " is left out: ", why, "\n");
}

} // namespace

instant interrupt_flag::now() noexcept { return clock_of_locks ? clock_of_locks->now() : instant{}; }

result<> processor_entropy::fill(std::span<std::byte> into) noexcept
{
    constexpr unsigned attempts = 16, samples = 64;
    for (std::size_t done = 0; done < into.size();) {
        std::uint64_t word = 0;
        bool have = false;
        for (unsigned i = 0; features().rdrand && i < attempts && !have; ++i)
            have = x86_64::rdrand(word);
        if (!have) {
            for (unsigned i = 0; i < samples; ++i) {
                (void)x86_64::in8(rtc_port + 1);
                pool_ ^= x86_64::read_tsc();
                pool_ = (pool_ << 19 | pool_ >> 45) * 0x9e37'79b9'7f4a'7c15;
            }
            word = pool_ ^ pool_ >> 32;
        }
        const std::size_t part = into.size() - done < sizeof word ? into.size() - done : sizeof word;
        std::memcpy(into.data() + done, &word, part);
        done += part;
    }
    return {};
}

machine::machine(kernel_memory& memory, frame_supply& frames, mm::memory_map& free_memory, std::uint64_t memory_bytes,
                 std::string_view loader_options, std::span<const std::byte> rsdp, std::uint64_t entry_tsc,
                 clock_calibration& calibration)
    : memory_{memory}, frames_{frames}, free_memory_{free_memory}, memory_bytes_{memory_bytes},
      controllers_{read_acpi(rsdp, calibration)}, apic_{take_over_interrupts()}, timing_{finish(calibration,
                                                                                                entry_tsc)},
      wall_clock_base_{drivers::read_rtc(x86_64::port_registers{rtc_port}) * 1'000'000'000 -
                       static_cast<std::int64_t>(timing_.clock.now().nanoseconds())}
{
    choose_time_source(true);
    clock_of_locks = &timing_.clock;
    user_mode_.initialize();
    describe_processor();
    read_options(loader_options);
    // The time-stamp counter begins at 0 (SDM volume 3, 18.17).
    boot::log("exo: entered ", decimal{timing_.rates.tsc.nanoseconds(entry_tsc) / 1000}, " us after reset\n");
}

drivers::acpi::interrupt_controllers machine::read_acpi(std::span<const std::byte> rsdp, clock_calibration& calibration)
{
    using drivers::acpi::interrupt_controllers;
    const std::uint32_t self = x86_64::apic_id(x86_64::cpuid);
    auto tables = acpi_tables::open(memory_view{&memory_}, rsdp);
    if (!tables) {
        boot::log("exo: the firmware has no valid ACPI tables: one CPU is used\n");
        return interrupt_controllers::conventional(self);
    }
    if (const auto rate = find_shared_counter(*tables)) {
        shared_rate_ = *rate;
        calibration.add(system_counter{&*shared_counter_}, *rate);
    }
    soft_off_ = drivers::acpi::soft_off::find(*tables);
    if (const auto srat = tables->find("SRAT"))
        affinities_ = *srat;
    const auto madt = tables->find("APIC");
    if (!madt) {
        boot::log("exo: the firmware's ACPI tables do not describe the interrupt controllers: one CPU is used\n");
        return interrupt_controllers::conventional(self);
    }
    return interrupt_controllers::parse(*madt, self);
}

std::optional<drivers::tick_rate> machine::find_shared_counter(acpi_tables& tables)
{
    namespace acpi = drivers::acpi;
    if (const auto table = tables.find("HPET")) {
        const auto at = acpi::hpet_registers(*table);
        const auto registers = at ? map_registers(phys_range::of_size(*at, acpi::hpet_bytes)) : fail(errors::no_device);
        const auto opened =
            registers ? drivers::hpet<x86_64::mmio_registers>::open(*registers) : fail(registers.error());
        if (opened) {
            shared_counter_.emplace(shared_registers{*opened, {}}, opened->bits());
            shared_counter_name_ = "HPET";
            return opened->rate();
        }
    }
    const auto fadt = tables.find("FACP");
    if (const auto timer = fadt ? acpi::pm_timer::find(*fadt) : std::nullopt) {
        shared_counter_.emplace(shared_registers{{}, *timer}, timer->bits);
        shared_counter_name_ = "PM timer";
        return timer->rate();
    }
    return std::nullopt;
}

local_apic machine::take_over_interrupts()
{
    drivers::disable_pic(all_ports, vector::pic);
    for (const auto& found : controllers_.io_apics) {
        const auto registers = map_registers(phys_range::of_size(found.registers, page_size));
        if (!registers)
            EXO_PANIC("no memory for the I/O APIC's tables");
        auto& io = io_apics_.emplace_back(*registers, found.first_input);
        io.initialize();
    }
    const x86_64::processor_msrs msrs;
    local_apic apic{msrs};
    if (!features().x2apic) {
        const auto registers = map_registers(phys_range::of_size(controllers_.local_apic, page_size));
        if (!registers)
            EXO_PANIC("no memory for the local APIC's tables");
        apic = local_apic{msrs, *registers};
    }
    apic.enable(vector::spurious, vector::apic_error);
    return apic;
}

// Memory that is never given back.
template <class T, class... Args>
std::span<T> machine::take(std::size_t count, Args&&... args)
{
    const auto at = free_memory_.take(pages_for(count * sizeof(T)) * page_size, page_size, layout::entry_map_end);
    if (!at)
        EXO_PANIC("no memory for the records of the CPUs");
    auto* const first = reinterpret_cast<T*>(phys_.to_pointer(*at));
    for (std::size_t i = 0; i < count; ++i)
        ::new (static_cast<void*>(first + i)) T(args...);
    return {first, count};
}

void machine::start_processors(std::optional<phys_addr> startup)
{
    const instant since = timing_.clock.now();
    static_vector<std::uint32_t, cpu_set::limit> others;
    for (const auto& cpu : controllers_.cpus) {
        const std::uint32_t id = cpu.apic_id;
        if (id == apic_.id())
            continue;
        if (startup && apic_.reaches(id))
            others.push_back(id);
        else
            log_left_out(id, startup ? "its id is beyond 254" : "there is no page for it below 640 KiB");
    }
    if (controllers_.left_out != 0)
        boot::log("exo: ", decimal{controllers_.left_out}, " CPUs are left out: there are too many\n");
    if (!others.empty())
        start_processors(*startup, {others.begin(), others.size()});
    number_processors(since);
}

void machine::start_processors(phys_addr startup, std::span<const std::uint32_t> others)
{
    coming_ = take<coming_processor>(others.size());
    starting_ = take<drivers::starting_processor<>>(others.size());
    const auto stacks = take<std::uint64_t>(others.size());
    const auto root = memory_.make_startup_root(startup);
    std::size_t prepared = 0;
    for (const std::uint32_t id : others) {
        const auto stack = root ? memory_.allocate_stack() : fail(root.error());
        bool complete = stack.has_value();
        for (auto& interrupt_stack : coming_[prepared].interrupt_stacks) {
            const auto allocated = complete ? memory_.allocate_stack() : fail(errors::out_of_memory);
            complete = allocated.has_value();
            interrupt_stack = complete ? *allocated : std::span<std::byte>{};
        }
        if (!complete) {
            log_left_out(id, "there is no memory for it");
            if (stack)
                memory_.free_stack(*stack);
            for (const auto& interrupt_stack : coming_[prepared].interrupt_stacks)
                if (!interrupt_stack.empty())
                    memory_.free_stack(interrupt_stack);
            continue;
        }
        stacks[prepared] = layout::address_of(stack->data() + stack->size()).value();
        ::new (static_cast<void*>(&starting_[prepared++])) drivers::starting_processor<>{id};
    }
    exo_startup_stacks = stacks.data();
    exo_startup_stacks_left = static_cast<std::int64_t>(prepared);
    starting_ = starting_.first(prepared);
    if (!root)
        return;
    std::byte* const page = phys_.to_pointer(startup);
    std::memcpy(page, exo_startup_begin, static_cast<std::size_t>(exo_startup_end - exo_startup_begin));
    const auto root_value = static_cast<std::uint32_t>(root->value());
    std::memcpy(page + (exo_startup_root - exo_startup_begin), &root_value, sizeof root_value);
    drivers::start_processors<>(apic_, timing_.clock, time_stamp_counter{}, startup, starting_, boot_count_);
}

// In the order of the firmware's table. What serves each by its number is made for as many as there are.
void machine::number_processors(instant since)
{
    apic_ids_ = take<std::uint32_t>(starting_.size() + 1);
    unsigned count = 0;
    apic_ids_[count++] = apic_.id();
    using enum drivers::starting_processor<>::phase;
    bool in_step = true;
    for (const auto& p : starting_)
        in_step = in_step && (p.state() != has_come || p.in_step());
    choose_time_source(in_step);
    for (std::size_t i = 0; i < starting_.size(); ++i) {
        const std::uint32_t id = starting_[i].apic_id();
        const bool counts_alike = starting_[i].in_step() || time_source_ == drivers::time_source::shared;
        if (starting_[i].state() != has_come || !counts_alike) {
            log_left_out(id, counts_alike ? "it does not answer" : "its time-stamp counter is not in step");
            apic_.send({.how = x86_64::interprocessor_interrupt::delivery::init}, id); // waits for a start for good
            continue;
        }
        coming_[i].block.number = count;
        apic_ids_[count++] = id;
    }
    set_cpu_count(count);
    apic_ids_ = apic_ids_.first(count);
    static_vector<x86_64::cpu_place, cpu_set::limit> places;
    for (const std::uint32_t id : apic_ids_)
        places.push_back({.apic_id = id, .node = drivers::acpi::proximity_domain(affinities_, id).value_or(0)});
    const auto destination = x86_64::device_destination(apic_ids_);
    if (!destination)
        EXO_PANIC("no CPU has an APIC id that devices can name");
    device_destination_ = *destination;
    topology_.emplace(x86_64::apic_id_layout::read(x86_64::cpuid), std::span{places.begin(), places.size()});
    signals_.emplace(apic_, apic_ids_);
    calls_.emplace(take<processor_calls::processor>(count), *signals_, cpu_);
    const bool by_tsc = time_source_ == drivers::time_source::tsc, by_deadline = by_tsc && features().tsc_deadline;
    const drivers::local_apic_timer_settings how{.mode = by_deadline ? x86_64::local_apic_timer_mode::tsc_deadline
                                                                     : x86_64::local_apic_timer_mode::one_shot,
                                                 .rate = by_deadline ? timing_.rates.tsc : timing_.rates.apic_timer,
                                                 .vector = vector::timer,
                                                 .keeps_clock = !by_tsc && shared_counter_->wraps()};
    timer_.emplace(take<local_timer>(count, apic_, timing_.clock, time_stamp_counter{}, how));
    timer_->enable();
    if (count > 1)
        stop_others_by(apic_);
    boot::log("exo: time is read from the ", by_tsc ? "time-stamp counters" : shared_counter_name_, "\n");
    const auto taken = static_cast<std::uint64_t>((timing_.clock.now() - since).nanoseconds()) / 1000;
    boot::log("exo: ", decimal{count}, count == 1 ? " CPU" : " CPUs", ", after ", decimal{taken}, " us\n");
}

void machine::join() noexcept
{
    const std::uint32_t apic_id = x86_64::apic_id(x86_64::cpuid);
    for (std::size_t i = 0; i < starting_.size(); ++i) {
        if (starting_[i].apic_id() != apic_id)
            continue;
        install_descriptors(coming_[i].block, coming_[i].interrupt_stacks);
        apic_.enable(vector::spurious, vector::apic_error);
        if (!starting_[i].come(boot_count_, time_stamp_counter{}))
            break;
        while (!released_.load(std::memory_order_acquire))
            cpu_control_.halt_until_interrupt();
        timer_->enable();
        tlb_.invalidate_all(); // nobody has told this CPU of changes so far
        return;
    }
    halt_for_good();
}

machine::timing machine::finish(clock_calibration& calibration, std::uint64_t entry_tsc)
{
    const auto rates = calibration.finish(apic_);
    if (!rates)
        EXO_PANIC("the PIT, the time-stamp counter or the local APIC's timer stands still");
    if (shared_counter_ && !rates->shared_is_sound) {
        boot::log("exo: the counter that ACPI names does not count as it says, and is left out\n");
        shared_counter_.reset();
    }
    return {*rates, clock_type{{}, rates->tsc, entry_tsc}};
}

void machine::choose_time_source(bool cpus_are_in_step)
{
    const auto source = drivers::choose_time_source(features(), cpus_are_in_step, shared_counter_.has_value());
    if (source == drivers::time_source::shared && time_source_ != source)
        timing_.clock.go_on_by({&*shared_counter_}, shared_rate_);
    time_source_ = source;
}

// The loader's command line, then what QEMU's fw_cfg adds. The text lives in frames that are never given back.
void machine::read_options(std::string_view loader_options)
{
    constexpr std::uint32_t most_bytes = 64 * 1024;
    drivers::fw_cfg config{x86_64::port_registers{fw_cfg_port}, phys_};
    const bool present = config.present();
    const auto room_for = [&](std::size_t bytes) {
        const auto at = free_memory_.take(pages_for(bytes) * page_size, page_size, layout::entry_map_end);
        if (!at)
            EXO_PANIC("no memory for the boot options");
        return std::span<char>{reinterpret_cast<char*>(phys_.to_pointer(*at)), bytes};
    };
    const auto read = [&](std::string_view name) -> std::optional<std::string_view> {
        auto file = present ? config.find(name) : std::nullopt;
        if (!file)
            return std::nullopt;
        if (file->size > most_bytes)
            EXO_PANIC("a boot option is longer than 64 KiB");
        const auto text = config.read(*file, room_for(file->size + 1));
        return std::string_view{text.data(), file->size};
    };
    options_.command = read("opt/exo/exec");
    options_.marker = read("opt/exo/marker");
    const auto more = read("opt/exo/cmdline");
    const std::size_t bytes = loader_options.size() + 1 + (more ? more->size() : 0);
    const auto line = room_for(bytes);
    std::memcpy(line.data(), loader_options.data(), loader_options.size());
    line[loader_options.size()] = ' ';
    if (more)
        std::memcpy(line.data() + loader_options.size() + 1, more->data(), more->size());
    options_.command_line = {line.data(), more ? bytes : bytes - 1};
}

void machine::describe_processor()
{
    const auto& f = features();
    processor_flags.add_if(true, "fpu tsc msr pae apic pat cmov fxsr sse sse2 syscall nx lm");
    processor_flags.add_if(f.gibibyte_pages, "pdpe1gb");
    processor_flags.add_if(f.global_pages, "pge");
    processor_flags.add_if(f.invariant_tsc, "constant_tsc nonstop_tsc");
    processor_flags.add_if(f.pcid, "pcid");
    processor_flags.add_if(f.invpcid, "invpcid");
    processor_flags.add_if(f.x2apic, "x2apic");
    processor_flags.add_if(f.tsc_deadline, "tsc_deadline_timer");
    processor_flags.add_if(f.xsave, "xsave");
    processor_flags.add_if(f.avx, "avx");
    processor_flags.add_if(f.rdrand, "rdrand");
    processor_flags.add_if(f.hypervisor, "hypervisor");
    processor_flags.add_if(f.smep, "smep");
    processor_flags.add_if(f.rdseed, "rdseed");
    processor_flags.add_if(f.smap, "smap");
    processor_flags.add_if(f.umip, "umip");
}

processor_description machine::processor(std::size_t) noexcept
{
    const auto& f = features();
    return {f.vendor_name(),
            f.brand_name(),
            f.family(),
            f.model(),
            f.stepping(),
            timing_.rates.tsc.hertz(),
            {processor_flags.text, processor_flags.size}};
}

std::uint64_t machine::image_bytes() noexcept
{
    return layout::physical_in_image(layout::address_of(exo_data_end)) -
           layout::physical_in_image(layout::address_of(exo_text_begin)) + frames_.taken_early();
}

result<x86_64::mmio_registers> machine::map_registers(phys_range where)
{
    return x86_64::mmio_registers{EXO_TRY(memory_.map_device(where, mm::memory_type::uncached)).data()};
}

void machine::find_disks(const disk_type::environment& around)
{
    const auto at = [](drivers::pci::address where) { return drivers::pci::port_config{all_ports, where}; };
    const auto map = [this](phys_range where) { return map_registers(where); };
    const auto open = [&](auto& f) -> result<> {
        constexpr std::uint16_t queue_vector = 0;
        f.enable();
        const auto transport = EXO_TRY(drivers::virtio::transport<x86_64::mmio_registers>::open(f, map));
        auto interrupts = EXO_TRY(drivers::pci::msix_table<x86_64::mmio_registers>::open(f, map));
        const auto vector = static_cast<std::uint8_t>(vector::first_disk + disks_.size());
        EXO_TRY(interrupts.route(queue_vector, x86_64::message_signalled_interrupt::to(device_destination_, vector)));
        disks_.emplace_back(EXO_TRY(disk_type::create(around, transport, queue_vector)));
        return {};
    };
    drivers::pci::enumerate(at, [&](auto& f, drivers::pci::address where) {
        using namespace drivers::virtio;
        if (f.vendor() != pci_vendor ||
            (f.device() != pci_modern_device + block_type && f.device() != pci_transitional_block))
            return;
        if (disks_.full()) {
            boot::log("exo: a disk is left out: there are too many\n");
            return;
        }
        if (const auto opened = open(f); !opened)
            boot::log("exo: the disk at PCI ", decimal{where.bus}, ":", decimal{where.device}, ".",
                      decimal{where.function}, " is left out: ", opened.error().kind().message, "\n");
        else
            boot::log("exo: disk ", decimal{disks_.size() - 1}, ": virtio-blk, ",
                      decimal{disks_.back()->sector_count() / 2}, " KiB\n");
    });
}

void machine::start_console()
{
    const auto input = controllers_.route_of(console_isa_interrupt);
    for (auto& io : io_apics_)
        if (io.has(input.input) && !io.route(input.input, {.vector = vector::console,
                                                           .destination = device_destination_,
                                                           .active_low = input.active_low,
                                                           .level_triggered = input.level_triggered,
                                                           .masked = false}))
            boot::log("exo: the console has no interrupt\n");
    serial_port{x86_64::port_registers{console_port}}.enable_receive_interrupt();
}

std::span<const std::byte> machine::read_console(std::span<std::byte> into) noexcept
{
    serial_port port{x86_64::port_registers{console_port}};
    return into.first(port.read(reinterpret_cast<char*>(into.data()), into.size()));
}

void machine::interrogate(unsigned cpu) noexcept
{
    boot::interrogate(cpu, *signals_);
}

void machine::on_apic_error() noexcept
{
    if (const auto kinds = stray_interrupts_.on_error(apic_))
        boot::log("exo: CPU ", decimal{cpu_number()}, ": local APIC errors ", hexadecimal{kinds}, "\n");
}

// The status has been reported on the log: 8 bits of it do not fit into QEMU's exit status.
void machine::power_off(std::uint8_t)
{
    x86_64::disable_interrupts();
    debug_exit(exit_done);
    if (soft_off_)
        soft_off_->execute(all_ports); // takes effect a moment later
    else
        boot::log("exo: the firmware does not say how to power off\n");
    for (;;)
        x86_64::halt();
}

} // namespace exo::boot
