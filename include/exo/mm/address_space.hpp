// An address space: the regions that a program asked for, and one tree of page tables, filled on fault.
//
// fork shares the page tables, at every level, until one side writes or changes something (mm/table_sharing.hpp says
// how), so its cost does not depend on how much is mapped. Every operation succeeds or leaves the space as it was. No
// frame or table is used again before every CPU that may hold a translation of it has invalidated that.
//
// Calls may sleep (for the space's lock, for a pager) and are made from threads, with interrupts on and no spin lock
// held, unless said otherwise. Several threads may call at once.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/range.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/base/tree.hpp>
#include <exo/mm/fault.hpp>
#include <exo/mm/footprint.hpp>
#include <exo/mm/protection.hpp>
#include <exo/mm/region.hpp>
#include <exo/mm/region_usage.hpp>
#include <exo/mm/table_sharing.hpp>
#include <exo/mm/translation_holders.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::mm {

// Where a space puts what has no fixed place. All multiples of the page size, below the end of the user half.
struct space_layout {
    virt_addr lowest;      // nothing is mapped below
    virt_addr mapping_top; // mappings without an address go below this, the highest first
    virt_addr highest;     // nothing is mapped at or above
};

// Regions that one space may have (Linux: vm.max_map_count).
inline constexpr std::size_t region_limit = 65'530;

// What stays free below a region that grows down.
inline constexpr std::uint64_t stack_guard = 256 * page_size;

struct space_statistics {
    std::uint64_t virtual_pages{};  // in regions
    std::uint64_t resident_pages{}; // present in the page tables, shared ones included
    std::uint64_t locked_pages{};   // in regions that are locked
};

// Memory is the memory_system of the machine. Threads, and a vfork's child, share a space by reference; the last one
// ends it, when no CPU does more than linger in it (mm/shootdown.hpp).
template <class Memory>
class address_space final : public ref_counted, private object_user {
public:
    // An empty space; its kernel half is that of the memory system's kernel root. Errors: out_of_memory.
    [[nodiscard]] static result<ref<address_space>> create(Memory& memory, const space_layout& layout);
    // A space with the same regions and contents. What is private is copied when one of the two writes it; what is
    // shared stays shared. Errors: out_of_memory.
    [[nodiscard]] result<ref<address_space>> fork();

    // The address where it was put. Errors: invalid_argument (length 0, offset or fixed address not a multiple of the
    // page size, shared without backing), not_permitted (fixed below the layout), already_mapped, out_of_memory (also
    // when there is no room, or a limit forbids it), too_much_locked.
    [[nodiscard]] result<virt_addr> map(map_request request, const space_limits& limits = {});
    // Makes what is mapped larger or smaller, and moves it if it has to; the address where it is. A part of one region,
    // unless it only becomes smaller. Errors: invalid_argument, no_region, not_permitted (below the layout),
    // out_of_memory (also when there is no room, or a limit forbids it), too_much_locked.
    [[nodiscard]] result<virt_addr> remap(const remap_request& request, const space_limits& limits = {});
    // Holes in the range are fine. Errors: invalid_argument, out_of_memory (splitting a region takes some).
    [[nodiscard]] result<> unmap(virt_range range);
    // Errors: invalid_argument, not_mapped (context: the first address without a region), access_denied (what the
    // object mapped does not allow: writing where it is shared, executing), out_of_memory (also when a limit forbids
    // that more can be written).
    [[nodiscard]] result<> protect(virt_range range, protection access, const space_limits& limits = {});
    // Drops the pages of the range: the next access finds zeros, or the pager's contents. Errors: invalid_argument
    // (also when some are locked), out_of_memory; not_mapped, after what is mapped was dropped all the same.
    [[nodiscard]] result<> discard(virt_range range);
    // The contents of the range are of no use any more: what the next access finds is zero or what was there. Errors:
    // as discard; invalid_argument also where memory is not anonymous.
    [[nodiscard]] result<> free(virt_range range);
    // Reads what pagers have of the range ahead, and has it there, as far as that works. Errors: invalid_argument;
    // not_mapped, after the same for what is mapped.
    [[nodiscard]] result<> will_need(virt_range range);
    // Has note(region_advice&) change what is known of the regions in the range. Errors: invalid_argument (also for
    // memory that is to be empty after a fork, and is not anonymous), out_of_memory; not_mapped, after the
    // regions that are there took the advice.
    [[nodiscard]] result<> advise(virt_range range, void (*note)(region_advice&));

