// Sums of fractions, compared exactly: how much of the CPUs a set of threads uses.
//
// The sum is kept as a fraction as long as its denominator fits 63 bits, and beside that to 64 binary places from
// below. Where neither is enough to tell, the sum counts as larger: it is by less than one 2^-64th a term.

#pragma once

#include <cstdint>

namespace exo::sched {

__extension__ using wide = unsigned __int128;

struct quotient {
    std::uint64_t value;
    std::uint64_t remainder;
};
// The quotient fits; divisor < 2^63. A division of 128 bits is a call into a library that kernels do not have.
[[nodiscard]] constexpr quotient divide(wide dividend, std::uint64_t divisor)
{
    if (dividend >> 64 == 0) {
        const auto low = static_cast<std::uint64_t>(dividend);
        return {low / divisor, low % divisor};
    }
    quotient q{0, 0};
    for (unsigned bit = 128; bit-- > 0;) {
        q.remainder = q.remainder << 1 | static_cast<std::uint64_t>(dividend >> bit & 1);
        q.value <<= 1;
        if (q.remainder >= divisor) {
            q.remainder -= divisor;
            q.value |= 1;
        }
    }
    return q;
}

[[nodiscard]] constexpr std::uint64_t greatest_common_divisor(std::uint64_t a, std::uint64_t b)
{
    while (b != 0) {
        const std::uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

class utilization {
public:
    // part <= whole, 0 < whole < 2^63.
    constexpr void add(std::uint64_t part, std::uint64_t whole)
    {
        const quotient integer = divide(part, whole);
        const quotient places = divide(wide{integer.remainder} << 64, whole);
        from_below_ += (wide{integer.value} << 64) + places.value;
        cut_ += places.remainder != 0;
        if (exact_)
            exact_ = add_exactly(part, whole);
    }

    // Whether the sum is no more than count * part / whole, for part <= whole < 2^63.
    [[nodiscard]] constexpr bool at_most(unsigned count, std::uint64_t part, std::uint64_t whole) const
    {
        const quotient limit = divide(wide{count} * part, whole);
        if (exact_)
            return integer_ != limit.value ? integer_ < limit.value
                                           : wide{numerator_} * whole <= wide{limit.remainder} * denominator_;
        return from_above() <= (wide{limit.value} << 64) + divide(wide{limit.remainder} << 64, whole).value;
    }

    // In units of 2^-64, no less than the sum.
    [[nodiscard]] constexpr wide from_above() const { return from_below_ + cut_; }
    // Rounded up.
    [[nodiscard]] constexpr std::uint64_t millionths() const
    {
        constexpr std::uint64_t million = 1'000'000;
        if (!exact_)
            return static_cast<std::uint64_t>((from_above() * million + ~std::uint64_t{0}) >> 64);
        const quotient below_one = divide(wide{numerator_} * million, denominator_);
        return integer_ * million + below_one.value + (below_one.remainder != 0);
    }

private:
    static constexpr std::uint64_t denominator_limit = std::uint64_t{1} << 63;

    constexpr bool add_exactly(std::uint64_t part, std::uint64_t whole)
    {
        const std::uint64_t common = greatest_common_divisor(part, whole);
        part /= common;
        whole /= common;
        const std::uint64_t factor = whole / greatest_common_divisor(denominator_, whole);
        if (factor > denominator_limit / denominator_)
            return false;
        const std::uint64_t denominator = denominator_ * factor;
        numerator_ = numerator_ * factor + part * (denominator / whole);
        integer_ += numerator_ / denominator;
        numerator_ %= denominator;
        const std::uint64_t shared = greatest_common_divisor(numerator_, denominator);
        numerator_ /= shared;
        denominator_ = denominator / shared;
        return true;
    }

    wide from_below_{};
    std::uint64_t cut_{}; // terms that have more binary places
    bool exact_{true};
    std::uint64_t integer_{}; // the sum is integer_ + numerator_ / denominator_
    std::uint64_t numerator_{};
    std::uint64_t denominator_{1};
};

} // namespace exo::sched
