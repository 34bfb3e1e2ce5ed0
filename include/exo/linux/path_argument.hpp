// A path that a program passes, with the descriptor of the directory it starts from, as the ...at calls take them.

#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/fs/path_context.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/errors.hpp>
#include <exo/linux/file_structures.hpp>

namespace exo::linux_abi {

template <class System>
class path_argument {
public:
    path_argument() = default;
    path_argument(const path_argument&) = delete;
    path_argument& operator=(const path_argument&) = delete;

    // Errors: bad_address; fs::errors::name_too_long, bad_descriptor, not_directory.
    [[nodiscard]] result<> read(call<System>& c, std::int32_t directory, user_addr text)
    {
        auto copied = c.read_string(text, short_);
        if (!copied && copied.error() == fs::errors::name_too_long) {
            long_ = EXO_TRY(owned_array<char>::create(c.system.heap(), fs::longest_path + 1));
            copied = c.read_string(text, {long_.data(), long_.size()});
        }
        text_ = EXO_TRY(std::move(copied));
        if (directory == at_flag::working_directory || text_.starts_with('/'))
            return {};
        start_ = EXO_TRY(c.process.files().get(directory));
        if (!text_.empty() && !start_->node().is_directory())
            return fail(fs::errors::not_directory);
        return {};
    }

    [[nodiscard]] std::string_view text() const { return text_; }
    [[nodiscard]] bool empty() const { return text_.empty(); }
    // The open file from which the path starts, if it is not the working directory.
    [[nodiscard]] const ref<fs::file>& start() const { return start_; }

    operator fs::path() const { return {text_, start_ ? &start_->where() : nullptr}; }

private:
    char short_[256];
    owned_array<char> long_;
    std::string_view text_;
    ref<fs::file> start_;
};

} // namespace exo::linux_abi