    // From now on regions that grow may reach `bytes`; what they have, they keep.
    void limit_growth(std::uint64_t bytes) noexcept;

    // Unmaps everything, and takes no memory to do so.
    void clear() noexcept;

    // Locks the pages of the range, or not any more; those that have to be there at once come before this returns.
    // Errors: invalid_argument, too_much_locked, out_of_memory; once the regions are locked, not_mapped, and those of
    // handle_fault.
    [[nodiscard]] result<> lock_pages(virt_range range, locking how, const space_limits& limits = {});
    // The same for all regions, unless `present` is empty, and for those to come. Errors: out_of_memory, if that would
    // be too much. Pages that cannot be had are left out.
    [[nodiscard]] result<> lock_everything(std::optional<locking> present, locking future,
                                           const space_limits& limits = {});

    // The heap that brk moves. start_brk says where it begins, once; set_brk moves its end, and returns it. Errors:
    // invalid_argument (below the beginning), out_of_memory, too_much_locked.
    void start_brk(virt_addr begin);
    [[nodiscard]] virt_addr brk();
    [[nodiscard]] result<virt_addr> set_brk(virt_addr end, const space_limits& limits = {});

    // Makes the page at `a` accessible in the way tried, or says why not: no_region, access_denied, beyond_end
    // (SIGBUS), out_of_memory, or the pager's error; a stack that grew for it stays so. An access that the tables allow
    // by now is spurious, and a success.
    [[nodiscard]] result<fault_kind> handle_fault(virt_addr a, access tried);
    // Has the pages of a range there, as if each had been accessed. Errors: as handle_fault; pages before it stay.
    [[nodiscard]] result<> populate(virt_range range, access tried);
    // The same for every region in the range, so that nothing is left to be done when the program accesses it.
    [[nodiscard]] result<> populate(virt_range range);

    // The space's memory as a program in it would read and write it, whether it is loaded or not. Errors: as
    // handle_fault; bytes before the failing page have been copied.
    [[nodiscard]] result<> read(virt_addr from, std::span<std::byte> into);
    [[nodiscard]] result<> write(virt_addr to, std::span<const std::byte> from);

    // Calls visit(region_info) for each region in ascending order, with no lock held: a region that comes or goes
    // meanwhile may or may not be seen. visit returns false to stop.
    template <class Visit>
    void for_each_region(Visit visit);
    // The same for those that the range touches, with visit(region_info, part of the range), which returns a result<>.
    // Errors: the first of visit's, which ends the round; not_mapped (context: the first address without a region)
    // after it.
    template <class Visit>
    [[nodiscard]] result<> for_each_part(virt_range range, Visit visit);
    [[nodiscard]] result<region_info> region_at(virt_addr a);
    // Which pages of a range can be had without I/O: one element for each page, as far as regions reach. Errors:
    // not_mapped.
    [[nodiscard]] result<> residency(virt_range range, std::span<bool> present);
    [[nodiscard]] std::uint64_t virtual_pages(); // in regions
    // This and what follows take time in proportion to the memory.
    [[nodiscard]] space_statistics statistics();
    // How much of a region's range is in memory by now. Takes time in proportion to that.
    [[nodiscard]] region_usage usage(const region_info& r);
    [[nodiscard]] footprint memory_footprint();

    // Loads this space on the calling CPU, in place of what was loaded. Both with interrupts off; neither sleeps.
    void activate() noexcept { memory_.shootdown.load(root_.address(), holders_); }
    // Loads the kernel's own root on the calling CPU, on which this space is loaded.
    void deactivate() noexcept { memory_.shootdown.unload(holders_); }
    // The root table, for a debugger or a walker.
    [[nodiscard]] phys_addr root() const noexcept { return root_.address(); }

private:
    using format = typename Memory::format;
    using entry = typename format::entry;
    using tables = space_tables<Memory>;
    using changes = table_changes<Memory>;
    using lock_type = sync::mutex<sync::lock_rank::regions, typename Memory::atomics>;

    // What is made for a fault while the space is not locked.
    class prepared;

