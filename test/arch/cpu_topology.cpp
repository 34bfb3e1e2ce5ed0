// Which CPUs share what, from CPUID's words: recorded ones, others by the manuals, and broken ones.

#include <doctest/doctest.h>

#include <random>
#include <vector>

#include <exo/arch/x86_64/apic_id.hpp>
#include <exo/arch/x86_64/cpu_topology.hpp>
#include <exo/sched/balancer.hpp>

#include "laws/topology_laws.hpp"

using namespace exo;
using namespace exo::x86_64;

namespace {

struct recorded_leaf {
    std::uint32_t function, index;
    cpuid_leaf words;
};
// Zeros where nothing was recorded.
struct recording {
    std::vector<recorded_leaf> leaves;

    cpuid_leaf operator()(std::uint32_t function, std::uint32_t index) const
    {
        for (const auto& l : leaves)
            if (l.function == function && l.index == index)
                return l.words;
        return {};
    }
};

constexpr std::uint32_t extended = 0x8000'0000, amd = 0x6874'7541, intel = 0x756e'6547, hygon = 0x6f67'7948;
constexpr std::uint32_t htt = 1u << 28, topology_extensions = 1u << 22;

// QEMU 7.2 without KVM. What "max" says to leaf 0x1F is what it says to its last one.
const recording qemu64_1{{{0, 0, {0xd, amd, 0x444d'4163, 0x6974'6e65}},
                          {1, 0, {0x60fb1, 0x800, 0x8000'2001, 0x78b'fbfd}},
                          {0xb, 0, {0, 1, 0x100, 0}},
                          {0xb, 1, {0, 1, 0x201, 0}},
                          {0xb, 2, {0, 0, 2, 0}}}};
const recording max_4{{{0, 0, {0xd, amd, 0x444d'4163, 0x6974'6e65}},
                       {1, 0, {0x60fb1, 0x4'0800, 0xf6d8'320b, 0x1fcb'fbfd}},
                       {0xb, 0, {0, 1, 0x100, 0}},
                       {0xb, 1, {2, 4, 0x201, 0}},
                       {0xb, 2, {0, 0, 2, 0}},
                       {0x1f, 0, {0x21f, 0x240, 0xa88, 0}},
                       {0x1f, 1, {5, 0x3c8, 0, 0}}}};
// -smp 12,sockets=2,cores=3,threads=2
const recording max_12{{{0, 0, {0xd, amd, 0x444d'4163, 0x6974'6e65}},
                        {1, 0, {0x60fb1, 0x6'0800, 0xf6d8'320b, 0x1fcb'fbfd}},
                        {0xb, 0, {1, 2, 0x100, 0}},
                        {0xb, 1, {3, 6, 0x201, 0}},
                        {0xb, 2, {0, 0, 2, 0}},
                        {0x1f, 0, {0x21f, 0x240, 0xa88, 0}}}};
// -smp 255
const recording qemu64_255{{{0, 0, {0xd, amd, 0x444d'4163, 0x6974'6e65}},
                            {1, 0, {0x60fb1, 0xff'0800, 0x8000'2001, 0x178b'fbfd}},
                            {0xb, 0, {0, 1, 0x100, 0}},
                            {0xb, 1, {8, 0xff, 0x201, 0}},
                            {0xb, 2, {0, 0, 2, 0}}}};
// -cpu Skylake-Server -smp 16,sockets=2,dies=2,cores=2,threads=2
const recording skylake_dies{{{0, 0, {0x1f, intel, 0x6c65'746e, 0x4965'6e69}},
                              {1, 0, {0x50654, 0x4'0800, 0xf6d8'3203, 0x178b'fbfd}},
                              {0xb, 0, {1, 2, 0x100, 0}},
                              {0xb, 1, {3, 4, 0x201, 0}},
                              {0x1f, 0, {1, 2, 0x100, 0}},
                              {0x1f, 1, {2, 4, 0x201, 0}},
                              {0x1f, 2, {3, 8, 0x502, 0}},
                              {0x1f, 3, {0, 0, 3, 0}}}};
// The same shape as max_12 with cpuid-0xb=off, as Skylake-Server, EPYC, and qemu64.
const recording skylake_old{{{0, 0, {0xd, intel, 0x6c65'746e, 0x4965'6e69}},
                             {1, 0, {0x50654, 0x6'0800, 0xf6d8'3203, 0x178b'fbfd}},
                             {4, 0, {0x0800'0121, 0x1c0'003f, 0x3f, 1}},
                             {0x1f, 0, {0x2e7, 0x240, 0xa88, 0}},
                             {extended, 0, {0x8000'0008, intel, 0x6c65'746e, 0x4965'6e69}},
                             {extended + 8, 0, {0x3028, 0, 0x3005, 0}}}};
recording epyc_old(std::uint32_t vendor, std::uint32_t features)
{
    return {{{0, 0, {0xd, vendor, 0x444d'4163, 0x6974'6e65}},
             {1, 0, {0x80'0f12, 0x6'0800, 0xf6d8'320b, 0x178b'fbfd}},
             {0x1f, 0, {7, 0x240, 0x340, 0}},
             {extended, 0, {0x8000'001e, vendor, 0x444d'4163, 0x6974'6e65}},
             {extended + 1, 0, {0x80'0f12, 0, 0x77 | features, 0x2dd3'fbfd}},
             {extended + 8, 0, {0x3028, 0, 0x3005, 0}},
             {extended + 0x1e, 0, {0, 0x100, 0, 0}}}};
}
const recording qemu64_old{{{0, 0, {0xd, amd, 0x444d'4163, 0x6974'6e65}},
                            {1, 0, {0x60fb1, 0x6'0800, 0x8000'2001, 0x178b'fbfd}},
                            {extended, 0, {0x8000'000a, amd, 0x444d'4163, 0x6974'6e65}},
                            {extended + 1, 0, {0x60fb1, 0, 7, 0x2193'fbfd}},
                            {extended + 8, 0, {0x3028, 0, 0x3005, 0}}}};
// Public dumps: an efficient core of an Alder Lake, which has no threads but ids for them, and an Emerald Rapids.
const recording alder_lake{{{0, 0, {0x20, intel, 0x6c65'746e, 0x4965'6e69}},
                            {0x1f, 0, {1, 1, 0x100, 0x4c}},
                            {0x1f, 1, {7, 0x14, 0x201, 0x4c}},
                            {0x1f, 2, {0, 0, 2, 0x4c}}}};
const recording emerald_rapids{{{0, 0, {0x20, intel, 0x6c65'746e, 0x4965'6e69}},
                                {0x1f, 0, {1, 2, 0x100, 4}},
                                {0x1f, 1, {7, 0x80, 0x201, 4}},
                                {0x1f, 2, {0, 0, 2, 4}}}};

constexpr apic_id_layout layout(unsigned core_shift, unsigned package_shift) { return {core_shift, package_shift}; }

constexpr auto constant = [](std::uint32_t function, std::uint32_t index) -> cpuid_leaf {
    if (function == 0)
        return {0xb, 0, 0, 0};
    if (function == 0xb && index < 2)
        return {index == 0 ? 1u : 4u, 2, index == 0 ? 0x100u : 0x201u, 0x2a};
    return {};
};
static_assert(apic_id_layout::read(constant) == apic_id_layout{1, 4});
static_assert(apic_id(constant) == 0x2a);

cpu_set cpus_of(std::initializer_list<unsigned> list)
{
    cpu_set set;
    for (const unsigned cpu : list)
        set.add(cpu);
    return set;
}

} // namespace

TEST_CASE("APIC ids are split as the leaves of extended topology say")
{
    CHECK(apic_id_layout::read(qemu64_1) == layout(0, 0));
    CHECK(apic_id_layout::read(max_4) == layout(0, 2));
    CHECK(apic_id_layout::read(max_12) == layout(1, 3));
    CHECK(apic_id_layout::read(qemu64_255) == layout(0, 8));
    CHECK(apic_id_layout::read(skylake_dies) == layout(1, 3));
    CHECK(apic_id_layout::read(alder_lake) == layout(1, 7));
    CHECK(apic_id_layout::read(emerald_rapids) == layout(1, 7));
    CHECK(apic_id(alder_lake) == 0x4c);
    CHECK(apic_id(emerald_rapids) == 4);

    // 0x1F is asked before 0xB; not, where it is empty.
    recording both{{{0, 0, {0x1f, intel, 0, 0}},
                    {0xb, 0, {1, 2, 0x100, 0x11}},
                    {0xb, 1, {4, 16, 0x201, 0x11}},
                    {0x1f, 0, {2, 4, 0x100, 0x22}},
                    {0x1f, 1, {3, 8, 0x201, 0x22}},
                    {0x1f, 2, {6, 64, 0x602, 0x22}}}};
    CHECK(apic_id_layout::read(both) == layout(2, 6));
    CHECK(apic_id(both) == 0x22);
    for (const cpuid_leaf& empty : {cpuid_leaf{}, cpuid_leaf{2, 0, 0x100, 0x22}, cpuid_leaf{2, 4, 0, 0x22}}) {
        both.leaves[3].words = empty;
        CHECK(apic_id_layout::read(both) == layout(1, 4));
        CHECK(apic_id(both) == 0x11);
    }
}

TEST_CASE("APIC ids are split by the numbers of ids where these leaves are missing")
{
    CHECK(apic_id_layout::read(skylake_old) == layout(1, 3));
    CHECK(apic_id_layout::read(epyc_old(amd, 0)) == layout(0, 3)); // threads are unknown
    CHECK(apic_id_layout::read(epyc_old(amd, topology_extensions)) == layout(1, 3));
    CHECK(apic_id_layout::read(epyc_old(hygon, topology_extensions)) == layout(1, 3));
    CHECK(apic_id_layout::read(qemu64_old) == layout(0, 3));
    CHECK(apic_id(epyc_old(amd, 0)) == 0);

    // By the manuals. A Pentium 4 with two threads, which answers to leaf 4 with its last one, 2:
    const recording pentium_4{{{0, 0, {2, intel, 0, 0}},
                               {1, 0, {0xf29, 0x0502'0800, 0, htt}},
                               {2, 0, {0x665b'5001, 0, 0, 0x7a'7040}},
                               {4, 0, {0x665b'5001, 0, 0, 0x7a'7040}}}};
    CHECK(apic_id_layout::read(pentium_4) == layout(1, 1));
    CHECK(apic_id(pentium_4) == 5);
    // One thread in the package, whatever else is there:
    CHECK(apic_id_layout::read(recording{{{0, 0, {4, intel, 0, 0}}, {1, 0, {0, 0x0504'0800, 0, 0}}}}) == layout(0, 0));
    // An AMD of four cores that gives their number only:
    CHECK(apic_id_layout::read(recording{{{0, 0, {5, amd, 0, 0}},
                                          {1, 0, {0, 0x0004'0800, 0, htt}},
                                          {extended, 0, {extended + 8, amd, 0, 0}},
                                          {extended + 8, 0, {0, 0, 3, 0}}}}) == layout(0, 2));
}

TEST_CASE("CPUID that contradicts itself gives a layout all the same")
{
    const auto of = [](auto leaf) {
        const auto found = apic_id_layout::read(leaf);
        CHECK(found.core_shift <= found.package_shift);
        CHECK(found.package_shift < 32);
        return found;
    };
    // Levels without an end, and such as become smaller.
    unsigned asked = 0;
    CHECK(of([&](std::uint32_t function, std::uint32_t) -> cpuid_leaf {
              ++asked;
              return function == 0 ? cpuid_leaf{0xb, 0, 0, 0} : cpuid_leaf{3, 2, 0x100, 0};
          }) == layout(3, 3));
    CHECK(asked < 20);
    CHECK(of(recording{{{0, 0, {0xb, 0, 0, 0}}, {0xb, 0, {5, 2, 0x100, 0}}, {0xb, 1, {3, 8, 0x201, 0}}}}) ==
          layout(5, 5));
    // More cores than ids.
    CHECK(of(recording{{{0, 0, {4, intel, 0, 0}}, {1, 0, {0, 0x0004'0000, 0, htt}}, {4, 0, {0xfc00'0021, 0, 0, 0}}}}) ==
          layout(0, 2));
    std::mt19937 random{1};
    for (unsigned i = 0; i < 20000; ++i) {
        const auto seed = static_cast<std::uint32_t>(random());
        of([=](std::uint32_t function, std::uint32_t index) -> cpuid_leaf {
            std::mt19937 r{seed ^ function * 31 ^ index * 977};
            cpuid_leaf leaf{static_cast<std::uint32_t>(r()), static_cast<std::uint32_t>(r()),
                            static_cast<std::uint32_t>(r()), static_cast<std::uint32_t>(r())};
            if (function == 0)
                leaf = {seed % 0x30, seed % 2 ? amd : intel, 0, 0};
            if (function == extended)
                leaf.eax = extended + (seed >> 8) % 0x30;
            return leaf;
        });
    }
}

TEST_CASE("a topology from APIC ids: threads of a core, packages, nodes, the machine")
{
    constexpr apic_id_layout ids{1, 3};
    std::vector<cpu_place> places; // two packages of three cores at each of two nodes
    for (const unsigned package : {0, 1, 2, 3})
        for (unsigned i = 0; i < 6; ++i)
            places.push_back({package << 3 | i, package / 2});
    const cpu_topology<> t{ids, places};
    laws::check_topology(t);
    REQUIRE(t.cpu_count() == 24);
    REQUIRE(t.level_count() == 4);
    CHECK(t.domain(3, 0) == cpus_of({2, 3}));
    CHECK(t.domain(3, 1) == cpu_set::first(6));
    CHECK(t.domain(3, 2) == cpu_set::first(12));
    CHECK(t.domain(13, 1) == cpus_of({12, 13, 14, 15, 16, 17}));
    CHECK(t.domain(3, 3) == cpu_set::first(24));

    // Two nodes in each package: the node is the smaller one.
    for (unsigned i = 0; i < places.size(); ++i)
        places[i].node = i / 2 % 3 == 0 ? i / 6 * 2 : i / 6 * 2 + 1;
    const cpu_topology<> clusters{ids, places};
    laws::check_topology(clusters);
    REQUIRE(clusters.level_count() == 4);
    CHECK(clusters.domain(3, 1) == cpus_of({2, 3, 4, 5}));
    CHECK(clusters.domain(3, 2) == cpu_set::first(6));

    // Cores with and without threads.
    const std::vector<cpu_place> hybrid{{0, 0}, {1, 0}, {8, 0}, {10, 0}, {12, 0}};
    const cpu_topology<> mixed{apic_id_layout{1, 7}, hybrid};
    laws::check_topology(mixed);
    REQUIRE(mixed.level_count() == 2);
    CHECK(mixed.domain(1, 0) == cpus_of({0, 1}));
    CHECK(mixed.domain(2, 0) == cpus_of({2}));

    const cpu_topology<> one{ids, std::vector<cpu_place>{{7, 3}}};
    laws::check_topology(one);
    CHECK(one.level_count() == 1);
    // Packages that the ids do not tell apart from cores: one level for both.
    const cpu_topology<> flat{apic_id_layout{0, 0}, std::vector<cpu_place>{{0, 0}, {1, 0}, {2, 0}}};
    CHECK(flat.level_count() == 1);
}

TEST_CASE("a topology keeps its laws whatever the ids are")
{
    std::mt19937 random{1};
    const auto below = [&](unsigned end) { return static_cast<unsigned>(random() % end); };
    for (unsigned i = 0; i < 300; ++i) {
        const unsigned core = below(4);
        const apic_id_layout ids{core, core + below(4)};
        std::vector<cpu_place> places(1 + below(40));
        const unsigned spread = 1 + below(200), nodes = 1 + below(12);
        for (auto& place : places)
            place = {below(spread), below(nodes)};
        laws::check_topology(cpu_topology<>{ids, places});
    }
    // As many domains as there can be: a core of two threads, pairs, fours, eights, the machine.
    std::vector<cpu_place> all(cpu_set::limit);
    for (unsigned i = 0; i < all.size(); ++i)
        all[i] = {i / 4 << 3 | (i % 4) << 1, i % 4 < 2 ? i / 8 : 1000 + i / 4};
    all[1].apic_id = 1;
    const cpu_topology<> full{apic_id_layout{1, 3}, all};
    CHECK(full.level_count() == 5);
    CHECK(full.domain(9, 3).size() == 8);
    laws::check_topology(full);
    // And as few joined at each level as there can be: most domains are those of the level below.
    for (unsigned i = 3; i < all.size(); ++i)
        all[i] = {i * 16, i};
    all[2] = {8, 0};
    all[3].node = 0;
    const cpu_topology<> sparse{apic_id_layout{1, 4}, all};
    CHECK(sparse.level_count() == 4);
    CHECK(sparse.domain(0, 0).size() == 2);
    CHECK(sparse.domain(0, 1).size() == 3);
    CHECK(sparse.domain(0, 2).size() == 4);
    CHECK(sparse.domain(200, 2).size() == 1);
    laws::check_topology(sparse);
}

TEST_CASE("the balancer finds near CPUs by a topology from APIC ids")
{
    std::vector<cpu_place> places;
    for (unsigned id = 0; id < 8; ++id)
        places.push_back({id ^ 5, id / 4}); // CPU 0 is the one with id 5
    const cpu_topology<> topology{apic_id_layout{1, 2}, places};
    using balancer = sched::balancer<cpu_topology<>>;
    std::vector<balancer::notice> notices(8);
    balancer b{topology, notices[0], sizeof(notices[0])};
    for (unsigned cpu = 0; cpu < 8; ++cpu)
        b.publish(cpu, 1000, false, balancer::idle_rank);
    for (const unsigned cpu : {1u, 3u, 6u})
        b.publish(cpu, balancer::idle_rank, false, balancer::idle_rank);
    CHECK(b.claim_idle(0, cpu_set::first(8)) == 1); // id 4, the other thread
    CHECK(b.claim_idle(0, cpu_set::first(8)) == 3); // of the package
    CHECK(b.claim_idle(0, cpu_set::first(8)) == 6);
    CHECK_FALSE(b.claim_idle(0, cpu_set::first(8)));
}
