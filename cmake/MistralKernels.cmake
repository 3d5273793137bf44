# SPDX-License-Identifier: Apache-2.0
# mistral_add_kernels(TARGET <target> FORMATS <format>... [KV <element>...] [TRAIN] [HEADERS <header>...])
#
# Compiles once for all units of a target what takes the compiler longest and is the same in each: the kernels of some
# weight formats and elements of the cache, the reading of files, the tokenizer, the choice of tokens:
#
#   mistral_add_kernels(TARGET app FORMATS Q4_0 KV bf16)
#
#   FORMATS  weight formats, such as Q4_0 or Exact<BF16>
#   KV       elements of the cache: float, bf16, q8
#   TRAIN    the products of fine-tuning too
#   HEADERS  where formats of one's own stand, which are found where the target's includes are
#
# and gives the target a header "<target>_kernels.hpp", which stands for <mistral/model.hpp>: a unit that includes it
# compiles none of that again. One that doesn't is right all the same, only slower to compile. The objects are compiled
# with the target's own options and definitions.
function(mistral_add_kernels)
  cmake_parse_arguments(PARSE_ARGV 0 arg "TRAIN" "TARGET" "FORMATS;KV;HEADERS")
  if(NOT TARGET "${arg_TARGET}" OR NOT arg_FORMATS OR arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "mistral_add_kernels(TARGET <target> FORMATS <format>... [KV <element>...] [TRAIN] [HEADERS <header>...])")
  endif()
  get_target_property(type ${arg_TARGET} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    message(FATAL_ERROR "mistral_add_kernels: expected a target with sources, got the interface library ${arg_TARGET}")
  endif()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${arg_TARGET}_kernels)
  set(header ${arg_TARGET}_kernels.hpp)
  set(includes "")
  foreach(own IN LISTS arg_HEADERS)
    string(APPEND includes "#include \"${own}\"\n")
  endforeach()

  # a unit for each, so that processors share them: what the macros of generate/compiled_once.hpp are given
  set(units common)
  set(unit_common "MISTRAL_COMPILED_ONCE(@extern@)\n")
  if(arg_TRAIN)
    string(APPEND unit_common "MISTRAL_COMPILED_ONCE_ADAPTERS(@extern@)\n")
  endif()
  foreach(element IN LISTS arg_KV)
    string(APPEND unit_common "MISTRAL_COMPILED_ONCE_ELEMENT(@extern@, ${element})\n")
  endforeach()
  list(REMOVE_DUPLICATES arg_FORMATS)
  foreach(format IN LISTS arg_FORMATS)
    string(MAKE_C_IDENTIFIER "${format}" unit)
    list(APPEND units ${unit})
    set(unit_${unit} "MISTRAL_COMPILED_ONCE_FORMAT(@extern@, ${format})\n")
    if(arg_TRAIN)
      string(APPEND unit_${unit} "MISTRAL_COMPILED_ONCE_TRANSPOSED(@extern@, ${format})\n")
    endif()
  endforeach()
  set(declarations "")
  set(sources "")
  foreach(unit IN LISTS units)
    set(extern extern)
    string(CONFIGURE "${unit_${unit}}" declared @ONLY)
    string(APPEND declarations "${declared}")
    set(extern "")
    string(CONFIGURE "${unit_${unit}}" defined @ONLY)
    set(source ${folder}/${unit}.cpp)
    file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
// Made by mistral_add_kernels.
#include "@header@"
@defined@
]])
    list(APPEND sources ${source})
  endforeach()
  file(CONFIGURE OUTPUT ${folder}/${header} @ONLY CONTENT [[
// Made by mistral_add_kernels.
#pragma once
#include <mistral/model.hpp>
#include <mistral/generate/compiled_once.hpp>
@includes@
@declarations@
]])

  set(library ${arg_TARGET}_kernels)
  add_library(${library} OBJECT ${sources})
  target_link_libraries(${library} PRIVATE mistral::mistral)
  target_include_directories(${library} PRIVATE ${folder} $<TARGET_PROPERTY:${arg_TARGET},INCLUDE_DIRECTORIES>)
  target_compile_definitions(${library} PRIVATE $<TARGET_PROPERTY:${arg_TARGET},COMPILE_DEFINITIONS>)
  target_compile_options(${library} PRIVATE $<TARGET_PROPERTY:${arg_TARGET},COMPILE_OPTIONS>)
  foreach(property CXX_STANDARD CXX_EXTENSIONS CXX_VISIBILITY_PRESET VISIBILITY_INLINES_HIDDEN POSITION_INDEPENDENT_CODE
                   INTERPROCEDURAL_OPTIMIZATION)
    get_target_property(value ${arg_TARGET} ${property})
    if(NOT value MATCHES "-NOTFOUND$")
      set_target_properties(${library} PROPERTIES ${property} "${value}")
    endif()
  endforeach()
  if(type MATCHES "^(SHARED|MODULE)_LIBRARY$")
    set_target_properties(${library} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
  target_sources(${arg_TARGET} PRIVATE $<TARGET_OBJECTS:${library}>)
  target_include_directories(${arg_TARGET} PRIVATE ${folder})
  target_link_libraries(${arg_TARGET} PRIVATE mistral::mistral)
endfunction()

# mistral_report_instruction_set(REMEDY): says when what this directory's flags compile for is plain x86-64, which has none
# of the instructions that make the kernels fast.
function(mistral_report_instruction_set remedy)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
  get_directory_property(options COMPILE_OPTIONS)
  list(FILTER options EXCLUDE REGEX "[$]<")
  list(JOIN options " " options)
  set(CMAKE_REQUIRED_FLAGS "${CMAKE_CXX_FLAGS_${build_type}} ${options}")
  set(CMAKE_REQUIRED_QUIET ON)
  include(CheckCXXSourceCompiles)
  string(MAKE_C_IDENTIFIER "MISTRAL_PLAIN_X86_64 ${CMAKE_CXX_FLAGS} ${CMAKE_REQUIRED_FLAGS}" check)
  check_cxx_source_compiles("#if !defined(__x86_64__) || defined(__SSE3__)\n#error\n#endif\nint main() {}" ${check})
  if(${check})
    message(STATUS "mistral: compiling for plain x86-64, without the vector instructions of newer processors; ${remedy}")
  endif()
endfunction()
