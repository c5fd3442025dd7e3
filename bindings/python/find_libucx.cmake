# Where the system has no UCX to build with, take that of PyPI's package libucx,
# as the target under which the library looks for the system's. At run time,
# src/peercache/ucx.py finds either.
set(PEERCACHE_LIBUCX "" CACHE PATH
    "Folder of PyPI's package libucx; empty to ask the interpreter")

find_package(PkgConfig REQUIRED)
pkg_check_modules(SYSTEM_UCX QUIET ucx)
if(SYSTEM_UCX_FOUND)
  return()
endif()

# Isolated from variables, an interpreter shows the packages of the environment
# that the package will be installed into, not those of pip's build.
set(libucx "${PEERCACHE_LIBUCX}")
if(NOT libucx)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -I -c [[
import importlib.util
spec = importlib.util.find_spec("libucx")
print(*(spec.submodule_search_locations if spec else ()), end="")
]]
    OUTPUT_VARIABLE libucx)
endif()
if(NOT EXISTS "${libucx}/include/ucp/api/ucp.h")
  message(WARNING "No UCX to build with, neither the system's (libucx-dev) nor "
          "PyPI's (libucx-cu12): the package will have no mapped and no "
          "one-sided reads")
  return()
endif()
message(STATUS "UCX: ${libucx}")
add_library(PkgConfig::UCX INTERFACE IMPORTED GLOBAL)
target_include_directories(PkgConfig::UCX INTERFACE "${libucx}/include")
target_link_libraries(PkgConfig::UCX INTERFACE
  "${libucx}/lib/libucp.so.0" "${libucx}/lib/libucs.so.0")
# The module finds it by name, not in this folder.
set(CMAKE_SKIP_BUILD_RPATH ON)
