#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/endian.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/list.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/base/ring.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/base/time.hpp>

using namespace exo;

namespace {

struct element {
    int id{};
    list_hook hook;
    list_hook other_hook;
};
using elements = list<element, &element::hook>;
using others = list<element, &element::other_hook>;

template <class List>
std::vector<int> ids(List& l)
{
    std::vector<int> found;
    for (element& e : l)
        found.push_back(e.id);
    return found;
}

// Counts what is alive, and what was moved from.
struct counted {
    explicit counted(int v = 0) : value{v} { ++alive; }
    counted(const counted& o) : value{o.value} { ++alive; }
    counted& operator=(const counted&) = default;
    ~counted() { --alive; }
    int value;
    static inline int alive = 0;
};

// Memory from malloc, of which only so many blocks are given out.
class limited final : public allocator {
public:
    explicit limited(int blocks) : left{blocks} {}
    ~limited() { CHECK(used == 0); }
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        if (left == 0)
            return nullptr;
        --left;
        used += bytes;
        return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    }
    void deallocate(void* memory, std::size_t bytes, std::size_t) noexcept override
    {
        used -= bytes;
        std::free(memory);
    }
    int left;
    std::size_t used{};
};

class shared : public ref_counted {
public:
    explicit shared(std::string& l) : log{l} {}
    std::string& log;

protected:
    void last_reference() noexcept override { log += 'x'; }
};
class special final : public shared {
public:
    using shared::shared;
};

inline constexpr error_kind odd{"test", "odd", "the number is odd", posix::dom, severity::caller, recovery::fix_input};

result<int> half(int n)
{
    if (n % 2)
        return fail(odd, static_cast<std::uint64_t>(n));
    return n / 2;
}
result<int> quarter(int n)
{
    const int once = EXO_TRY(half(n));
    return EXO_TRY(half(once));
}
result<> check_quarter(int n)
{
    (void)EXO_TRY(quarter(n));
    return {};
}

} // namespace

TEST_CASE("a list keeps order under every kind of insertion and removal")
{
    element e[6];
    for (int i = 0; i < 6; ++i)
        e[i].id = i;
    elements l;
    CHECK(l.empty());
    CHECK(l.front() == nullptr);
    CHECK(l.back() == nullptr);
    CHECK(l.pop_front() == nullptr);
    l.push_back(e[2]);
    l.push_front(e[1]);
    l.push_front(e[0]);
    l.push_back(e[3]);
    l.push_back(e[4]);
    CHECK(ids(l) == std::vector{0, 1, 2, 3, 4});
    CHECK(l.front() == &e[0]);
    CHECK(l.back() == &e[4]);
    l.erase(e[2]);
    CHECK(!e[2].hook.linked());
    CHECK(l.pop_front() == &e[0]);

    others second; // by another hook an element may be on another list at the same time
    second.push_back(e[1]);
    elements more;
    more.push_back(e[0]);
    more.push_back(e[5]);
    l.splice_back(more);
    CHECK(more.empty());
    l.splice_back(more);
    CHECK(ids(l) == std::vector{1, 3, 4, 0, 5});
    more.splice_back(l);
    CHECK(l.empty());
    CHECK(ids(more) == std::vector{1, 3, 4, 0, 5});
    for (auto at = more.begin(); at != more.end();) {
        element& here = *at++; // an iterator survives the removal of an element that it has left
        more.erase(here);
    }
    CHECK(more.empty());
    CHECK(ids(second) == std::vector{1});
    second.erase(e[1]);
}

TEST_CASE("a list behaves as a deque does, under random use")
{
    std::mt19937 random{1};
    std::vector<element> all(50);
    elements l;
    std::deque<element*> model;
    for (int step = 0; step < 20'000; ++step) {
        element& e = all[random() % all.size()];
        if (e.hook.linked()) {
            l.erase(e);
            model.erase(std::find(model.begin(), model.end(), &e));
        } else if (random() % 2) {
            l.push_back(e);
            model.push_back(&e);
        } else {
            l.push_front(e);
            model.push_front(&e);
        }
        REQUIRE(l.front() == (model.empty() ? nullptr : model.front()));
        REQUIRE(l.back() == (model.empty() ? nullptr : model.back()));
    }
    for (element* e : model)
        REQUIRE(l.pop_front() == e);
}

