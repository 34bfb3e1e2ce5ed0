# exo::exo, the library: headers only, nothing compiled.

add_library(exo INTERFACE)
add_library(exo::exo ALIAS exo)
target_include_directories(exo INTERFACE
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:include>)
target_compile_features(exo INTERFACE cxx_std_23)

# What exo itself is held to; users choose their own.
add_library(exo_warnings INTERFACE)
target_compile_options(exo_warnings INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror)
