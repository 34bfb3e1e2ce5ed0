// System calls about the caller's memory.

#pragma once

#include <cstdint>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/linux/call.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>
#include <exo/mm/protection.hpp>
#include <exo/mm/shared_memory.hpp>

namespace exo::linux_abi {

namespace map_flag {
inline constexpr std::uint64_t shared = 1, private_copy = 2, shared_validate = 3, kind = 15, fixed = 0x10,
                               anonymous = 0x20, grows_down = 0x100, populate = 0x8000, huge = 0x40000,
                               fixed_noreplace = 0x100000;
}

// PROT_READ, PROT_WRITE, PROT_EXEC. Errors: invalid_argument.
[[nodiscard]] inline result<mm::protection> to_protection(std::uint64_t bits)
{
    if ((bits & ~std::uint64_t{7}) != 0)
        return fail(errors::invalid_argument, bits);
    auto access = bits == 0 ? mm::protection{} : mm::protection::user;
    if ((bits & 1) != 0)
        access = access | mm::protection::read;
    if ((bits & 2) != 0) // which the hardware cannot give without reading
        access = access | mm::protection::read | mm::protection::write;
    if ((bits & 4) != 0)
        access = access | mm::protection::read | mm::protection::execute;
    return access;
}

// What is not mapped is ENOMEM to the calls that change mappings.
[[nodiscard]] inline error unmapped_is_no_memory(error e)
{
    return e == mm::not_mapped || e == mm::no_region ? error{errors::out_of_memory, e.context()} : e;
}

// Whole pages. Errors: invalid_argument; `too_long` for a range that wraps around.
[[nodiscard]] inline result<virt_range> user_range(std::uint64_t address, std::uint64_t length,
                                                   const error_kind& too_long = errors::invalid_argument)
{
    const std::uint64_t rounded = (length + page_size - 1) & ~std::uint64_t{page_size - 1};
    if ((address & (page_size - 1)) != 0)
        return fail(errors::invalid_argument, address);
    if ((rounded == 0 && length != 0) || address + rounded < address)
        return fail(too_long, length);
    return virt_range::of_size(virt_addr{address}, rounded);
}

template <class System>
result<std::uint64_t> sys_mmap(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint64_t protection,
                               std::uint64_t flags, std::int32_t descriptor, std::uint64_t offset)
{
    const std::uint64_t kind = flags & map_flag::kind;
    if ((kind != map_flag::shared && kind != map_flag::private_copy && kind != map_flag::shared_validate) ||
        length == 0 || (offset & (page_size - 1)) != 0)
        return fail(errors::invalid_argument, flags);
    if ((flags & map_flag::huge) != 0)
        return fail(errors::invalid_argument, flags);
    if (length > c.system.user_mode().user_limit().value())
        return fail(errors::out_of_memory, length);
    const bool shared = kind != map_flag::private_copy;
    mm::map_request request{.address = virt_addr{address},
                            .length = length,
                            .access = EXO_TRY(to_protection(protection)),
                            .kind = shared ? mm::sharing::shared : mm::sharing::private_copy,
                            .populate = (flags & map_flag::populate) != 0};
    if ((flags & map_flag::fixed_noreplace) != 0)
        request.where = mm::placement::fixed_noreplace;
    else if ((flags & map_flag::fixed) != 0)
        request.where = mm::placement::fixed;
    else
        request.address = request.address.align_down(page_size);
    if ((flags & map_flag::grows_down) != 0) {
        request.grows = mm::growth::down;
        request.limit = c.process.limits[proc::resource::stack].soft;
    }

    if ((flags & map_flag::anonymous) == 0) {
        auto file = EXO_TRY(c.process.files().get(descriptor));
        if (!file->readable() || (shared && (protection & 2) != 0 && !file->writable()))
            return fail(fs::errors::access_denied);
        if (!file->node().can_be_mapped())
            return fail(errors::no_device);
        if ((protection & 4) != 0 && file->where().on && file->where().on->options().no_execute)
            return fail(errors::not_permitted);
        static_cast<void>(c.system.vfs().remember_path(c.process.paths, *file));
        request.backing = std::move(file);
        request.offset = offset;
    } else if (shared) {
        auto& env = c.system.file_environment();
        request.backing = EXO_TRY(mm::shared_memory::create(env.heap, env.pages, env.parker, length));
    }
    const auto mapped = c.process.image().space().map(std::move(request));
    if (!mapped)
        return fail(unmapped_is_no_memory(mapped.error()));
    return mapped->value();
}

template <class System>
result<void> sys_munmap(call<System>& c, std::uint64_t address, std::uint64_t length)
{
    const auto range = EXO_TRY(user_range(address, length));
    if (range.empty() || range.end.value() > c.system.user_mode().user_limit().value())
        return fail(errors::invalid_argument, length);
    return c.process.image().space().unmap(range);
}

template <class System>
result<void> sys_mprotect(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint64_t protection)
{
    const auto range = EXO_TRY(user_range(address, length, errors::out_of_memory));
    constexpr std::uint64_t growing = 0x01000000 | 0x02000000; // PROT_GROWSDOWN, PROT_GROWSUP
    const auto access = EXO_TRY(to_protection(protection & ~growing));
    if (range.empty())
        return {};
    const auto changed = c.process.image().space().protect(range, access);
    if (!changed && changed.error() == mm::access_denied) // to write a file that is open for reading only
        return fail(fs::errors::access_denied, changed.error().context());
    return changed ? result<void>{} : fail(unmapped_is_no_memory(changed.error()));
}

// What is mapped in `old`, a part of `region`, mapped once more with `length` bytes wherever there is room: with the
// same contents. Errors: out_of_memory, bad_address; nothing is left then.
template <class System>
[[nodiscard]] result<virt_addr> map_moved(call<System>& c, const mm::region_info& region, virt_range old,
                                          std::uint64_t length)
{
    auto& space = c.process.image().space();
    const bool copies = region.kind == mm::sharing::private_copy;
    const auto at = EXO_TRY(space.map({.length = length,
                                       .access = copies ? mm::user_data : region.access,
                                       .kind = region.kind,
                                       .backing = region.backing,
                                       .offset = region.offset + (old.begin - region.range.begin)}));
    const auto fill = [&]() -> result<> {
        auto buffer = EXO_TRY(owned_array<std::byte>::create(c.system.heap(), page_size));
        for (std::uint64_t done = 0; done < old.size() && done < length; done += page_size) {
            EXO_TRY(space.read(old.begin + done, std::span<std::byte>{buffer.data(), buffer.size()}));
            EXO_TRY(space.write(at + done, std::span<const std::byte>{buffer.data(), buffer.size()}));
        }
        return space.protect(virt_range::of_size(at, length), region.access);
    };
    if (copies)
        if (const auto filled = fill(); !filled) {
            static_cast<void>(space.unmap(virt_range::of_size(at, length)));
            return fail(filled.error());
        }
    return at;
}

template <class System>
result<std::uint64_t> sys_mremap(call<System>& c, std::uint64_t address, std::uint64_t old_length, std::uint64_t length,
                                 std::uint64_t flags)
{
    constexpr std::uint64_t may_move = 1;
    const auto old = EXO_TRY(user_range(address, old_length));
    const std::uint64_t wanted = (length + page_size - 1) & ~std::uint64_t{page_size - 1};
    // To a fixed place, or leaving a duplicate: not here.
    if ((flags & ~may_move) != 0 || length == 0 || wanted < length || old.empty())
        return fail(errors::invalid_argument, flags);
    auto& space = c.process.image().space();
    const auto region = space.region_at(old.begin);
    if (!region || !region->range.contains(old))
        return fail(errors::bad_address, address);
    if (wanted <= old.size()) {
        if (wanted < old.size())
            EXO_TRY(space.unmap({old.begin + wanted, old.end}));
        return address;
    }
    const auto grown = space.map({.address = old.end,
                                  .length = wanted - old.size(),
                                  .access = region->access,
                                  .where = mm::placement::fixed_noreplace,
                                  .kind = region->kind,
                                  .backing = region->backing,
                                  .offset = region->offset + (old.end - region->range.begin)});
    if (grown)
        return address;
    if (grown.error() != mm::already_mapped && grown.error() != errors::invalid_argument)
        return fail(grown.error());
    if ((flags & may_move) == 0)
        return fail(errors::out_of_memory, wanted);
    const auto moved = EXO_TRY(map_moved(c, *region, old, wanted));
    if (const auto freed = space.unmap(old); !freed) {
        static_cast<void>(space.unmap(virt_range::of_size(moved, wanted)));
        return fail(freed.error());
    }
    return moved.value();
}

// What madvise(2) says about memory, by Linux's numbers (asm-generic/mman-common.h).
enum class advice : std::int32_t {
    normal = 0, random = 1, sequential = 2, will_need = 3, dont_need = 4, free = 8, dont_fork = 10, do_fork = 11,
    huge_page = 14, no_huge_page = 15, dont_dump = 16, do_dump = 17, wipe_on_fork = 18, keep_on_fork = 19, cold = 20,
    page_out = 21, populate_read = 22, populate_write = 23,
};

// How a region's advice changes; null for what is no advice, but a thing to do.
[[nodiscard]] constexpr auto note_of(advice a) -> void (*)(mm::region_advice&)
{
    using told = mm::region_advice;
    switch (a) {
    case advice::normal:
        return [](told& t) { t.order = mm::access_order::unspecified; };
    case advice::random:
        return [](told& t) { t.order = mm::access_order::random; };
    case advice::sequential:
        return [](told& t) { t.order = mm::access_order::sequential; };
    case advice::dont_fork:
        return [](told& t) { t.fork = mm::at_fork::absent; };
    case advice::wipe_on_fork:
        return [](told& t) { t.fork = mm::at_fork::empty; };
    case advice::do_fork:
    case advice::keep_on_fork:
        return [](told& t) { t.fork = mm::at_fork::inherited; };
    case advice::huge_page:
        return [](told& t) { t.large = mm::large_pages::wanted; };
    case advice::no_huge_page:
        return [](told& t) { t.large = mm::large_pages::refused; };
    case advice::dont_dump:
        return [](told& t) { t.dumped = false; };
    case advice::do_dump:
        return [](told& t) { t.dumped = true; };
    case advice::cold:
    case advice::page_out: // there is nowhere to page out to
        return [](told&) {};
    default:
        return nullptr;
    }
}

// Has the pages of a range there, as madvise reports what hinders it.
template <class Space>
[[nodiscard]] result<> populate_as_advised(Space& space, virt_range range, mm::access tried)
{
    const auto populated = space.populate(range, tried);
    if (!populated && populated.error() == mm::access_denied)
        return fail(errors::invalid_argument, populated.error().context());
    if (!populated && populated.error() == mm::beyond_end)
        return fail(errors::bad_address, populated.error().context());
    return populated;
}

template <class System>
result<void> sys_madvise(call<System>& c, std::uint64_t address, std::uint64_t length, advice told)
{
    const auto range = EXO_TRY(user_range(address, length));
    auto& space = c.process.image().space();
    const auto heed = [&]() -> result<> {
        switch (told) {
        case advice::will_need:
            return range.empty() ? result<>{} : space.will_need(range);
        case advice::dont_need:
            return range.empty() ? result<>{} : space.discard(range);
        case advice::free:
            return range.empty() ? result<>{} : space.free(range);
        case advice::populate_read:
            return populate_as_advised(space, range, mm::access::read);
        case advice::populate_write:
            return populate_as_advised(space, range, mm::access::write);
        default:
            break;
        }
        const auto note = note_of(told);
        if (!note)
            return fail(errors::invalid_argument, static_cast<std::uint64_t>(told));
        return range.empty() ? result<>{} : space.advise(range, note);
    };
    const auto heeded = heed();
    return heeded ? result<void>{} : fail(unmapped_is_no_memory(heeded.error()));
}

template <class System>
result<std::uint64_t> sys_brk(call<System>& c, std::uint64_t end)
{
    auto& space = c.process.image().space();
    if (end != 0)
        static_cast<void>(space.set_brk(virt_addr{end}, c.process.limits[proc::resource::data].soft));
    return space.brk().value();
}

template <class System>
result<void> sys_msync(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint32_t flags)
{
    constexpr std::uint32_t asynchronous = 1, invalidate = 2, synchronous = 4;
    const auto range = EXO_TRY(user_range(address, length));
    if ((flags & ~(asynchronous | invalidate | synchronous)) != 0 ||
        (flags & (asynchronous | synchronous)) == (asynchronous | synchronous))
        return fail(errors::invalid_argument, flags);
    // Mappings and files share their pages, so there is nothing to carry over.
    if (!range.empty() && !c.process.image().space().region_at(range.begin))
        return fail(errors::out_of_memory, address);
    return {};
}

template <class System, class Table>
constexpr void add_memory_calls(Table& table)
{
    table.template set<sys_mmap<System>>(number::mmap);
    table.template set<sys_munmap<System>>(number::munmap);
    table.template set<sys_mprotect<System>>(number::mprotect);
    table.template set<sys_mremap<System>>(number::mremap);
    table.template set<sys_madvise<System>>(number::madvise);
    table.template set<sys_brk<System>>(number::brk);
    table.template set<sys_msync<System>>(number::msync);
}

} // namespace exo::linux_abi
