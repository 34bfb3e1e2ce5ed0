# cmake --install: headers, and a package that find_package(exo) finds.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY include/exo DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS exo EXPORT exo-targets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT exo-targets NAMESPACE exo:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/exo)
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/exo-config.cmake @ONLY CONTENT
    [[include("${CMAKE_CURRENT_LIST_DIR}/exo-targets.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/exo_kernel.cmake")
]])
write_basic_package_version_file(exo-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
    ${CMAKE_CURRENT_BINARY_DIR}/exo-config.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/exo-config-version.cmake
    ${CMAKE_CURRENT_SOURCE_DIR}/cmake/exo_kernel.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/exo)
