// System calls about the caller's memory.

#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/fs/character_device.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/linux/call.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>
#include <exo/mm/protection.hpp>
#include <exo/mm/region.hpp>
#include <exo/mm/shared_memory.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/resource.hpp>

namespace exo::linux_abi {

namespace map_flag {
inline constexpr std::uint64_t shared = 1, private_copy = 2, shared_validate = 3, kind = 15, fixed = 0x10,
                               anonymous = 0x20, low = 0x40, grows_down = 0x100, deny_write = 0x800,
                               executable = 0x1000, locked = 0x2000, no_reserve = 0x4000, populate = 0x8000,
                               non_block = 0x10000, stack = 0x20000, huge = 0x40000, fixed_noreplace = 0x100000,
                               huge_size = 0xfc000000;
// Those that shared_validate knows. Memory is never reserved, and a stack is mapped like anything else.
inline constexpr std::uint64_t known = kind | fixed | anonymous | low | grows_down | deny_write | executable | locked |
                                       no_reserve | populate | non_block | stack | huge | huge_size;
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

// 0 also for what is too long to be rounded up, as Linux has it.
[[nodiscard]] constexpr std::uint64_t whole_pages(std::uint64_t length)
{
    return (length + page_size - 1) & ~std::uint64_t{page_size - 1};
}

// Whole pages. Errors: invalid_argument; `too_long` for a range that wraps around.
[[nodiscard]] inline result<virt_range> user_range(std::uint64_t address, std::uint64_t length,
                                                   const error_kind& too_long = errors::invalid_argument)
{
    const std::uint64_t rounded = whole_pages(length);
    if ((address & (page_size - 1)) != 0)
        return fail(errors::invalid_argument, address);
    if ((rounded == 0 && length != 0) || address + rounded < address)
        return fail(too_long, length);
    return virt_range::of_size(virt_addr{address}, rounded);
}

// What the process may have of its memory. Who is privileged may lock as much as there is.
template <class System>
[[nodiscard]] mm::space_limits limits_of(call<System>& c)
{
    const auto& limits = c.process.limits;
    return {.space = limits[proc::resource::address_space].soft,
            .data = limits[proc::resource::data].soft,
            .locked = c.identity().privileged() ? mm::space_limits::none : limits[proc::resource::locked_memory].soft};
}

// Whether mmap gives memory for the file instead of the file: /dev/zero.
[[nodiscard]] inline bool stands_for_memory(const fs::file& file)
{
    const auto* device = file.device();
    return device && device->maps_memory();
}

template <class System>
result<std::uint64_t> sys_mmap(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint64_t protection,
                               std::uint64_t flags, std::int32_t descriptor, std::uint64_t offset)
{
    const std::uint64_t kind = flags & map_flag::kind;
    const bool shared = kind != map_flag::private_copy;
    bool anonymous = (flags & map_flag::anonymous) != 0;
    ref<fs::file> file;
    if ((offset & (page_size - 1)) != 0)
        return fail(errors::invalid_argument, offset);
    if (!anonymous)
        file = EXO_TRY(c.process.files().get(descriptor));
    if ((kind != map_flag::shared && kind != map_flag::private_copy &&
         (kind != map_flag::shared_validate || anonymous)) ||
        length == 0 || (flags & map_flag::huge) != 0)
        return fail(errors::invalid_argument, flags);
    if (length > c.system.user_mode().user_limit().value())
        return fail(errors::out_of_memory, length);
    const auto limits = limits_of(c);
    if ((flags & map_flag::locked) != 0 && limits.locked == 0)
        return fail(errors::not_permitted);
    if (kind == map_flag::shared_validate && (flags & ~map_flag::known) != 0)
        return fail(errors::not_supported, flags);

    mm::map_request request{.address = virt_addr{address},
                            .length = length,
                            .access = EXO_TRY(to_protection(protection & 7)),
                            .kind = shared ? mm::sharing::shared : mm::sharing::private_copy,
                            .locked = (flags & map_flag::locked) != 0 ? mm::locking::at_once : mm::locking::none,
                            .populate = (flags & (map_flag::populate | map_flag::non_block)) == map_flag::populate};
    if ((flags & map_flag::fixed_noreplace) != 0)
        request.where = mm::placement::fixed_noreplace;
    else if ((flags & map_flag::fixed) != 0)
        request.where = mm::placement::fixed;
    else
        request.address = request.address.align_down(page_size);
    if ((flags & map_flag::low) != 0)
        request.below = virt_addr{std::uint64_t{1} << 31};
    if ((flags & map_flag::grows_down) != 0) {
        if (shared || !anonymous)
            return fail(errors::invalid_argument, flags);
        request.grows = mm::growth::down;
        request.limit = c.process.limits[proc::resource::stack].soft;
    }

    if (file) {
        if (!file->readable() || (shared && (protection & 2) != 0 && !file->writable()))
            return fail(fs::errors::access_denied);
        anonymous = stands_for_memory(*file);
        if (!anonymous && !file->node().can_be_mapped())
            return fail(errors::no_device);
        if ((protection & 4) != 0 && !file->allows_executing())
            return fail(errors::not_permitted);
        request.may_execute = file->allows_executing();
    }
    if (!anonymous) {
        static_cast<void>(c.system.vfs().remember_path(c.paths(), *file));
        request.backing = std::move(file);
        request.offset = offset;
    } else if (shared) {
        auto& env = c.system.file_environment();
        request.backing = EXO_TRY(mm::shared_memory::create(env.heap, env.pages, env.parker, length));
    }
    const auto mapped = c.process.image().space().map(std::move(request), limits);
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

// For PROT_GROWSDOWN: the range from the begin of its first region on, which must be one that grows down. No region
// grows up, as PROT_GROWSUP (`down` is false) has it. Errors: invalid_argument; not_mapped.
template <class Space>
[[nodiscard]] result<virt_range> with_growing_region(Space& space, virt_range range, bool down)
{
    std::optional<mm::region_info> first;
    static_cast<void>(space.for_each_part(range, [&](const mm::region_info& r, virt_range) -> result<> {
        if (!first)
            first = r;
        return {};
    }));
    if (!first || (!down && range.begin < first->range.begin))
        return fail(mm::not_mapped, range.begin.value());
    if (!down || first->grows != mm::growth::down)
        return fail(errors::invalid_argument, range.begin.value());
    return virt_range{first->range.begin, range.end};
}

template <class System>
result<void> sys_mprotect(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint64_t protection)
{
    constexpr std::uint64_t ignored = 8, down = 0x01000000, up = 0x02000000; // PROT_SEM, PROT_GROWSDOWN, PROT_GROWSUP
    if ((protection & down) != 0 && (protection & up) != 0)
        return fail(errors::invalid_argument, protection);
    const auto range = EXO_TRY(user_range(address, length, errors::out_of_memory));
    if (range.empty())
        return {};
    const auto access = EXO_TRY(to_protection(protection & ~(ignored | down | up)));
    auto& space = c.process.image().space();
    const auto protect = [&]() -> result<> {
        const bool grows = (protection & (down | up)) != 0;
        const auto all = grows ? EXO_TRY(with_growing_region(space, range, (protection & down) != 0)) : range;
        return space.protect(all, access, limits_of(c));
    };
    const auto changed = protect();
    if (!changed && changed.error() == mm::access_denied) // by the file that backs it
        return fail(fs::errors::access_denied, changed.error().context());
    return changed ? result<void>{} : fail(unmapped_is_no_memory(changed.error()));
}

template <class System>
result<std::uint64_t> sys_mremap(call<System>& c, std::uint64_t address, std::uint64_t old_length, std::uint64_t length,
                                 std::uint64_t flags, std::uint64_t target)
{
    constexpr std::uint64_t may_move = 1, fixed = 2, dont_unmap = 4;
    if ((flags & ~(may_move | fixed | dont_unmap)) != 0)
        return fail(errors::invalid_argument, flags);
    mm::remap_request request{.address = virt_addr{address},
                              .old_length = old_length,
                              .length = length,
                              .may_move = (flags & may_move) != 0,
                              .keeps_old = (flags & dont_unmap) != 0};
    if ((flags & fixed) != 0)
        request.target = virt_addr{target};
    return EXO_TRY(c.process.image().space().remap(request, limits_of(c))).value();
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
    case advice::do_fork:
        return [](told& t) { t.fork = t.fork == mm::at_fork::absent ? mm::at_fork::inherited : t.fork; };
    case advice::wipe_on_fork: // which makes no difference to what is not there
        return [](told& t) { t.fork = t.fork == mm::at_fork::absent ? t.fork : mm::at_fork::empty; };
    case advice::keep_on_fork:
        return [](told& t) { t.fork = t.fork == mm::at_fork::empty ? mm::at_fork::inherited : t.fork; };
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
        static_cast<void>(space.set_brk(virt_addr{end}, limits_of(c)));
    return space.brk().value();
}

template <class System>
result<void> sys_msync(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint32_t flags)
{
    constexpr std::uint32_t asynchronous = 1, invalidate = 2, synchronous = 4;
    if ((flags & ~(asynchronous | invalidate | synchronous)) != 0 ||
        (flags & (asynchronous | synchronous)) == (asynchronous | synchronous))
        return fail(errors::invalid_argument, flags);
    const auto range = EXO_TRY(user_range(address, whole_pages(length), errors::out_of_memory));
    // Mappings and files share their pages, so there is nothing to invalidate, nor to start writing.
    const auto synced =
        c.process.image().space().for_each_part(range, [flags](const mm::region_info& r, virt_range part) -> result<> {
            if ((flags & invalidate) != 0 && r.locked != mm::locking::none)
                return fail(errors::busy, part.begin.value());
            return (flags & synchronous) != 0 && r.backing && r.kind == mm::sharing::shared ? r.backing->sync()
                                                                                            : result<>{};
        });
    return synced ? result<void>{} : fail(unmapped_is_no_memory(synced.error()));
}

template <class System>
result<void> sys_mincore(call<System>& c, std::uint64_t address, std::uint64_t length, user_addr vector)
{
    const std::uint64_t limit = c.system.user_mode().user_limit().value();
    if ((address & (page_size - 1)) != 0)
        return fail(errors::invalid_argument, address);
    if (address > limit || length > limit - address)
        return fail(errors::out_of_memory, length);
    auto& space = c.process.image().space();
    auto left = pages_for(length);
    for (virt_addr at{address}; left != 0;) {
        bool present[256]{};
        const auto count = left < std::size(present) ? static_cast<std::size_t>(left) : std::size(present);
        const auto asked = space.residency(virt_range::of_size(at, count * page_size), std::span{present}.first(count));
        if (!asked)
            return fail(unmapped_is_no_memory(asked.error()));
        EXO_TRY(c.write(vector, std::as_bytes(std::span{present}.first(count))));
        vector = vector + count;
        at += count * page_size;
        left -= count;
    }
    return {};
}

// Locks the pages that the range touches. Whatever cannot be locked is ENOMEM (mlock(2)).
template <class System>
[[nodiscard]] result<void> lock_pages(call<System>& c, std::uint64_t address, std::uint64_t length, mm::locking how)
{
    const auto limits = limits_of(c);
    if (how != mm::locking::none && limits.locked == 0)
        return fail(errors::not_permitted);
    const auto offset = address & (page_size - 1);
    const auto range = EXO_TRY(user_range(address - offset, whole_pages(length + offset)));
    if (range.empty())
        return {};
    const auto locked = c.process.image().space().lock_pages(range, how, limits);
    if (locked)
        return {};
    const error e = locked.error();
    const bool short_of = e == mm::too_much_locked || e == mm::access_denied || e == mm::beyond_end;
    return fail(short_of ? error{errors::out_of_memory, e.context()} : unmapped_is_no_memory(e));
}

template <class System>
result<void> sys_mlock(call<System>& c, std::uint64_t address, std::uint64_t length)
{
    return lock_pages(c, address, length, mm::locking::at_once);
}

template <class System>
result<void> sys_mlock2(call<System>& c, std::uint64_t address, std::uint64_t length, std::uint32_t flags)
{
    constexpr std::uint32_t on_fault = 1;
    if ((flags & ~on_fault) != 0)
        return fail(errors::invalid_argument, flags);
    return lock_pages(c, address, length, flags == on_fault ? mm::locking::on_fault : mm::locking::at_once);
}

template <class System>
result<void> sys_munlock(call<System>& c, std::uint64_t address, std::uint64_t length)
{
    return lock_pages(c, address, length, mm::locking::none);
}

template <class System>
result<void> sys_mlockall(call<System>& c, std::uint32_t flags)
{
    constexpr std::uint32_t current = 1, future = 2, on_fault = 4;
    if (flags == 0 || flags == on_fault || (flags & ~(current | future | on_fault)) != 0)
        return fail(errors::invalid_argument, flags);
    const auto limits = limits_of(c);
    if (limits.locked == 0)
        return fail(errors::not_permitted);
    const auto how = (flags & on_fault) != 0 ? mm::locking::on_fault : mm::locking::at_once;
    return c.process.image().space().lock_everything((flags & current) != 0 ? std::optional{how} : std::nullopt,
                                                     (flags & future) != 0 ? how : mm::locking::none, limits);
}

template <class System>
result<void> sys_munlockall(call<System>& c)
{
    return c.process.image().space().lock_everything(mm::locking::none, mm::locking::none);
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
    table.template set<sys_mincore<System>>(number::mincore);
    table.template set<sys_mlock<System>>(number::mlock);
    table.template set<sys_mlock2<System>>(number::mlock2);
    table.template set<sys_munlock<System>>(number::munlock);
    table.template set<sys_mlockall<System>>(number::mlockall);
    table.template set<sys_munlockall<System>>(number::munlockall);
}

} // namespace exo::linux_abi
