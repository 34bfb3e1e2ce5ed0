// Frames given back when memory is short: who is asked, and who asks.

#include <doctest/doctest.h>

#include <vector>

#include <exo/mm/reclaim.hpp>
#include <exo/mm/shared_memory.hpp>

#include "space_world.hpp"

using namespace exo;
using namespace space_test;

namespace {

// Holds so many frames, and notes what it was asked for.
class holder final : public mm::reclaimable {
public:
    explicit holder(std::size_t held) : held_{held} {}
    std::size_t reclaim(std::size_t frames) noexcept override
    {
        asked.push_back(frames);
        const auto given = frames < held_ ? frames : held_;
        held_ -= given;
        return given;
    }
    std::vector<std::size_t> asked;

private:
    std::size_t held_;
};

// All that is free, until it is asked for some.
struct free_pages final : mm::reclaimable {
    explicit free_pages(mm::page_supply& of)
    {
        while (auto p = of.allocate_page())
            held.push_back(std::move(*p));
    }
    std::size_t reclaim(std::size_t frames) noexcept override
    {
        std::size_t given = 0;
        for (; given < frames && !held.empty(); ++given)
            held.pop_back();
        return given;
    }
    std::vector<mm::page> held;
};

TEST_CASE("holders are asked in turn, for what is still missing, and not when there is enough")
{
    no_waiting parker;
    mm::reclaimer reclaimer;
    CHECK(reclaimer.reclaim(parker, 5) == 0);
    holder first{3}, second{10}, third{1};
    reclaimer.add(parker, first);
    reclaimer.add(parker, second);
    reclaimer.add(parker, third);

    CHECK(reclaimer.reclaim(parker, 5) == 5);
    CHECK(first.asked == std::vector<std::size_t>{5});
    CHECK(second.asked == std::vector<std::size_t>{2});
    CHECK(third.asked.empty()); // whose turn it is next

    CHECK(reclaimer.reclaim(parker, 2) == 2);
    CHECK(third.asked == std::vector<std::size_t>{2});
    CHECK(first.asked == std::vector<std::size_t>{5, 1});
    CHECK(second.asked == std::vector<std::size_t>{2, 1});

    CHECK(reclaimer.reclaim(parker, 100) == 7); // all there is; everyone was asked twice
    CHECK(first.asked.size() == 4);
    reclaimer.remove(parker, first);
    CHECK(reclaimer.reclaim(parker, 1) == 0);
    CHECK(first.asked.size() == 4);
    CHECK(reclaimer.runs.value() == 5);
    CHECK(reclaimer.reclaimed.value() == 14);
    reclaimer.remove(parker, second);
    reclaimer.remove(parker, third);
}

TEST_CASE_TEMPLATE("a fault that finds no frame takes one that a holder gives back", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{64};

    auto s = w.make_space();
    w.activate(*s);
    constexpr std::uint64_t wanted = 8;
    const auto at = *s->map({.length = wanted * page_size});
    free_pages gives{w.pages};
    const auto held_before = gives.held.size();
    CHECK(s->handle_fault(at, mm::access::write).error() == errors::out_of_memory);

    w.memory.reclaimer.add(w.parker, gives);
    for (std::uint64_t i = 0; i < wanted; ++i)
        CHECK(w.store(*s, at + i * page_size, i));
    CHECK(gives.held.size() < held_before);
    CHECK(*w.load(*s, at + page_size) == 1);
    w.memory.reclaimer.remove(w.parker, gives);
    w.deactivate(*s);
}

TEST_CASE_TEMPLATE("shared memory is filled with what a holder gives back", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{64};
    auto s = w.make_space();
    w.activate(*s);
    constexpr std::uint64_t wanted = 8;
    const auto at =
        *s->map({.length = wanted * page_size,
                 .kind = mm::sharing::shared,
                 .backing = *mm::shared_memory::create(w.memory.heap, w.pages, w.parker, wanted * page_size)});
    CHECK(w.store(*s, at, 0));
    free_pages gives{w.pages};
    CHECK(w.store(*s, at + page_size, 1).error() == errors::out_of_memory);
    w.memory.reclaimer.add(w.parker, gives);
    for (std::uint64_t i = 1; i < wanted; ++i)
        CHECK(w.store(*s, at + i * page_size, i));
    CHECK(*w.load(*s, at + page_size) == 1);
    w.memory.reclaimer.remove(w.parker, gives);
    w.deactivate(*s);
}

TEST_CASE_TEMPLATE("a page that was fetched is not given back for the tables that lead to it", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{64};
    file of{w.pages, 1};

    // A cache of the file: a page that nobody else has goes.
    class cache final : public mm::reclaimable {
    public:
        cache(world<Format>& w, file& of) : w_{w}, of_{of} {}
        std::size_t reclaim(std::size_t) noexcept override
        {
            ++asked;
            auto& page = of_.contents[0];
            if (!page || w_.frames_.references(w_.pages.frame_of(page.data())) > 1 || asked > 10)
                return 0;
            page = {};
            return 1;
        }
        unsigned asked{};

    private:
        world<Format>& w_;
        file& of_;
    };

    auto s = w.make_space();
    w.activate(*s);
    const auto at = *s->map({.length = page_size, .backing = ref<mm::pager>{of}});
    cache gives{w, of};
    w.memory.reclaimer.add(w.parker, gives);
    free_pages rest{w.pages};
    rest.held.pop_back(); // enough for the page alone
    CHECK(s->handle_fault(at, mm::access::read).error() == errors::out_of_memory);
    CHECK(gives.asked <= 2);
    REQUIRE(of.contents[0]);
    rest.held.clear();
    CHECK(*w.load(*s, at) == file::initial(0));
    w.memory.reclaimer.remove(w.parker, gives);
    w.deactivate(*s);
    s.reset();
    of.contents.clear();
}

TEST_CASE_TEMPLATE("what has to part from shared tables first takes the frames for that from a holder", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{64};
    file of{w.pages, 4};
    auto s = w.make_space();
    w.activate(*s);
    const auto at = *s->map({.length = 4 * page_size, .backing = ref<mm::pager>{of}});
    for (std::uint64_t i = 0; i < 4; ++i)
        CHECK(w.store(*s, at + i * page_size, i));
    auto other = *s->fork();
    free_pages gives{w.pages};
    const virt_range last = virt_range::of_size(at + 3 * page_size, page_size);
    CHECK(of.shrink(w.parker, 2).error() == errors::out_of_memory);
    CHECK(s->protect(last, mm::protection::read).error() == errors::out_of_memory);
    CHECK(s->unmap(last).error() == errors::out_of_memory);

    w.memory.reclaimer.add(w.parker, gives);
    CHECK(of.shrink(w.parker, 2));
    CHECK(w.load(*s, at + 2 * page_size).error() == mm::beyond_end);
    CHECK(*w.load(*s, at + page_size) == 1);
    auto third = *s->fork();
    CHECK(s->protect(last, mm::protection::read));
    CHECK(s->unmap(last));
    w.memory.reclaimer.remove(w.parker, gives);
    w.deactivate(*s);
    third.reset();
    other.reset();
    s.reset();
    of.contents.clear();
}

} // namespace
