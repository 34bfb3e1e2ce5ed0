#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include <exo/base/tree.hpp>

using namespace exo;

namespace {

struct item {
    int number{};
    int serial{};
    tree_hook hook;

    int negated() const { return -number; }
};

constexpr auto by_pair = [](const item& i) { return std::pair{i.number, i.serial}; };
using by_number = tree<item, &item::hook, &item::number>;
using descending = tree<item, &item::hook, &item::negated>;
using by_both = tree<item, &item::hook, by_pair>;

template <class Tree>
std::vector<std::pair<int, int>> contents(const Tree& t)
{
    std::vector<std::pair<int, int>> found;
    for (const item& i : t)
        found.emplace_back(i.number, i.serial);
    return found;
}

struct linked_number : tree_hook {
    int number{};
};

// A tree that shows how it is built.
class shape : public tree_links {
public:
    ~shape()
    {
        while (root_)
            unlink(*root_);
    }

    void insert(linked_number& added)
    {
        tree_hook* parent = nullptr;
        bool to_left = false;
        for (tree_hook* at = root_; at; at = to_left ? left(at) : right(at)) {
            parent = at;
            to_left = added.number < static_cast<linked_number*>(at)->number;
        }
        link(added, parent, to_left);
    }
    void erase(linked_number& erased) { unlink(erased); }

    // How many levels there are; negative if two subtrees of one element differ by more than one.
    int balanced_height() const { return balanced_height(root_); }

private:
    static int balanced_height(const tree_hook* at)
    {
        if (!at)
            return 0;
        const int l = balanced_height(left(at)), r = balanced_height(right(at));
        return l < 0 || r < 0 || l - r > 1 || r - l > 1 ? -1 : std::max(l, r) + 1;
    }
};

} // namespace

TEST_CASE("an empty tree has no elements and no bounds")
{
    by_number t;
    CHECK(t.empty());
    CHECK(t.first() == nullptr);
    CHECK(t.last() == nullptr);
    CHECK(t.pop_first() == nullptr);
    CHECK(t.lower_bound(0) == nullptr);
    CHECK(t.find(0) == nullptr);
    CHECK(t.begin() == t.end());
}

TEST_CASE("elements with equal keys stand in the order of insertion, by any kind of projection")
{
    std::vector<item> items(6);
    const int numbers[] = {2, 1, 2, 3, 1, 2};
    for (int i = 0; i < 6; ++i) {
        items[i].number = numbers[i];
        items[i].serial = i;
    }
    const auto fill_and_read = [&](auto tree) {
        for (item& i : items)
            tree.insert(i);
        auto found = contents(tree);
        while (tree.pop_first())
            ;
        return found;
    };
    using rows = std::vector<std::pair<int, int>>;
    CHECK(fill_and_read(by_number{}) == rows{{1, 1}, {1, 4}, {2, 0}, {2, 2}, {2, 5}, {3, 3}});
    CHECK(fill_and_read(descending{}) == rows{{3, 3}, {2, 0}, {2, 2}, {2, 5}, {1, 1}, {1, 4}});
    CHECK(fill_and_read(by_both{}) == rows{{1, 1}, {1, 4}, {2, 0}, {2, 2}, {2, 5}, {3, 3}});
}

