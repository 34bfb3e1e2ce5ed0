// What execve makes: an address space with a program in it, and what /proc tells about that program. Shared between a
// vfork child and its parent; copied by fork.

#pragma once

#include <cstdint>
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
        made->arguments = arguments;
        made->environment = environment;
        made->executable = executable;
        made->code = code;
        made->data = data;
        made->stack_start = stack_start;
        return made;
    }

    [[nodiscard]] space_type& space() const { return *space_; }

    ref<fs::file> executable; // /proc/PID/exe
    // Where the strings are that the program was started with, which it may change.
    range<std::uint64_t> arguments{};
    range<std::uint64_t> environment{};
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
};

} // namespace exo::proc
