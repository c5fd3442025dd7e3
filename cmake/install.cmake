# What an installed PeerCache consists of, and how other projects find it:
# find_package(peercache) or pkg-config peercache.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/peercache)

install(TARGETS peercache EXPORT peercache
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY lib/include/peercache
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT peercache NAMESPACE peercache:: FILE peercacheTargets.cmake
  DESTINATION ${package_dir})

configure_package_config_file(cmake/peercacheConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/peercacheConfig.cmake
  INSTALL_DESTINATION ${package_dir})
# Before 1.0 a new minor version may break its users.
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/peercacheConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
# Relative, as what find_package reads: cmake --install may name another prefix.
file(RELATIVE_PATH to_prefix
  ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/pkgconfig
  ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" to_prefix "${to_prefix}")
configure_file(cmake/peercache.pc.in peercache.pc @ONLY)

install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/peercacheConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/peercacheConfigVersion.cmake
  DESTINATION ${package_dir})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/peercache.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
