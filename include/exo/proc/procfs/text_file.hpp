// Nodes of a file system whose contents are made up: files of generated text, and the common part of all.

#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/inode.hpp>
#include <exo/proc/procfs/text_builder.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::proc {

// Made anew by every lookup: equal numbers denote the same file.
class generated_node : public fs::inode {
public:
    [[nodiscard]] result<fs::file_status> status() override
    {
        const auto now = environment_.clock.now();
        return fs::file_status{.device = device_,
                               .inode = number(),
                               .type = type(),
                               .permissions = permissions(),
                               .links = is_directory() ? 2u : 1u,
                               .uid = uid(),
                               .gid = gid(),
                               .special = {},
                               .size = 0,
                               .block_size = 1024,
                               .blocks = 0,
                               .accessed = now,
                               .modified = now,
                               .changed = now};
    }
    [[nodiscard]] bool has_volatile_names() const noexcept override { return is_directory(); }
    [[nodiscard]] result<ref<fs::file>> open(fs::environment& env, const fs::location& where,
                                             const fs::open_options& options) override
    {
        return fs::open_plain(env, where, *this, options);
    }

protected:
    generated_node(fs::environment& env, std::uint64_t device, std::uint64_t number, fs::file_type type,
                   fs::permission_bits permissions, std::uint32_t uid, std::uint32_t gid)
        : inode{number, type, permissions, uid, gid}, environment_{env}, device_{device}
    {
    }
    ~generated_node() override = default;

    [[nodiscard]] fs::environment& environment() const noexcept { return environment_; }

private:
    fs::environment& environment_;
    std::uint64_t device_;
};

// A node that writes its text when asked to.
class text_source {
public:
    [[nodiscard]] virtual result<> write_text(text_builder& out) = 0;

protected:
    ~text_source() = default;
};

// An open text: written when it is read from the beginning, and the same from there on.
class text_file final : public fs::file {
public:
    text_file(fs::environment& env, fs::location where, ref<fs::inode> node, const fs::open_options& options,
              text_source& source)
        : file{env, std::move(where), std::move(node), options}, source_{source}, text_{env.heap}
    {
    }

private:
    [[nodiscard]] result<std::size_t> do_read(std::uint64_t offset, fs::output& into) override
    {
        auto guard = lock_.lock(context().parker);
        if (offset == 0 || !written_) {
            text_.clear();
            EXO_TRY(source_.write_text(text_));
            EXO_TRY(text_.status());
            written_ = true;
        }
        const auto bytes = std::as_bytes(std::span{text_.text()});
        if (offset >= bytes.size())
            return std::size_t{0};
        return into.put(bytes.subspan(static_cast<std::size_t>(offset)));
    }
    void last_reference() noexcept override { delete_object(context().heap, this); }

    text_source& source_; // the node, which the file refers to
    sync::mutex<sync::lock_rank::file_content> lock_;
    text_builder text_;
    bool written_{};
};

} // namespace exo::proc
