# SPDX-License-Identifier: Apache-2.0
# The target mistral::xsimd, made of the package's target xsimd: for our own build and, once installed, for
# mistralConfig.cmake.
#
# Debian 12's xsimd asks its users to link a library "xtl" that its package neither brings nor needs (the complex
# numbers of xtl, which we don't use): the headers alone are taken where that target is missing.
if(DEFINED xsimd_VERSION AND xsimd_VERSION VERSION_LESS 8.1)
  message(FATAL_ERROR "mistral needs xsimd 8.1 or newer, found ${xsimd_VERSION}")
endif()
if(NOT TARGET mistral::xsimd)
  add_library(mistral::xsimd INTERFACE IMPORTED GLOBAL)
  get_target_property(mistral_xsimd_links xsimd INTERFACE_LINK_LIBRARIES)
  if("xtl" IN_LIST mistral_xsimd_links AND NOT TARGET xtl)
    target_include_directories(mistral::xsimd INTERFACE $<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>)
  else()
    target_link_libraries(mistral::xsimd INTERFACE xsimd)
  endif()
  unset(mistral_xsimd_links)
endif()
