// JSON (RFC 8259) with the comments that rt-app allows, each value with the line on which it begins; members in order.
//
// Errors: malformed_json and repeated_key, with the line.

#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <exo/base/result.hpp>

#include "errors.hpp"

namespace sched_sim {

class json {
public:
    struct member;
    using array = std::vector<json>;
    using object = std::vector<member>;

    [[nodiscard]] static exo::result<json> parse(std::string_view text);

    [[nodiscard]] unsigned line() const { return line_; }
    // Errors: wrong_type.
    template <class T>
    [[nodiscard]] exo::result<const T*> as() const
    {
        if (const T* value = std::get_if<T>(&value_))
            return value;
        return exo::fail(errors::wrong_type, line_);
    }
    // Errors: wrong_type; out_of_range when it is not between `least` and `most`.
    [[nodiscard]] exo::result<std::int64_t> integer(std::int64_t least, std::int64_t most) const
    {
        const double value = *EXO_TRY(as<double>());
        if (value < static_cast<double>(least) || value > static_cast<double>(most))
            return exo::fail(errors::out_of_range, line_);
        const auto whole = static_cast<std::int64_t>(value);
        if (static_cast<double>(whole) != value)
            return exo::fail(errors::wrong_type, line_);
        return whole;
    }

private:
    friend class json_parser;
    std::variant<std::nullptr_t, bool, double, std::string, array, object> value_;
    unsigned line_{};
};

struct json::member {
    std::string key;
    unsigned line;
    json value;
};

class json_parser {
public:
    explicit json_parser(std::string_view text) : rest_{text} {}

    exo::result<json> document()
    {
        json value = EXO_TRY(this->value(0));
        EXO_TRY(skip_space());
        if (!rest_.empty())
            return malformed();
        return value;
    }

private:
    static constexpr unsigned depth_limit = 64;

    [[nodiscard]] std::unexpected<exo::error> malformed() const { return exo::fail(errors::malformed_json, line_); }

    exo::result<> skip_space()
    {
        for (;;) {
            if (rest_.starts_with("//")) {
                rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
            } else if (rest_.starts_with("/*")) {
                const auto end = rest_.find("*/", 2);
                if (end == rest_.npos)
                    return malformed();
                advance(end + 2);
            } else if (!rest_.empty() && std::string_view{" \t\r\n"}.contains(rest_.front())) {
                advance(1);
            } else {
                return {};
            }
        }
    }
    void advance(std::size_t count)
    {
        for (const char c : rest_.substr(0, count))
            line_ += c == '\n';
        rest_.remove_prefix(count);
    }
    bool take(std::string_view token)
    {
        if (!rest_.starts_with(token))
            return false;
        rest_.remove_prefix(token.size());
        return true;
    }

    exo::result<json> value(unsigned depth)
    {
        EXO_TRY(skip_space());
        json result;
        result.line_ = line_;
        if (depth == depth_limit || rest_.empty())
            return malformed();
        if (take("{"))
            result.value_ = EXO_TRY(members(depth));
        else if (take("["))
            result.value_ = EXO_TRY(elements(depth));
        else if (take("\""))
            result.value_ = EXO_TRY(string());
        else if (take("true"))
            result.value_ = true;
        else if (take("false"))
            result.value_ = false;
        else if (!take("null"))
            result.value_ = EXO_TRY(number());
        return result;
    }
    // What follows an opening bracket: read() for each element, commas between, and `close`.
    template <class Read>
    exo::result<> list(std::string_view close, Read read)
    {
        EXO_TRY(skip_space());
        if (take(close))
            return {};
        for (;;) {
            EXO_TRY(read());
            EXO_TRY(skip_space());
            if (take(close))
                return {};
            if (!take(","))
                return malformed();
        }
    }
    exo::result<json::array> elements(unsigned depth)
    {
        json::array result;
        EXO_TRY(list("]", [&]() -> exo::result<> {
            result.push_back(EXO_TRY(value(depth + 1)));
            return {};
        }));
        return result;
    }
    exo::result<json::object> members(unsigned depth)
    {
        json::object result;
        EXO_TRY(list("}", [&]() -> exo::result<> {
            EXO_TRY(skip_space());
            if (!take("\""))
                return malformed();
            const unsigned line = line_;
            std::string key = EXO_TRY(string());
            for (const json::member& other : result)
                if (other.key == key)
                    return exo::fail(errors::repeated_key, line);
            EXO_TRY(skip_space());
            if (!take(":"))
                return malformed();
            result.push_back({std::move(key), line, EXO_TRY(value(depth + 1))});
            return {};
        }));
        return result;
    }
    exo::result<double> number()
    {
        const std::string_view digits = rest_.substr(rest_.front() == '-');
        const bool starts_well = !digits.empty() && digits[0] >= '0' && digits[0] <= '9' &&
                                 !(digits[0] == '0' && digits.size() > 1 && digits[1] >= '0' && digits[1] <= '9');
        double result = 0;
        const auto [end, status] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), result);
        if (!starts_well || status != std::errc{} || end[-1] == '.')
            return malformed();
        rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
        return result;
    }
    // After the opening quote.
    exo::result<std::string> string()
    {
        std::string result;
        for (;;) {
            if (rest_.empty() || static_cast<unsigned char>(rest_.front()) < ' ')
                return malformed();
            const char c = rest_.front();
            rest_.remove_prefix(1);
            if (c == '"')
                return result;
            if (c == '\\')
                EXO_TRY(escape(result));
            else
                result += c;
        }
    }
    // After a backslash. \u stands for a character of the basic plane here; surrogates are refused.
    exo::result<> escape(std::string& to)
    {
        static constexpr std::string_view letters = "\"\\/bfnrt";
        static constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
        if (take("u")) {
            unsigned code = 0;
            if (rest_.size() < 4 || std::from_chars(rest_.data(), rest_.data() + 4, code, 16).ptr != rest_.data() + 4 ||
                (code >= 0xd800 && code < 0xe000))
                return malformed();
            rest_.remove_prefix(4);
            if (code >= 0x800)
                to += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f))};
            else if (code >= 0x80)
                to += static_cast<char>(0xc0 | code >> 6);
            to += static_cast<char>(code >= 0x80 ? 0x80 | (code & 0x3f) : code);
            return {};
        }
        const auto index = rest_.empty() ? letters.npos : letters.find(rest_.front());
        if (index == letters.npos)
            return malformed();
        to += meanings[index];
        rest_.remove_prefix(1);
        return {};
    }

    std::string_view rest_;
    unsigned line_{1};
};

inline exo::result<json> json::parse(std::string_view text) { return json_parser{text}.document(); }

} // namespace sched_sim
