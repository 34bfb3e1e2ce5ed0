// What a panic tells of the tables on the way to an address.

#include "mapper_world.hpp"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <exo/mm/walk_report.hpp>

namespace {

using namespace mapper_test;

constexpr virt_addr base{0x7000'0000'0000};
constexpr phys_addr target{0x40'0000'0000};

template <class World>
std::vector<std::string> report(World& w, virt_addr at)
{
    using format = typename World::mapper::format;
    std::string text;
    mm::report_walk<format>(
        w.m.memory, w.root, at,
        [&](phys_addr table) { return w.m.memory.frames().contains(frame_number{table}); },
        [&](const auto&... parts) { ((text += std::string_view{parts}), ...); });
    std::vector<std::string> lines;
    for (std::size_t end; (end = text.find('\n')) != text.npos; text.erase(0, end + 1))
        lines.push_back(text.substr(0, end));
    CHECK(text.empty());
    return lines;
}
std::string hex(std::uint64_t value) { return std::string{std::string_view{hexadecimal{value}}}; }

} // namespace

TEST_CASE_TEMPLATE("a report names each entry on the path, where it stands and what it grants", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    CHECK(w.change([&](auto& b) {
        return w.map.map_page(base + page_size, target, {.access = mm::user_data, .software = 1}, b);
    }));
    const auto lines = report(w, base + page_size + 5);
    REQUIRE(lines.size() == Format::levels);
    const auto slot = w.root + hal::index_at<Format>(base, hal::root_level<Format>) * sizeof(typename Format::entry);
    typename Format::entry top{};
    std::memcpy(&top, w.m.memory.to_pointer(slot), sizeof top);
    CHECK(lines.front() == "    level " + std::to_string(hal::root_level<Format>) + " entry at " + hex(slot.value()) +
                               " is " + hex(top) + ", table at " + hex(Format::address(top, 0).value()) +
                               (Format::hierarchical_write ? ": write" : ""));
    CHECK(lines.back().starts_with("    level 0 entry at "));
    CHECK(lines.back().ends_with("page at " + hex(target.value()) + ": read write user software 1"));

    // Next to it nothing is.
    const auto beside = report(w, base);
    REQUIRE(beside.size() == Format::levels);
    CHECK(beside.back().ends_with(" is " + hex(0) + ", empty"));
    // And far from it not even tables are.
    CHECK(report(w, virt_addr{~std::uint64_t{0}}).size() == 1);
}

TEST_CASE_TEMPLATE("a report tells of marks, memory types, large pages and pages that nobody may touch", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    constexpr auto step = hal::bytes_at<Format>(1);
    CHECK(w.change([&](auto& b) {
        return w.map.map_range(virt_range::of_size(base, step), target,
                               {.access = mm::kernel_code, .memory = mm::memory_type::uncached, .global = true}, b, 1);
    }));
    CHECK(w.change([&](auto& b) { return w.map.map_page(base + step, target, {.access = mm::user_data}, b); }));
    CHECK(w.change([&](auto& b) {
        return w.map.map_page(base + 2 * step, target, {.access = mm::protection::none}, b);
    }));
    const auto large = report(w, base + step - 1);
    REQUIRE(large.size() == Format::levels - 1);
    CHECK(large.back().find("    level 1 ") == 0);
    CHECK(large.back().ends_with(": read execute global uncached"));

    CHECK(w.m.unit.access(0, base + step, mm::access::write, sim::privilege::user));
    CHECK(report(w, base + step).back().ends_with(": read write user accessed dirty"));
    CHECK(report(w, base + 2 * step).back().ends_with(": absent"));
}

TEST_CASE_TEMPLATE("a report of broken tables ends where they leave memory", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    CHECK(w.change([&](auto& b) { return w.map.map_page(base, target, {.access = mm::user_data}, b); }));
    const auto slot = w.root + hal::index_at<Format>(base, hal::root_level<Format>) * sizeof(typename Format::entry);
    typename Format::entry sound{};
    std::memcpy(&sound, w.m.memory.to_pointer(slot), sizeof sound);
    const auto broken = Format::table(target);
    std::memcpy(w.m.memory.to_pointer(slot), &broken, sizeof broken);
    const auto lines = report(w, base);
    REQUIRE(lines.size() == 2);
    CHECK(lines.back().ends_with(": no memory"));
    std::memcpy(w.m.memory.to_pointer(slot), &sound, sizeof sound);

    const auto hole = report(w, virt_addr{std::uint64_t{1} << 62});
    REQUIRE(hole.size() == 1);
    CHECK(hole.front() == "    not canonical: no table translates it");
}