    address_space(Memory& memory, const space_layout& layout, frame_number root)
        : memory_{memory}, layout_{layout}, root_{root}, holders_{memory.shootdown.new_space()}
    {
    }
    template <class T, class... Args>
    friend result<T*> exo::new_object(allocator&, Args&&...);
    template <class T>
    friend void exo::delete_object(allocator&, T*) noexcept;
    ~address_space() override = default;
    void last_reference() noexcept override;

    [[nodiscard]] bool try_pin() noexcept override { return this->try_acquire(); }
    void unpin() noexcept override { this->release(); }
    [[nodiscard]] result<> forget_pages(object_mappings& object, std::uint64_t first) noexcept override;

    // Holding it, a thread has the space to itself: others that change it wait, and faults (mm/shootdown.hpp).
    class [[nodiscard]] alone {
    public:
        explicit alone(address_space& space) : space_{space}, guard_{space.lock_.lock(space.memory_.parker)}
        {
            space_.memory_.shootdown.close(space_.holders_);
        }
        alone(const alone&) = delete;
        alone& operator=(const alone&) = delete;
        ~alone() { unlock(); }
        void unlock() noexcept
        {
            if (std::exchange(holds_, false)) {
                space_.memory_.shootdown.open(space_.holders_);
                guard_.unlock();
            }
        }

    private:
        address_space& space_;
        typename lock_type::guard guard_;
        bool holds_{true};
    };
    [[nodiscard]] alone lock() { return alone{*this}; }
    // For who reads nothing but regions: faults go on, which change none unless they are alone. They do change tables,
    // and free some: to read those is for who is alone.
    [[nodiscard]] auto lock_regions() { return lock_.lock(memory_.parker); }
    [[nodiscard]] tables page_tables_here() { return {memory_, root_}; }

    // Where the first page begins that page tables lead to in the range; the range's end if none does.
    [[nodiscard]] virt_addr first_leaf(virt_range range);

    // The rest runs under the lock, or beside others where it is said.

    // Errors: invalid_argument.
    [[nodiscard]] result<virt_range> whole_pages(virt_range) const;
    // The same for what has to be mapped. Errors: also not_mapped, where nothing can be.
    [[nodiscard]] result<virt_range> mapped_pages(virt_range) const;
    [[nodiscard]] region* first_ending_after(virt_addr a) const;
    [[nodiscard]] region* region_of(virt_addr a) const;
    [[nodiscard]] bool is_free(virt_range r) const;
    // What no mapping is placed in unasked.
    [[nodiscard]] static std::uint64_t guard_below(const region& r)
    {
        return r.grows == growth::down ? stack_guard : 0;
    }
    [[nodiscard]] result<> check_covered(virt_range r) const;
    // Calls visit(region&) for each that the range touches, in ascending order. visit may return a result<>, which ends
    // the round if it failed.
    template <class Visit>
    result<> for_each_in(virt_range r, Visit visit) const;
    // Room that ends at `top` at most. Errors: out_of_memory.
    [[nodiscard]] result<virt_addr> find_room(std::uint64_t length, virt_addr top) const;
    [[nodiscard]] result<virt_addr> find_room_like(virt_addr model, std::uint64_t length) const;
    [[nodiscard]] result<virt_addr> choose_place(const map_request& request, std::uint64_t length) const;

    void insert(region& r);
    // Lets what backs the region know of it, once the region is inserted and has its pages.
    void enter(region& r);
    void erase(region& r);
    void merge_around(virt_range r);

    // Regions for the two splits that a change of a range may need, made before anything changes.
    struct spares {
        owned<region> at_begin;
        owned<region> at_end;
    };
    [[nodiscard]] result<> check_region_count() const;
    [[nodiscard]] result<spares> reserve_splits(virt_range r) const;
    void split(virt_range r, spares& with);
    void remove(virt_range r, spares& with, changes& to);
    // Drops the pages of a range, and keeps its regions. Errors: out_of_memory.
    [[nodiscard]] result<> drop_pages(virt_range r, changes& to);
    // The same for a whole call; all regions have to be such that they `may` lose their pages.
    [[nodiscard]] result<> drop_where(virt_range asked, bool (*may)(const region&));
    // Makes `made` a region, with the pages of `kept`, the beginning of `old`, which goes. Errors: out_of_memory.
    [[nodiscard]] result<> move(virt_range kept, virt_range old, owned<region>& made, bool keeps_old);
    // Takes out of a forked child what it does not inherit of a parent's region.
    [[nodiscard]] result<> start_without(virt_range range, at_fork what);

