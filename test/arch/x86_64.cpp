// Layouts of x86-64 against bytes that the manuals, and a real loader, give.

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/arch/x86_64/cpuid.hpp>
#include <exo/arch/x86_64/descriptors.hpp>
#include <exo/arch/x86_64/fpu.hpp>
#include <exo/arch/x86_64/multiboot2.hpp>
#include <exo/arch/x86_64/trap_frame.hpp>

using namespace exo;
using namespace exo::x86_64;

TEST_CASE("segments, gates and the TSS descriptor are laid out as the SDM says")
{
    const auto gdt = global_descriptor_table::with_tss(0xffff'ffff'8012'3450);
    CHECK(gdt.entries[0] == 0);
    CHECK(gdt.entries[2] == 0x0020'9a00'0000'0000);
    CHECK(gdt.entries[3] == 0x0000'9200'0000'0000);
    CHECK(gdt.entries[5] == 0x0000'f200'0000'0000);
    CHECK(gdt.entries[6] == 0x0020'fa00'0000'0000);
    CHECK(gdt.entries[7] == 0x8000'8912'3450'0067);
    CHECK(gdt.entries[8] == 0xffff'ffff);
    // SYSRET's arithmetic (SDM volume 2): SS from base + 8, CS from base + 16.
    CHECK((selector::sysret_base | 3) + 8 == selector::user_data);
    CHECK((selector::sysret_base | 3) + 16 == selector::user_code);
    CHECK(selector::kernel_code + 8 == selector::kernel_data);

    const auto gate = interrupt_gate::to(0xffff'ffff'8012'3456, 3, true);
    CHECK(gate.low == 0x8012'ee03'0010'3456);
    CHECK(gate.high == 0xffff'ffff);
    CHECK(gate.handler() == 0xffff'ffff'8012'3456);
    CHECK(interrupt_gate::to(0x1234).low == 0x0000'8e00'0010'1234);
}

TEST_CASE("exceptions with an error code are those of the SDM's table 6-1")
{
    for (unsigned v = 0; v < 300; ++v) {
        const bool has = v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21 || v == 29 || v == 30;
        CHECK(pushes_error_code(v) == has);
    }
    CHECK(page_fault_code{0x6}.write());
    CHECK(page_fault_code{0x6}.user());
    CHECK_FALSE(page_fault_code{0x6}.present());
    CHECK(page_fault_code{0x11}.fetch());
}

TEST_CASE("a message-signalled interrupt names CPU and vector")
{
    const auto message = message_signalled_interrupt::to(3, 0x41);
    CHECK(message.address == 0xfee0'3000);
    CHECK(message.data == 0x41);
    CHECK(redirection_entry{}.low() == 0x10000);
    CHECK(redirection_entry{.vector = 0x31, .active_low = true, .level_triggered = true, .masked = false}.low() ==
          0xa031);
}

TEST_CASE("CPUID is decoded from recorded leaves, and leaves that a CPU lacks are not asked for")
{
    const auto read = [](std::uint32_t basic, std::uint32_t extended) {
        return cpu_features::read([=](std::uint32_t leaf, std::uint32_t) -> cpuid_leaf {
            CHECK((leaf < 0x8000'0000 ? leaf <= basic : leaf == 0x8000'0000 || leaf <= extended));
            switch (leaf) {
            case 0:
                return {basic, 0x6874'7541, 0x444d'4163, 0x6974'6e65};
            case 1:
                return {0x0080'0f82, 0, 1u << 26 | 1u << 28 | 1u << 30, 1u << 7 | 1u << 13 | 1u << 14 | 1u << 24};
            case 7:
                return {0, 1u << 7 | 1u << 20, 1u << 2, 0};
            case 0xd:
                return {0, 0, 832, 0};
            case 0x8000'0000:
                return {extended, 0, 0, 0};
            case 0x8000'0001:
                return {0, 0, 0, 1u << 11 | 1u << 20 | 1u << 26};
            case 0x8000'0002:
                return {0x2055'5043, 0x0078, 0, 0};
            case 0x8000'0008:
                return {0x3028, 0, 0, 0};
            default:
                return {};
            }
        });
    };
    const auto full = read(0xd, 0x8000'0008);
    CHECK(full.vendor_name() == "AuthenticAMD");
    CHECK(full.brand_name() == "CPU x");
    CHECK(full.family() == 0x17);
    CHECK(full.model() == 8);
    CHECK(full.stepping() == 2);
    CHECK(full.machine_check);
    CHECK(full.machine_check_banks);
    CHECK(full.smep);
    CHECK(full.smap);
    CHECK(full.umip);
    CHECK(full.nx);
    CHECK(full.gibibyte_pages);
    CHECK(full.physical_address_bits == 40);
    CHECK(full.xsave_area_bytes == 832);
    const auto old = read(1, 0x8000'0001);
    CHECK_FALSE(old.smep);
    CHECK(old.nx);
    CHECK(old.physical_address_bits == 36);
}

TEST_CASE("FPU state: a fresh one can be loaded, and what would fault when loaded is told apart")
{
    CHECK(fpu_layout::for_cpu({}).bytes == 512);
    cpu_features cpu;
    cpu.xsave = cpu.avx = true;
    const auto layout = fpu_layout::for_cpu(cpu);
    CHECK(layout.bytes == 832);
    CHECK(layout.components == 7);
    std::vector<std::byte> area(layout.bytes, std::byte{0xee});
    CHECK_FALSE(layout.is_loadable(area));
    layout.initialize(area);
    CHECK(layout.is_loadable(area));
    for (const auto& [at, bit] : {std::pair{26u, 0x01}, std::pair{512u, 0x08}, std::pair{519u, 0x80},
                                  std::pair{520u, 0x01}, std::pair{575u, 0x01}}) {
        auto bad = area;
        bad[at] |= static_cast<std::byte>(bit);
        CHECK_FALSE(layout.is_loadable(bad));
    }
    area[512] = std::byte{7};
    CHECK(layout.is_loadable(area));
}

namespace {

struct loader {
    std::vector<std::byte> bytes = std::vector<std::byte>(8);

    void word(std::uint32_t value)
    {
        bytes.resize(bytes.size() + 4);
        std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
    }
    void begin(std::uint32_t type, std::uint32_t size)
    {
        bytes.resize((bytes.size() + 7) / 8 * 8);
        word(type);
        word(size);
    }
    void text(std::string_view s)
    {
        const auto* p = reinterpret_cast<const std::byte*>(s.data());
        bytes.insert(bytes.end(), p, p + s.size());
    }
    std::vector<std::byte>& finish()
    {
        begin(0, 8);
        const auto size = static_cast<std::uint32_t>(bytes.size());
        std::memcpy(bytes.data(), &size, 4);
        return bytes;
    }
};

loader usual_loader()
{
    using namespace std::string_view_literals;
    loader l;
    l.begin(1, 8 + 6);
    l.text("a b=c\0"sv);
    l.begin(3, 8 + 8 + 4);
    l.word(0x20'0000);
    l.word(0x20'1234);
    l.text("mod\0"sv);
    l.begin(14, 8 + 20);
    l.text(std::string(20, 'o'));
    l.begin(15, 8 + 36);
    l.text(std::string(36, 'n'));
    l.begin(6, 16 + 3 * 24);
    l.word(24);
    l.word(0);
    for (const auto& [base, length, type] : {std::tuple{0u, 0x9fc00u, 1u}, std::tuple{0x10'0000u, 0xff0'0000u, 1u},
                                             std::tuple{0xffc'0000u, 0x4'0000u, 2u}}) {
        l.word(base);
        l.word(0);
        l.word(length);
        l.word(0);
        l.word(type);
        l.word(0);
    }
    l.finish();
    return l;
}

} // namespace

TEST_CASE("Multiboot2 information is read as it was written")
{
    const auto l = usual_loader();
    const auto info = multiboot2::information::parse(l.bytes);
    REQUIRE(info);
    CHECK(info->command_line == "a b=c");
    REQUIRE(info->modules.size() == 1);
    CHECK(info->modules[0] == phys_range{phys_addr{0x20'0000}, phys_addr{0x20'1234}});
    CHECK(info->rsdp.size() == 36);
    std::vector<std::pair<phys_range, multiboot2::memory_kind>> seen;
    info->for_each_memory([&](phys_range r, multiboot2::memory_kind kind) { seen.emplace_back(r, kind); });
    REQUIRE(seen.size() == 3);
    CHECK(seen[1].first == phys_range::of_size(phys_addr{0x10'0000}, 0xff0'0000));
    CHECK(seen[2].second == multiboot2::memory_kind::reserved);
}

TEST_CASE("Multiboot2 information that is cut or has any byte changed is refused, or read within its bounds")
{
    const auto good = usual_loader().bytes;
    for (std::size_t size = 0; size < good.size(); ++size) {
        const std::vector<std::byte> cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(multiboot2::information::parse(cut).error() == multiboot2::malformed);
    }
    for (std::size_t i = 0; i < good.size(); ++i) {
        for (const unsigned value : {0x00, 0x01, 0x08, 0x7f, 0xff}) {
            auto changed = good;
            changed[i] = static_cast<std::byte>(value);
            if (const auto info = multiboot2::information::parse(changed)) {
                std::uint64_t sum = info->command_line.size() + info->modules.size();
                for (const std::byte b : info->rsdp)
                    sum += std::to_integer<unsigned>(b);
                info->for_each_memory([&](phys_range r, multiboot2::memory_kind) {
                    CHECK(r.begin < r.end);
                    sum += r.begin.value();
                });
                CHECK(sum + 1 != 0);
            }
        }
    }
}
