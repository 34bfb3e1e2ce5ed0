// What execve makes: an address space with a program in it, and what /proc tells about that program. Shared between a
// vfork child and its parent; copied by fork.
//
// References keep the object. Its memory lasts as long as a process runs in it, which is an image_use: what others look
// at by a reference is then an empty space.

#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/range.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/file.hpp>
#include <exo/mm/address_space.hpp>

namespace exo::proc {

template <class System>
class image_use;

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
    // By more than one process. A snapshot.
    [[nodiscard]] bool is_shared() const { return uses_.load(std::memory_order_relaxed) > 1; }

    ref<fs::file> executable; // /proc/PID/exe
    // Where the strings are that the program was started with, which it may change.
    range<std::uint64_t> arguments{};
    range<std::uint64_t> environment{};
    range<std::uint64_t> code{};
    range<std::uint64_t> data{};
    std::uint64_t stack_start{};

    program_image(System& system, ref<space_type> space) : system_{system}, space_{std::move(space)} {}

private:
    friend image_use<System>;

    static result<ref<program_image>> adopt(System& system, ref<space_type> space)
    {
        auto* made = EXO_TRY(new_object<program_image>(system.heap(), system, std::move(space)));
        return ref<program_image>::adopt(made);
    }

    void last_reference() noexcept override { delete_object(system_.heap(), this); }

    System& system_;
    ref<space_type> space_;
    std::atomic<std::uint32_t> uses_{};
};

template <class System>
class image_use {
public:
    image_use() = default;
    explicit image_use(ref<program_image<System>> image) : image_{std::move(image)}
    {
        if (image_)
            image_->uses_.fetch_add(1, std::memory_order_relaxed);
    }
    image_use(image_use&& other) noexcept : image_{std::move(other.image_)} {}
    image_use& operator=(image_use&& other) noexcept
    {
        std::swap(image_, other.image_);
        return *this;
    }
    // The last one gives the memory back, even while somebody else still looks at the image. May sleep.
    ~image_use()
    {
        if (image_ && image_->uses_.fetch_sub(1, std::memory_order_acq_rel) == 1 && image_->reference_count() > 1)
            image_->space().clear();
    }

    [[nodiscard]] const ref<program_image<System>>& image() const { return image_; }

private:
    ref<program_image<System>> image_;
};

} // namespace exo::proc