    [[nodiscard]] virt_range everything() const { return {virt_addr{}, layout_.highest}; }
    [[nodiscard]] std::uint64_t bytes_where(bool (*counts)(const region&), virt_range range) const;
    // Whether there may be `more` bytes locked, and in a region `like` this. Errors: too_much_locked; out_of_memory.
    [[nodiscard]] result<> check_locked(std::uint64_t more, const space_limits& limits) const;
    [[nodiscard]] result<> check_data(std::uint64_t more, const space_limits& limits) const;
    [[nodiscard]] result<> check_limits(const region_info& like, std::uint64_t more, const space_limits& limits) const;

    // For a fault, under the lock or beside other faults, as `to` says; then all of these may fail with busy. They find
    // what is there by then, and leave what another fault has done.
    [[nodiscard]] result<region*> region_for(virt_addr a, access tried, company with = company::alone);
    [[nodiscard]] region* grow_down_to(virt_addr a);
    [[nodiscard]] static bool wants_write(const region& r, access tried)
    {
        return r.kind == sharing::shared && tried == access::write;
    }
    [[nodiscard]] static bool allows(const typename tables::found& found, access tried);
    [[nodiscard]] static virt_range in_one_table(const region& r, virt_addr page);
    [[nodiscard]] virt_range neighbours_of(const region& r, virt_addr page, virt_addr until) const;
    [[nodiscard]] entry leaf_for(const region& r, frame_number f, bool writable, unsigned level = 0,
                                 std::uint8_t more = 0) const; // software bits
    [[nodiscard]] bool is_sole(frame_number f) const;
    [[nodiscard]] result<frame_number> copy_of(frame_number f, changes& to);

    // What a fault came to, and up to where the region's pages can now be accessed in the way tried.
    struct filled {
        fault_kind kind;
        virt_addr end;
    };
    // handle_fault, without the lock. Beyond the page of `a` it fills what the policy wishes, or what it can up to
    // `until`.
    [[nodiscard]] result<filled> fill_in(virt_addr a, access tried, virt_addr until);
    // Nothing: `have` says what to ask of a pager first.
    [[nodiscard]] result<std::optional<filled>> resolve(virt_addr a, access tried, virt_addr until, prepared& have,
                                                        changes& to);
    [[nodiscard]] result<std::optional<filled>> fill_zero(const region& r, virt_addr page, unsigned level,
                                                          virt_addr until, prepared& have, changes& to);
    [[nodiscard]] std::uint64_t pages_before(const region& r, virt_addr page);
    [[nodiscard]] bool wants_large(const region& r, virt_range block) const;
    [[nodiscard]] bool fill_large(const region& r, virt_range block, prepared& have, changes& to);
    [[nodiscard]] result<filled> fill_paged(const region& r, virt_addr page, access tried, prepared& have, changes& to);
    [[nodiscard]] result<fault_kind> write_private(const region& r, virt_addr page, unsigned level, changes& to);
    [[nodiscard]] result<fault_kind> write_shared(const region& r, virt_addr page, frame_number f, changes& to);
    [[nodiscard]] bool change_page(tables& here, const typename tables::owned_slot& at, entry leaf, const region& r,
                                   virt_addr page, frame_number f, changes& to);
    [[nodiscard]] static result<entry> unchanging(entry leaf);

    // Calls step(memory, done, bytes) for the part of each page, with the lock held.
    template <class Step>
    [[nodiscard]] result<> step_through(virt_addr at, std::size_t length, access tried, Step step);

    Memory& memory_;
    const space_layout layout_;
    const frame_number root_;
    typename Memory::holders holders_;

    lock_type lock_;
    tree<region, &region::hook, &region::begin> regions_; // disjoint
    std::size_t region_count_{};
    std::uint64_t virtual_pages_{};
    locking lock_new_{}; // what new regions are
    virt_addr brk_begin_;
    virt_addr brk_end_;
};

} // namespace exo::mm

#include <exo/mm/address_space_advice.hpp>
#include <exo/mm/address_space_faults.hpp>
#include <exo/mm/address_space_locking.hpp>
#include <exo/mm/address_space_moving.hpp>
#include <exo/mm/address_space_regions.hpp>
#include <exo/mm/address_space_usage.hpp>
