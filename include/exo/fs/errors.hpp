// What file operations report beside the kinds of base/errors.hpp. Each has the errno that POSIX names for it.

#pragma once

#include <exo/base/errors.hpp>

namespace exo::fs::errors {

using namespace exo::errors;

inline constexpr error_kind not_found{"fs", "not_found", "no such file or directory", posix::noent, severity::caller,
                                      recovery::fix_input};
inline constexpr error_kind exists{"fs", "exists", "the name is taken", posix::exist, severity::caller,
                                   recovery::fix_input};
inline constexpr error_kind not_directory{"fs", "not_directory", "a component of the path is no directory",
                                          posix::notdir, severity::caller, recovery::fix_input};
inline constexpr error_kind is_directory{"fs", "is_directory", "the operation does not apply to a directory",
                                         posix::isdir, severity::caller, recovery::fix_input};
inline constexpr error_kind directory_not_empty{"fs", "directory_not_empty", "the directory still has entries",
                                                posix::notempty, severity::caller, recovery::fix_input};
inline constexpr error_kind name_too_long{"fs", "name_too_long", "a name or path is longer than allowed",
                                          posix::nametoolong, severity::caller, recovery::fix_input};
inline constexpr error_kind too_many_symlinks{"fs", "too_many_symlinks", "too many symbolic links on the way",
                                              posix::loop, severity::caller, recovery::fix_input};
inline constexpr error_kind access_denied{"fs", "access_denied", "the file's permissions do not allow it",
                                          posix::acces, severity::caller, recovery::give_up};
inline constexpr error_kind read_only{"fs", "read_only", "the file system is read-only", posix::rofs,
                                      severity::caller, recovery::give_up};
inline constexpr error_kind cross_device{"fs", "cross_device", "source and target are on different mounts",
                                         posix::xdev, severity::caller, recovery::fix_input};
inline constexpr error_kind too_many_links{"fs", "too_many_links", "the file has all the links it can have",
                                           posix::mlink, severity::caller, recovery::give_up};
inline constexpr error_kind no_space{"fs", "no_space", "no space left on the device", posix::nospc,
                                     severity::degraded, recovery::shrink_request};
inline constexpr error_kind file_too_large{"fs", "file_too_large", "the file would exceed the largest size",
                                           posix::fbig, severity::caller, recovery::shrink_request};
inline constexpr error_kind no_data{"fs", "no_data", "no such data, hole or device behind the file", posix::nxio,
                                    severity::expected, recovery::give_up};
inline constexpr error_kind not_seekable{"fs", "not_seekable", "the file has no position", posix::spipe,
                                         severity::caller, recovery::fix_input};
inline constexpr error_kind broken_pipe{"fs", "broken_pipe", "nobody reads the pipe any more", posix::pipe,
                                        severity::expected, recovery::give_up};
inline constexpr error_kind not_terminal{"fs", "not_terminal", "the file does not know this control request",
                                         posix::notty, severity::caller, recovery::give_up};
// Context: the descriptor.
inline constexpr error_kind bad_descriptor{"fs", "bad_descriptor", "no open file, or one not open for this",
                                           posix::badf, severity::caller, recovery::fix_input};
inline constexpr error_kind too_many_descriptors{"fs", "too_many_descriptors", "the process has all its descriptors "
                                                 "open", posix::mfile, severity::caller, recovery::give_up};
inline constexpr error_kind text_busy{"fs", "text_busy", "the program is being run", posix::txtbsy, severity::caller,
                                      recovery::back_off};
inline constexpr error_kind overflow{"fs", "overflow", "a value does not fit where it has to go", posix::overflow,
                                     severity::caller, recovery::fix_input};
inline constexpr error_kind does_not_fit{"fs", "does_not_fit", "the buffer is too short for the answer", posix::range,
                                         severity::caller, recovery::fix_input};

} // namespace exo::fs::errors
