// What can be wrong with a program file. Every kind is ENOEXEC: the file is not a program that can run here.
//
// Context of each, unless its line says otherwise: the offset in the file of the field that is wrong.

#pragma once

#include <exo/base/error.hpp>

namespace exo::elf {

inline constexpr error_kind not_elf{"elf", "not_elf", "the file does not begin with the ELF magic", posix::noexec,
                                    severity::caller, recovery::fix_input};
inline constexpr error_kind truncated{"elf", "truncated", "the file ends before what its headers describe",
                                      posix::noexec, severity::caller, recovery::fix_input};
inline constexpr error_kind wrong_class{"elf", "wrong_class", "the word size is not this machine's", posix::noexec,
                                        severity::caller, recovery::fix_input};
inline constexpr error_kind wrong_byte_order{"elf", "wrong_byte_order", "the byte order is not this machine's",
                                             posix::noexec, severity::caller, recovery::fix_input};
inline constexpr error_kind wrong_version{"elf", "wrong_version", "the ELF version is not 1", posix::noexec,
                                          severity::caller, recovery::fix_input};
inline constexpr error_kind wrong_type{"elf", "wrong_type", "neither an executable nor a shared object", posix::noexec,
                                       severity::caller, recovery::fix_input};
inline constexpr error_kind wrong_machine{"elf", "wrong_machine", "built for another processor", posix::noexec,
                                          severity::caller, recovery::fix_input};
inline constexpr error_kind bad_header_size{"elf", "bad_header_size", "program headers have an unknown size",
                                            posix::noexec, severity::caller, recovery::fix_input};
inline constexpr error_kind no_segments{"elf", "no_segments", "no segment to load", posix::noexec, severity::caller,
                                        recovery::fix_input};
inline constexpr error_kind too_many_headers{"elf", "too_many_headers",
                                             "the program header table is larger than a page", posix::noexec,
                                             severity::caller, recovery::fix_input};
inline constexpr error_kind bad_alignment{"elf", "bad_alignment", "a segment's alignment is not a power of two",
                                          posix::noexec, severity::caller, recovery::fix_input};
inline constexpr error_kind misplaced_segment{"elf", "misplaced_segment",
                                              "a segment's file offset and address differ within their page",
                                              posix::noexec, severity::caller, recovery::fix_input};
inline constexpr error_kind absurd_size{"elf", "absurd_size", "a segment has more bytes in the file than in memory",
                                        posix::noexec, severity::caller, recovery::fix_input};
inline constexpr error_kind outside_address_space{"elf", "outside_address_space",
                                                  "a segment does not fit the user address space", posix::noexec,
                                                  severity::caller, recovery::fix_input};
inline constexpr error_kind overlapping_segments{"elf", "overlapping_segments",
                                                 "segments overlap or are not in order of address", posix::noexec,
                                                 severity::caller, recovery::fix_input};
inline constexpr error_kind bad_interpreter{"elf", "bad_interpreter", "the interpreter's path is malformed",
                                            posix::noexec, severity::caller, recovery::fix_input};
// Context: bytes needed.
inline constexpr error_kind arguments_too_large{"elf", "arguments_too_large",
                                                "arguments and environment exceed the limit", posix::toobig,
                                                severity::caller, recovery::shrink_request};

} // namespace exo::elf
