// Who decides what becomes of each thing found wrong in an ELF file.
//
// Laws of Diagnostics: report() is called once for each finding, in order of discovery, and returns whether the parser
// shall go on. A loader stops at the first (stop_at_first), a tool collects (collect_findings) or prints
// (print_findings).

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <exo/base/error.hpp>
#include <exo/base/static_vector.hpp>

namespace exo::elf {

struct finding {
    const error_kind* kind{};
    std::uint64_t offset{}; // of the field in the file
    std::uint64_t value{};  // what stands there
};

template <class T>
concept Diagnostics = requires(T& diagnostics, const finding& f) {
    { diagnostics.report(f) } -> std::same_as<bool>;
};

struct stop_at_first {
    bool report(const finding&) const { return false; }
};
static_assert(Diagnostics<stop_at_first>);

// Keeps the first `Capacity` findings and counts all of them.
template <std::size_t Capacity>
class collect_findings {
public:
    bool report(const finding& f)
    {
        (void)findings_.try_push_back(f);
        ++total_;
        return true;
    }
    [[nodiscard]] const static_vector<finding, Capacity>& findings() const { return findings_; }
    [[nodiscard]] std::size_t total() const { return total_; }

private:
    static_vector<finding, Capacity> findings_;
    std::size_t total_{};
};
static_assert(Diagnostics<collect_findings<1>>);

// Hands each finding to `print(kind message, offset, value)` and goes on.
template <class Print>
    requires std::invocable<Print&, std::string_view, std::uint64_t, std::uint64_t>
class print_findings {
public:
    explicit print_findings(Print print) : print_{print} {}
    bool report(const finding& f)
    {
        print_(f.kind->message, f.offset, f.value);
        return true;
    }

private:
    Print print_;
};

} // namespace exo::elf
