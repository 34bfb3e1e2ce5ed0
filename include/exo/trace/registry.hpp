// Metrics by name: what the rooms of a kernel count, in one list that tests and exporters read.
//
// A room describes its counters once, in a table; a source binds the table to the objects that count, one for each CPU
// or just one. Names follow Prometheus: exo_<room>_<what>[_<unit>][_total]. Sources come and go only while nobody
// reads.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <exo/base/list.hpp>

namespace exo::trace {

enum class metric_kind : std::uint8_t {
    counter, // only grows
    gauge,
    histogram,
};

struct metric {
    std::string_view name;
    std::string_view help; // one line
    metric_kind kind;
    std::string_view sample{}; // of several that a name has, follows it: _sum, or _bucket{le="1024"}
};

class registry;

class source {
public:
    source() = default;
    source(const source&) = delete;
    source& operator=(const source&) = delete;

    [[nodiscard]] virtual std::size_t size() const noexcept = 0;
    [[nodiscard]] virtual metric describe(std::size_t index) const noexcept = 0;
    [[nodiscard]] virtual std::uint64_t read(std::size_t index) const noexcept = 0;

protected:
    inline ~source(); // leaves its registry

private:
    friend class registry;
    registry* registry_{};
    list_hook hook_;
};

class registry {
public:
    registry() = default;
    registry(const registry&) = delete;
    registry& operator=(const registry&) = delete;
    ~registry()
    {
        while (source* s = sources_.front())
            remove(*s);
    }

    // `s` is in no registry. It leaves at the latest when it ends.
    void add(source& s)
    {
        sources_.push_back(s);
        s.registry_ = this;
    }
    void remove(source& s)
    {
        sources_.erase(s);
        s.registry_ = nullptr;
    }

    // visit(const metric&, std::uint64_t value) for each, in the order of addition.
    template <class Visitor>
    void for_each(Visitor visit)
    {
        for (const source& s : sources_)
            for (std::size_t i = 0; i < s.size(); ++i)
                visit(s.describe(i), s.read(i));
    }

    // By its name and what follows that. None when nobody counts that.
    [[nodiscard]] std::optional<std::uint64_t> value(std::string_view name)
    {
        std::optional<std::uint64_t> found;
        for_each([&](const metric& m, std::uint64_t value) {
            if (name.starts_with(m.name) && name.substr(m.name.size()) == m.sample)
                found = value;
        });
        return found;
    }

private:
    list<source, &source::hook_> sources_;
};

source::~source()
{
    if (registry_)
        registry_->remove(*this);
}

// What several objects that count the same give together.
enum class combination : std::uint8_t { sum, least, greatest };

// A row of a room's table: a metric, and how to read it from the objects that count.
template <class Counters>
struct table_row {
    metric what;
    std::uint64_t (*read)(const Counters&) noexcept;
    combination together{};
};

// The row of the counter that is `Member` of Counters.
template <auto Member, class Counters>
[[nodiscard]] constexpr table_row<Counters> counts(std::string_view name, std::string_view help)
{
    return {{name, help, metric_kind::counter}, [](const Counters& c) noexcept { return (c.*Member).value(); }};
}

// The sum, or what else the row says, over `count` objects, not none, that lie `stride` bytes apart, of which the first
// is given: one for each CPU, say.
template <class Counters>
class table_source final : public source {
public:
    table_source(std::span<const table_row<Counters>> table, const Counters& first, std::size_t count = 1,
                 std::size_t stride = sizeof(Counters))
        : table_{table}, first_{reinterpret_cast<const std::byte*>(&first)}, count_{count}, stride_{stride}
    {
    }

    std::size_t size() const noexcept override { return table_.size(); }
    metric describe(std::size_t index) const noexcept override { return table_[index].what; }
    std::uint64_t read(std::size_t index) const noexcept override
    {
        const table_row<Counters>& row = table_[index];
        std::uint64_t all = row.read(*reinterpret_cast<const Counters*>(first_));
        for (std::size_t i = 1; i < count_; ++i) {
            const std::uint64_t one = row.read(*reinterpret_cast<const Counters*>(first_ + i * stride_));
            switch (row.together) {
            case combination::sum: all += one; break;
            case combination::least: all = one < all ? one : all; break;
            case combination::greatest: all = one > all ? one : all; break;
            }
        }
        return all;
    }

private:
    std::span<const table_row<Counters>> table_;
    const std::byte* first_;
    std::size_t count_;
    std::size_t stride_;
};

// One metric that is worked out when it is read.
template <class Read>
class computed_source final : public source {
public:
    computed_source(metric what, Read read) : what_{what}, read_{read} {}

    std::size_t size() const noexcept override { return 1; }
    metric describe(std::size_t) const noexcept override { return what_; }
    std::uint64_t read(std::size_t) const noexcept override { return read_(); }

private:
    metric what_;
    Read read_;
};

} // namespace exo::trace
