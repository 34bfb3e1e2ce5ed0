// The virtio block driver against a device model: the laws of a block device, many requests at once, and devices that
// lie.

#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include <exo/drivers/pci.hpp>
#include <exo/drivers/virtio_blk.hpp>
#include <exo/sim/host_threads.hpp>
#include <laws/block_device_laws.hpp>

#include "virtio_blk_model.hpp"

using namespace exo;
using exo::test::misbehaviour;
using exo::test::virtio_blk_model;

namespace {

using disk = drivers::virtio_blk<test::model_registers, test::scattered_memory>;

class host_heap final : public allocator {
public:
    ~host_heap() { CHECK(live == 0); }
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        if (exhausted)
            return nullptr;
        ++live;
        return ::operator new(bytes, std::align_val_t{alignment});
    }
    void deallocate(void* memory, std::size_t, std::size_t alignment) noexcept override
    {
        --live;
        ::operator delete(memory, std::align_val_t{alignment});
    }
    bool exhausted{};
    int live{};
};

struct world {
    explicit world(std::size_t sectors = 4096, virtio_blk_model::options how = {}) : model{memory, sectors, how}
    {
        for (std::size_t i = 0; i < model.contents.size(); ++i)
            model.contents[i] = static_cast<std::byte>(i * 7 / 5 + i / 512);
    }
    ~world() { model.on_interrupt({}); }