TEST_CASE("a tree answers as a sorted vector does, under random insertions and erasures")
{
    for (unsigned seed = 0; seed < 20; ++seed) {
        std::mt19937 random{seed};
        by_number t;
        std::vector<item> items(300);
        std::vector<item*> model; // in order
        const auto less = [](const item* a, const item* b) { return a->number < b->number; };
        int serial = 0;
        for (int step = 0; step < 3000; ++step) {
            item& i = items[random() % items.size()];
            if (i.hook.linked()) {
                t.erase(i);
                model.erase(std::find(model.begin(), model.end(), &i));
            } else {
                i.number = static_cast<int>(random() % 100);
                i.serial = ++serial;
                t.insert(i);
                model.insert(std::upper_bound(model.begin(), model.end(), &i, less), &i);
            }
            REQUIRE(t.first() == (model.empty() ? nullptr : model.front()));
            REQUIRE(t.last() == (model.empty() ? nullptr : model.back()));
            const int probe = static_cast<int>(random() % 102) - 1;
            const auto at_least = std::find_if(model.begin(), model.end(), [&](item* x) { return x->number >= probe; });
            const auto above = std::find_if(model.begin(), model.end(), [&](item* x) { return x->number > probe; });
            REQUIRE(t.lower_bound(probe) == (at_least == model.end() ? nullptr : *at_least));
            REQUIRE(t.upper_bound(probe) == (above == model.end() ? nullptr : *above));
            REQUIRE(t.find(probe) == (at_least != above ? *at_least : nullptr));
            if (step % 50 == 0) {
                std::vector<item*> forward, backward;
                for (item* at = t.first(); at; at = by_number::next(*at))
                    forward.push_back(at);
                for (item* at = t.last(); at; at = by_number::previous(*at))
                    backward.push_back(at);
                std::reverse(backward.begin(), backward.end());
                REQUIRE(forward == model);
                REQUIRE(backward == model);
            }
        }
        while (t.pop_first())
            ;
    }
}

TEST_CASE("the subtrees of every element differ in height by one at most, after every insertion and erasure")
{
    std::vector<linked_number> items(200);
    for (int i = 0; i < 200; ++i)
        items[i].number = i;
    shape t;
    SUBCASE("in ascending order")
    {
        for (linked_number& i : items) {
            t.insert(i);
            REQUIRE(t.balanced_height() > 0);
        }
        for (linked_number& i : items) {
            t.erase(i);
            REQUIRE(t.balanced_height() >= 0);
        }
    }
    SUBCASE("from both ends inward, and out again")
    {
        for (int i = 0; i < 100; ++i) {
            t.insert(items[i]);
            REQUIRE(t.balanced_height() > 0);
            t.insert(items[199 - i]);
            REQUIRE(t.balanced_height() > 0);
        }
        for (int i = 99; i >= 0; --i) {
            t.erase(items[i]);
            REQUIRE(t.balanced_height() >= 0);
            t.erase(items[199 - i]);
            REQUIRE(t.balanced_height() >= 0);
        }
    }
    SUBCASE("at random, in trees of every size")
    {
        std::mt19937 random{1};
        for (int step = 0; step < 40'000; ++step) {
            linked_number& i = items[random() % (1 + step / 200)];
            i.linked() ? t.erase(i) : t.insert(i);
            REQUIRE(t.balanced_height() >= 0);
        }
    }
}

namespace {

struct summarized {
    int number{};
    int value{};
    int least{}; // value of all below and its own
    tree_hook hook;
};
constexpr auto least_below = [](summarized& i, const summarized* left, const summarized* right) {
    int least = i.value;
    for (const summarized* child : {left, right})
        if (child)
            least = std::min(least, child->least);
    return std::exchange(i.least, least) != least;
};
using by_number_with_least = tree<summarized, &summarized::hook, &summarized::number, least_below>;

// Checks every summary below `i` from what is there.
int check_least(const summarized& i)
{
    int least = i.value;
    for (const summarized* child : {by_number_with_least::left_of(i), by_number_with_least::right_of(i)})
        if (child)
            least = std::min(least, check_least(*child));
    REQUIRE(i.least == least);
    return least;
}

} // namespace

TEST_CASE("an augmented tree keeps every summary right, under random insertions, erasures and changes")
{
    for (unsigned seed = 0; seed < 20; ++seed) {
        std::mt19937 random{seed};
        std::vector<summarized> items(1 + random() % 200);
        by_number_with_least t;
        for (int step = 0; step < 2000; ++step) {
            summarized& i = items[random() % items.size()];
            const bool inside = i.hook.linked();
            if (inside && step % 3 != 0) {
                t.erase(i);
                continue;
            }
            i.value = static_cast<int>(random() % 1000);
            if (inside) {
                t.resummarize(i);
            } else {
                i.number = static_cast<int>(random() % 1000);
                t.insert(i);
            }
            if (t.root())
                check_least(*t.root());
        }
        while (t.pop_first())
            ;
    }
}
