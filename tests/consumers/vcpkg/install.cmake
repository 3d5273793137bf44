# SPDX-License-Identifier: Apache-2.0
# cmake -D ROOT=... -D CURRENT_PACKAGES_DIR=... -P install.cmake: performs the port's portfile in a new folder
# CURRENT_PACKAGES_DIR, with stand-ins for the functions of vcpkg and of its ports vcpkg-cmake and vcpkg-cmake-config. They do
# what those do for a port of headers alone, and hold the result against what vcpkg insists on.
cmake_minimum_required(VERSION 3.25)
set(PORT mistral)
set(CURRENT_PORT_DIR ${ROOT}/cmake/ports/${PORT})
file(REMOVE_RECURSE ${CURRENT_PACKAGES_DIR} ${CURRENT_PACKAGES_DIR}-build)
file(MAKE_DIRECTORY ${CURRENT_PACKAGES_DIR})

function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "SOURCE_PATH" "OPTIONS")
  if(NOT VCPKG_BUILD_TYPE STREQUAL "release" OR DEFINED arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "vcpkg_cmake_configure: ${VCPKG_BUILD_TYPE}, ${arg_UNPARSED_ARGUMENTS}")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${arg_SOURCE_PATH} -B ${CURRENT_PACKAGES_DIR}-build ${arg_OPTIONS}
                          -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}
                  COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(vcpkg_cmake_install)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${CURRENT_PACKAGES_DIR}-build --target install
                  COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(vcpkg_cmake_config_fixup)
  if(ARGC GREATER 0 OR NOT EXISTS ${CURRENT_PACKAGES_DIR}/share/${PORT}/${PORT}Config.cmake)
    message(FATAL_ERROR "vcpkg_cmake_config_fixup: no share/${PORT}/${PORT}Config.cmake")
  endif()
endfunction()

function(vcpkg_fixup_pkgconfig)
  if(NOT EXISTS ${CURRENT_PACKAGES_DIR}/share/pkgconfig/${PORT}.pc)
    message(FATAL_ERROR "vcpkg_fixup_pkgconfig: no share/pkgconfig/${PORT}.pc")
  endif()
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "FILE_LIST")
  file(COPY_FILE ${arg_FILE_LIST} ${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright)
endfunction()

include(${CURRENT_PORT_DIR}/portfile.cmake)

# the headers that the tree has, the port's text, and nothing where vcpkg wants nothing
file(GLOB_RECURSE headers RELATIVE ${ROOT}/include ${ROOT}/include/*.hpp ${ROOT}/include/*.h)
file(GLOB_RECURSE installed RELATIVE ${CURRENT_PACKAGES_DIR}/include ${CURRENT_PACKAGES_DIR}/include/*)
if(NOT headers STREQUAL installed)
  message(FATAL_ERROR "the port installs other headers than the tree has: ${installed}")
endif()
foreach(name usage copyright)
  if(NOT EXISTS ${CURRENT_PACKAGES_DIR}/share/${PORT}/${name})
    message(FATAL_ERROR "no share/${PORT}/${name}")
  endif()
endforeach()
foreach(name bin debug lib share/doc share/cmake)
  if(EXISTS ${CURRENT_PACKAGES_DIR}/${name})
    message(FATAL_ERROR "a port of headers has no ${name}/")
  endif()
endforeach()
