// Nodes of a file system whose contents are made up: files of generated text, and the common part of all.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/inode.hpp>
#include <exo/proc/procfs/text_builder.hpp>
#include <exo/sync/lock_rank.hpp>
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

// One reading of a source, which lives as long as somebody copies from it.
class generated_text final : public ref_counted {
public:
    explicit generated_text(allocator& heap) : builder{heap}, heap_{heap} {}

    text_builder builder;

private:
    void last_reference() noexcept override { delete_object(heap_, this); }

    allocator& heap_;
};

// An open text: written when it is read from the beginning, and the same from there on. Nobody waits for who reads it.
class text_file final : public fs::file {
public:
    text_file(fs::environment& env, fs::location where, ref<fs::inode> node, const fs::open_options& options,
              text_source& source)
        : file{env, std::move(where), std::move(node), options}, source_{source}
    {
    }

private:
    [[nodiscard]] result<std::size_t> do_read(std::uint64_t offset, fs::output& into) override
    {
        const auto text = EXO_TRY(text_from(offset));
        const auto bytes = std::as_bytes(std::span{text->builder.text()});
        if (offset >= bytes.size())
            return std::size_t{0};
        return into.put(bytes.subspan(static_cast<std::size_t>(offset)));
    }
    [[nodiscard]] result<ref<generated_text>> text_from(std::uint64_t offset)
    {
        auto guard = lock_.lock(context().parker);
        if (offset == 0 || !text_) {
            auto& heap = context().heap;
            auto fresh = ref<generated_text>::adopt(EXO_TRY(new_object<generated_text>(heap, heap)));
            EXO_TRY(source_.write_text(fresh->builder));
            EXO_TRY(fresh->builder.status());
            text_ = std::move(fresh);
        }
        return text_;
    }
    void last_reference() noexcept override { delete_object(context().heap, this); }

    text_source& source_; // the node, which the file refers to
    sync::mutex<sync::lock_rank::file_content> lock_;
    ref<generated_text> text_;
};

} // namespace exo::proc
