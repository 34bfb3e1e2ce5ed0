// What uname and /proc/version say. The release is the Linux whose interface this is: libraries look at it.

#pragma once

#include <string_view>

namespace exo::proc::system_name {

inline constexpr std::string_view system = "Linux", node = "exo", release = "6.1.0-exo", version = "#1 exo",
                                  machine = "x86_64", domain = "(none)";

} // namespace exo::proc::system_name
