// The frame allocator's caches, which any CPU may use at any time, under every schedule with few interruptions.

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <vector>

#include <exo/mm/frame_allocator.hpp>
#include <exo/sim/explored_atomics.hpp>
#include <exo/sim/explored_cpus.hpp>

#include <exploring.hpp>

using namespace exo;

namespace {

// Frames that CPU 0 has freed last, so that they lie in its cache.
struct sharing_frames : sim::scenario {
    using allocator = mm::frame_allocator<sim::explored_cpus, sim::explored_cpus, sim::explored_atomics>;

    sharing_frames(unsigned cpu_count, std::size_t frame_count)
        : cpus{cpu_count}, records(frame_count), caches(cpu_count), used_by(frame_count)
    {
        frames.add(phys_range::of_size(first.address(), frame_count * page_size));
        std::vector<frame_number> all;
        while (const auto f = frames.allocate(0))
            all.push_back(*f);
        for (const auto f : all)
            frames.free(f, 0);
    }
    unsigned threads() const override { return cpus.cpu_limit(); }

    std::optional<frame_number> take(unsigned order = 0)
    {
        const auto f = frames.allocate(order);
        if (!f)
            return {};
        for (std::size_t i = 0; i < std::size_t{1} << order; ++i)
            require(!std::exchange(used_by[*f - first + i], char{1}), "a frame is handed out twice");
        return *f;
    }
    void give(frame_number f, unsigned order = 0)
    {
        for (std::size_t i = 0; i < std::size_t{1} << order; ++i)
            used_by[f - first + i] = 0;
        frames.free(f, order);
    }
    void check() override
    {
        require(frames.free_frames() == records.size(), "frames are lost, or counted twice");
        std::size_t count = 0;
        while (take())
            ++count;
        require(count == records.size(), "not every frame can be had again");
    }

    static constexpr frame_number first{1024};
    sim::explored_cpus cpus;
    std::vector<allocator::frame_info> records;
    std::vector<allocator::frame_cache> caches;
    allocator frames{cpus, cpus, first, records, caches};
    std::vector<char> used_by;
};

// As many as there are, each of which a CPU other than the one that caches it may want.
template <unsigned Cpus, int Times>
struct one_each : sharing_frames {
    one_each() : sharing_frames{Cpus, Cpus} {}
    void run(unsigned) override
    {
        for (int i = 0; i < Times; ++i) {
            const auto f = take();
            require(f.has_value(), "an allocation failed beside a free frame");
            give(*f);
        }
    }
};

// A block joins from what the caches hold, or the allocation fails; single frames are never kept from anybody by that.
struct block_and_frame : sharing_frames {
    block_and_frame() : sharing_frames{2, 4} {}
    void run(unsigned thread) override
    {
        const unsigned order = thread == 0 ? 0 : 1;
        const auto f = take(order);
        require(f.has_value() || order != 0, "an allocation failed beside a free frame");
        if (f)
            give(*f, order);
    }
};

} // namespace

TEST_CASE("CPUs that empty each other's caches hand out each frame once, and lose none")
{
    CHECK_CLEAN(explore<one_each<2, 1>>(3, 1));
    CHECK_CLEAN(explore<one_each<2, 2>>(3, 1));
    CHECK_CLEAN(explore<one_each<3, 1>>(1, 1));
    CHECK_CLEAN(explore<block_and_frame>(2, 1));
}