TEST_CASE("a ring behaves as a deque does, under random use")
{
    std::mt19937 random{1};
    std::vector<element> all(50);
    ring<element, &element::hook> r;
    std::deque<element*> model;
    for (int step = 0; step < 20'000; ++step) {
        element& e = all[random() % all.size()];
        if (!model.empty() && random() % 8 == 0) {
            r.rotate();
            model.push_back(model.front());
            model.pop_front();
        } else if (e.hook.linked()) {
            r.erase(e);
            model.erase(std::find(model.begin(), model.end(), &e));
        } else if (const auto how = random() % 3; how == 0) {
            r.push_back(e);
            model.push_back(&e);
        } else if (how == 1 || model.empty()) {
            r.push_front(e);
            model.push_front(&e);
        } else {
            const auto place = model.begin() + static_cast<std::ptrdiff_t>(random() % model.size());
            r.insert_after(**place, e);
            model.insert(place + 1, &e);
        }
        REQUIRE(r.empty() == model.empty());
        REQUIRE(r.front() == (model.empty() ? nullptr : model.front()));
        REQUIRE(r.back() == (model.empty() ? nullptr : model.back()));
        std::deque<element*> visited;
        const std::size_t stop = random() % 60;
        const bool whole = r.visit([&](element& at) {
            visited.push_back(&at);
            return visited.size() <= stop;
        });
        REQUIRE(whole == (model.size() <= stop));
        REQUIRE(std::equal(visited.begin(), visited.end(), model.begin()));
        REQUIRE(visited.size() == std::min(model.size(), stop + 1));
        // Between rounds the ring runs empty at times.
        while (step % 2'000 == 1'999 && !model.empty()) {
            r.erase(*model.back());
            model.pop_back();
        }
    }
    for (element* e : model)
        r.erase(*e);
}

TEST_CASE("a static vector refuses what does not fit, and ends what it holds")
{
    {
        static_vector<counted, 3> v;
        CHECK(v.capacity() == 3);
        CHECK(v.empty());
        v.emplace_back(1);
        v.push_back(counted{2});
        CHECK(v.try_emplace_back(3));
        CHECK(v.full());
        CHECK(!v.try_push_back(counted{4}));
        CHECK(counted::alive == 3);
        static_vector<counted, 3> copy = v;
        v.pop_back();
        CHECK(v.size() == 2);
        CHECK(v.back().value == 2);
        CHECK(copy.size() == 3);
        CHECK(copy[2].value == 3);
        copy = v;
        CHECK(copy.size() == 2);
        CHECK(std::span<const counted>{copy}.size() == 2);
        int sum = 0;
        for (const counted& c : copy)
            sum += c.value;
        CHECK(sum == 3);
        v.clear();
        CHECK(counted::alive == 2);
    }
    CHECK(counted::alive == 0);
}

TEST_CASE("objects come from their allocator, go back to it, and nothing leaks when it has no more")
{
    limited memory{4};
    {
        auto first = make_owned<counted>(memory, 5);
        REQUIRE(first);
        CHECK((*first)->value == 5);
        owned<counted> moved = std::move(*first);
        CHECK(!*first);
        auto second = make_owned<counted>(memory, 6);
        REQUIRE(second);
        moved = std::move(*second); // ends what it held
        CHECK(moved->value == 6);
        CHECK(counted::alive == 1);
        counted* released = moved.release();
        delete_object(memory, released);
        CHECK(counted::alive == 0);

        auto array = owned_array<counted>::create(memory, 10);
        REQUIRE(array);
        CHECK(array->size() == 10);
        CHECK(counted::alive == 10);
        CHECK((*array)[9].value == 0);
        auto other = std::move(*array);
        CHECK(array->empty());
        CHECK(owned_array<counted>::create(memory, 0).value().empty()); // needs no memory
        CHECK(make_owned<counted>(memory).has_value());
        CHECK(memory.left == 0);
        const auto none = make_owned<counted>(memory);
        CHECK(none.error() == errors::out_of_memory);
        CHECK(none.error().context() == sizeof(counted));
        CHECK(owned_array<counted>::create(memory, 2).error() == errors::out_of_memory);
        CHECK(owned_array<counted>::create(memory, ~std::size_t{0} / 2).error() == errors::out_of_memory);
        CHECK(counted::alive == 10);
    }
    CHECK(counted::alive == 0);
}

TEST_CASE("the last reference ends an object, and only the last")
{
    std::string log;
    special object{log};
    {
        auto first = ref<special>::adopt(&object);
        CHECK(object.reference_count() == 1);
        ref<shared> base = first; // a reference to a derived object is one to its base
        CHECK(object.reference_count() == 2);
        CHECK(base.get() == &object);
        ref<special> taken = std::move(first);
        CHECK(!first);
        CHECK(object.reference_count() == 2);
        ref<special> again{object};
        CHECK(again == taken);
        const auto& alias = again;
        again = alias;
        CHECK(object.reference_count() == 3);
        special* leaked = again.leak();
        CHECK(!again);
        again = ref<special>::adopt(leaked);
        taken.reset();
        base = nullptr;
        CHECK(object.reference_count() == 1);
        CHECK(log.empty());
    }
    CHECK(log == "x");
}

