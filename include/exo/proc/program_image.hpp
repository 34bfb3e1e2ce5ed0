// What execve makes: an address space with a program in it, and what /proc tells about that program. Shared between a
// vfork child and its parent; copied by fork.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/base/range.hpp>
#include <exo/fs/file.hpp>
#include <exo/mm/address_space.hpp>

namespace exo::proc {

template <class System>
class program_image final : public ref_counted {
public:
    using space_type = typename System::space_type;

    // An empty space. Errors: out_of_memory.
    [[nodiscard]] static result<ref<program_image>> create(System& system, const mm::space_layout& layout)
    {
        auto space = EXO_TRY(space_type::create(system.memory(), layout));
        return adopt(system, std::move(space));
    }
    // With a copy of the space. Errors: out_of_memory, and then nothing has changed.
    [[nodiscard]] result<ref<program_image>> fork()
    {
        auto copy = EXO_TRY(space_->fork());
        auto made = EXO_TRY(adopt(system_, std::move(copy)));
        EXO_TRY(made->set_arguments(arguments()));
        made->executable = executable;
        made->code = code;
        made->data = data;
        made->stack_start = stack_start;
        return made;
    }

    [[nodiscard]] space_type& space() const { return *space_; }

    // The arguments, each with its terminating zero, cut to a page (/proc/PID/cmdline). Errors: out_of_memory.
    static constexpr std::size_t arguments_limit = 4096;
    [[nodiscard]] std::string_view arguments() const { return {arguments_.data(), arguments_.size()}; }
    [[nodiscard]] result<> set_arguments(std::string_view text)
    {
        const auto length = text.size() < arguments_limit ? text.size() : arguments_limit;
        auto copy = EXO_TRY(owned_array<char>::create(system_.heap(), length));
        for (std::size_t i = 0; i < length; ++i)
            copy[i] = text[i];
        arguments_ = std::move(copy);
        return {};
    }

    ref<fs::file> executable; // /proc/PID/exe
    range<std::uint64_t> code{};
    range<std::uint64_t> data{};
    std::uint64_t stack_start{};

    program_image(System& system, ref<space_type> space) : system_{system}, space_{std::move(space)} {}

private:
    static result<ref<program_image>> adopt(System& system, ref<space_type> space)
    {
        auto* made = EXO_TRY(new_object<program_image>(system.heap(), system, std::move(space)));
        return ref<program_image>::adopt(made);
    }

    void last_reference() noexcept override { delete_object(system_.heap(), this); }

    System& system_;
    ref<space_type> space_;
    owned_array<char> arguments_;
};

} // namespace exo::proc
