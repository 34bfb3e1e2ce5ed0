// What can go wrong with memory, apart from running out of it (base/errors.hpp).

#pragma once

#include <exo/base/error.hpp>

namespace exo::mm {

// Context: the first virtual address of the request that is mapped.
inline constexpr error_kind already_mapped{"mm", "already_mapped", "the page is mapped already", posix::exist,
                                           severity::caller, recovery::fix_input};
// Context: the first virtual address of the request that is not mapped.
inline constexpr error_kind not_mapped{"mm", "not_mapped", "the page is not mapped", posix::fault, severity::caller,
                                       recovery::fix_input};
// Context: the address that is not a multiple of the page size asked for.
inline constexpr error_kind misaligned{"mm", "misaligned", "the address is not aligned to its page", posix::inval,
                                       severity::caller, recovery::fix_input};
// Context: the virtual address that no page table can translate.
inline constexpr error_kind non_canonical{"mm", "non_canonical", "the virtual address cannot be translated",
                                          posix::fault, severity::caller, recovery::fix_input};
// Context: the physical address that no entry can hold.
inline constexpr error_kind out_of_range{"mm", "out_of_range", "the physical address does not fit an entry",
                                         posix::inval, severity::caller, recovery::fix_input};
// Context: the bytes that would be locked then.
inline constexpr error_kind too_much_locked{"mm", "too_much_locked", "more memory would be locked than is allowed",
                                            posix::again, severity::caller, recovery::shrink_request};

} // namespace exo::mm