TEST_CASE("an error travels through EXO_TRY with its kind and its context")
{
    CHECK(quarter(12) == 3);
    const auto first = quarter(7);
    CHECK(first.error() == odd);
    CHECK(first.error().context() == 7);
    CHECK(quarter(6).error().context() == 3);
    CHECK(check_quarter(8).has_value());
    const error e = check_quarter(5).error();
    CHECK(e == error{odd, 5});
    CHECK(!(e == error{odd, 6}));
    CHECK(!(e == errors::io_error));
    CHECK(e.errno_value() == posix::dom);
    CHECK(e.kind().hint == recovery::fix_input);
    CHECK(e.kind().name == "odd");
    static_assert(sizeof(error) == 16); // two registers
}

TEST_CASE("ordered integers lie in memory as their order says, at any alignment of their bytes")
{
    const auto bytes = [](auto v) {
        std::vector<int> b(sizeof(v));
        for (std::size_t i = 0; i < sizeof(v); ++i)
            b[i] = reinterpret_cast<const unsigned char*>(&v)[i];
        return b;
    };
    CHECK(bytes(le16{0x1234}) == std::vector{0x34, 0x12});
    CHECK(bytes(be16{0x1234}) == std::vector{0x12, 0x34});
    CHECK(bytes(le32{0x12345678u}) == std::vector{0x78, 0x56, 0x34, 0x12});
    CHECK(bytes(be32{0x12345678u}) == std::vector{0x12, 0x34, 0x56, 0x78});
    CHECK(bytes(be64{0x0102030405060708u}) == std::vector{1, 2, 3, 4, 5, 6, 7, 8});
    CHECK(bytes(le64{0x0102030405060708u}) == std::vector{8, 7, 6, 5, 4, 3, 2, 1});
    CHECK(be64{0x0102030405060708u} == 0x0102030405060708u);
    CHECK(be16{0xfffe}.value() == 0xfffe);
}

TEST_CASE("addresses of different spaces do not mix, and align to powers of two")
{
    static_assert(!std::is_convertible_v<phys_addr, virt_addr> && !std::is_convertible_v<std::uint64_t, phys_addr>);
    static_assert(!std::is_constructible_v<virt_addr, user_addr>);
    const virt_addr a{0x12345};
    CHECK(a.align_down(page_size) == virt_addr{0x12000});
    CHECK(a.align_up(page_size) == virt_addr{0x13000});
    CHECK(virt_addr{0x12000}.align_up(page_size) == virt_addr{0x12000});
    CHECK(a.is_aligned(1));
    CHECK(!a.is_aligned(2));
    CHECK((a + 0xbb) - a == 0xbb);
    CHECK(a - 0x45 == virt_addr{0x12300});
    CHECK(frame_number{phys_addr{0x5fff}}.value() == 5);
    CHECK((frame_number{5} + 2).address() == phys_addr{0x7000});
    CHECK(pages_for(0) == 0);
    CHECK(pages_for(1) == 1);
    CHECK(pages_for(4096) == 1);
    CHECK(pages_for(4097) == 2);
    CHECK(pages_for(~std::uint64_t{0}) == std::uint64_t{1} << 52);
}

TEST_CASE("ranges contain, overlap and intersect as half-open intervals do")
{
    using interval = range<unsigned>;
    for (unsigned a = 0; a < 5; ++a)
        for (unsigned b = a; b < 5; ++b)
            for (unsigned c = 0; c < 5; ++c)
                for (unsigned d = c; d < 5; ++d) {
                    const interval x{a, b}, y{c, d};
                    unsigned common = 0;
                    for (unsigned p = 0; p < 5; ++p) {
                        common += x.contains(p) && y.contains(p);
                        CHECK(x.contains(p) == (p >= a && p < b));
                    }
                    CHECK(x.intersection(y).size() == common);
                    if (!x.empty() && !y.empty()) {
                        CHECK(x.overlaps(y) == (common > 0));
                        CHECK(x.contains(y) == (common == y.size()));
                    }
                }
    CHECK(virt_range::of_size(virt_addr{0x1000}, 0x2000) == virt_range{virt_addr{0x1000}, virt_addr{0x3000}});
}

TEST_CASE("times add and compare, and what is too late is never")
{
    CHECK(milliseconds(2) + microseconds(3) == nanoseconds(2'003'000));
    CHECK(seconds(1) / 4 == milliseconds(250));
    CHECK(instant{100} + nanoseconds(-40) == instant{60});
    CHECK(instant{100} - instant{160} == nanoseconds(-60));
    CHECK(instant{~std::uint64_t{0} - 5} + nanoseconds(6) == instant::never());
    CHECK(instant::never() + seconds(1) == instant::never());
    CHECK(instant::never() > instant{} + seconds(9'000'000'000));
}