    result<> open(duration timeout = seconds(100))
    {
        drivers::pci::function f{test::model_configuration{&model}};
        const auto map = [&](phys_range where) -> result<test::model_registers> {
            return test::model_registers{&model, where.begin.value()};
        };
        f.enable();
        const auto transport = EXO_TRY(drivers::virtio::transport<test::model_registers>::open(f, map));
        auto table = EXO_TRY(drivers::pci::msix_table<test::model_registers>::open(f, map));
        EXO_TRY(table.route(0, {0xfee0'0000, 0x40}));
        device = EXO_TRY(disk::create({heap, pages, memory, threads, timeout}, transport, 0));
        model.on_interrupt([d = device.get()] { d->on_interrupt(); });
        return {};
    }

    sim::host_threads threads;
    test::scattered_memory memory;
    test::test_pages pages{memory};
    host_heap heap;
    virtio_blk_model model;
    owned<disk> device;
};

} // namespace

TEST_CASE("virtio-blk keeps the laws of a block device")
{
    world w;
    REQUIRE(w.open());
    laws::check_block_device(*w.device);
}

TEST_CASE("virtio-blk reads and writes buffers of any alignment, in as many requests as it takes")
{
    for (const auto& [size_max, segments_max] :
         {std::pair{0u, 0u}, std::pair{0u, 3u}, std::pair{512u, 0u}, std::pair{1000u, 2u}, std::pair{65536u, 200u}}) {
        CAPTURE(size_max);
        CAPTURE(segments_max);
        world w{4096, {.size_max = size_max, .segments_max = segments_max}};
        REQUIRE(w.open());
        std::vector<std::byte> buffer(300 * 512 + 4096);
        for (const std::size_t shift : {0, 1, 100, 511, 4095}) {
            const std::span<std::byte> part{buffer.data() + shift, 300 * 512};
            REQUIRE(w.device->read(17, part));
            CHECK(std::memcmp(part.data(), w.model.contents.data() + 17 * 512, part.size()) == 0);
            for (std::byte& b : part)
                b ^= static_cast<std::byte>(0x5a + shift);
            REQUIRE(w.device->write(17, part));
            CHECK(std::memcmp(part.data(), w.model.contents.data() + 17 * 512, part.size()) == 0);
        }
    }
}

TEST_CASE("virtio-blk serves several threads at once")
{
    world w;
    REQUIRE(w.open());
    constexpr unsigned thread_count = 10, rounds = 4; // more threads than request slots
    std::array<bool, thread_count> good{};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < thread_count; ++t)
        threads.emplace_back([&, t] {
            bool all = true;
            std::vector<std::byte> out(5 * 512), in(5 * 512);
            for (unsigned i = 0; i < rounds; ++i) {
                const std::uint64_t sector = t * 300 + i * 5;
                for (std::size_t b = 0; b < out.size(); ++b)
                    out[b] = static_cast<std::byte>(b * 3 + t * 5 + i);
                all = all && w.device->write(sector, out) && w.device->read(sector, in) && in == out;
            }
            good[t] = all;
        });
    for (auto& thread : threads)
        thread.join();
    for (const bool g : good)
        CHECK(g);
    CHECK(w.model.requests == thread_count * rounds * 2);
}

TEST_CASE("virtio-blk flushes a device that caches, and only that")
{
    world caching, plain{4096, {.features = drivers::virtio::feature_version_1}};
    REQUIRE(caching.open());
    REQUIRE(plain.open());
    CHECK(caching.device->flush());
    CHECK(plain.device->flush());
    CHECK(caching.model.flushes == 1);
    CHECK(plain.model.requests == 0);
}

TEST_CASE("virtio-blk does not write to a device that cannot be written")
{
    world w{64, {.features = virtio_blk_model::usual_features | virtio_blk_model::feature_read_only}};
    REQUIRE(w.open());
    CHECK(w.device->read_only());
    std::vector<std::byte> sector(512);
    CHECK(w.device->write(0, sector).error() == errors::not_permitted);
    CHECK(w.device->read(0, sector));
    CHECK(w.model.requests == 1);
}

TEST_CASE("a request that the device fails is an I/O error, and the next one works")
{
    for (const auto how : {misbehaviour::fails, misbehaviour::unsupported}) {
        world w;
        REQUIRE(w.open());
        std::vector<std::byte> sector(512);
        w.model.next = how;
        const auto failed = w.device->read(9, sector);
        REQUIRE_FALSE(failed);
        CHECK(failed.error() == errors::io_error);
        CHECK(failed.error().context() == 9);
        w.model.next = misbehaviour::none;
        CHECK(w.device->read(9, sector));
    }
}

TEST_CASE("a device that breaks the protocol is stopped, and every request from then on is an I/O error")
{
    for (const auto how : {misbehaviour::claims_too_much, misbehaviour::unknown_descriptor,
                           misbehaviour::inside_of_chain, misbehaviour::idle_slot}) {
        CAPTURE(static_cast<int>(how));
        world w;
        REQUIRE(w.open());
        std::vector<std::byte> sector(512);
        REQUIRE(w.device->read(0, sector));
        w.model.next = how;
        CHECK(w.device->read(1, sector).error() == errors::io_error);
        CHECK(w.model.status == 0);
        w.model.next = misbehaviour::none;
        CHECK(w.device->read(1, sector).error() == errors::io_error);
        CHECK(w.device->flush().error() == errors::io_error);
        CHECK(w.model.requests == 2);
    }
}

TEST_CASE("a device that answers twice is stopped")
{
    world w;
    REQUIRE(w.open());
    std::vector<std::byte> sector(512);
    w.model.next = misbehaviour::answers_twice;
    (void)w.device->read(1, sector); // the first answer may be taken before the second is seen
    (void)w.device->read(1, sector);
    CHECK(w.device->read(1, sector).error() == errors::io_error);
    CHECK(w.model.status == 0);
}

TEST_CASE("a request without an answer times out, and the device is stopped")
{
    world w;
    REQUIRE(w.open(nanoseconds(1)));
    w.model.next = misbehaviour::silent;
    std::vector<std::byte> sector(512);
    CHECK(w.device->read(3, sector).error() == errors::io_error);
    CHECK(w.model.status == 0);
    CHECK(w.device->read(3, sector).error() == errors::io_error);
}

TEST_CASE("a device that lacks what the driver needs is refused, and nothing leaks")
{
    const virtio_blk_model::options bad[] = {
        {.features = virtio_blk_model::feature_flush},     // legacy only
        {.queue_size = 64},                                 // too small
        {.queue_size = 0},                                  // no queue
        {.size_max = 100},                                  // pieces below a sector
        {.segments_max = 1},                                // a sector may lie in two pages
        {.accepts_features = false},                        //
        {.accepts_vector = false},                          //
        {.modern = false},                                  // no modern windows
        {.notify_offset = 0x400},                           // a doorbell beyond its window
    };
    for (const auto& how : bad) {
        world w{64, how};
        const auto opened = w.open();
        REQUIRE_FALSE(opened);
        CHECK(opened.error() == drivers::virtio::not_agreed);
    }
    for (const bool heap : {false, true}) {
        world w;
        (heap ? w.heap.exhausted : w.pages.exhausted) = true;
        CHECK(w.open().error() == errors::out_of_memory);
    }
}

TEST_CASE("PCI: windows are measured at once and without being moved, and bad configurations are errors")
{
    world w;
    drivers::pci::function f{test::model_configuration{&w.model}};
    f.enable();
    w.model.decoding_turns = 0;
    CHECK(f.window(1).value() == phys_range::of_size(phys_addr{virtio_blk_model::table_base}, 0x1000));
    CHECK(f.window(4).value() == phys_range::of_size(phys_addr{virtio_blk_model::registers_base}, 0x4000));
    CHECK(f.window(1).value().begin.value() == virtio_blk_model::table_base);
    CHECK(f.window(0).error() == drivers::pci::malformed);
    CHECK(f.window(6).error() == drivers::pci::malformed);
    CHECK(f.part_of_window(4, 0x3000, 0x1000));
    CHECK(f.part_of_window(4, 0x3000, 0x1001).error() == drivers::pci::malformed);
    CHECK(f.part_of_window(4, 0xffff'ffff, 2).error() == drivers::pci::malformed);
    CHECK(f.part_of_window(4, 0, 0).error() == drivers::pci::malformed);
    CHECK(w.model.decoding_turns == 2);
    // Where a bridge has other registers, there is no window.
    w.model.write_configuration(0x0e, 1, 1);
    drivers::pci::function bridge{test::model_configuration{&w.model}};
    CHECK(bridge.window(1));
    CHECK(bridge.window(4).error() == drivers::pci::malformed);
    // A list of capabilities that runs in a circle ends.
    w.model.write_configuration(0x89, 1, 0x50);
    unsigned visited = 0;
    CHECK_FALSE(f.find_capability([&](std::uint8_t, std::uint32_t) {
        ++visited;
        return false;
    }));
    CHECK(visited == 48);
}
