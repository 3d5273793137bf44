# SPDX-License-Identifier: Apache-2.0
# mistral_add_instances(TARGET <target> PRESETS <preset>... ARCHS <arch>... [HEADERS <header>...])
#
# Compiles presets for several processors into one program, which chooses when it runs (mistral/run/instances.hpp):
#
#   mistral_add_instances(TARGET app HEADERS configs.hpp
#                         PRESETS "mistral-7b mistral_7b_v0_1 Q4_0 bf16" "small app::small F32 float"
#                         ARCHS x86-64 x86-64-v3 x86-64-v4)
#
#   a preset  name, config, weight format, elements of the cache; configs and formats of one's own stand in HEADERS,
#             which are found where the target's includes are
#   an arch   what -march takes, from the plainest to the richest: of those that a processor runs, the last is chosen;
#             on Arm such as armv8-a, armv8.2-a+dotprod, armv8.6-a+i8mm+bf16
#
# and gives the target a header "<target>_instances.hpp" with a function <target>_instances(), all of them in order.
#
# Each arch's units become one object in which every symbol is local, but for the instances themselves. Otherwise the
# linker would keep one copy of what two units both instantiate of the standard library or TBB, perhaps the one that is
# compiled for the richer processor, and the plainer one would run it. That takes GNU's ld and objcopy.
function(mistral_add_instances)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "TARGET" "PRESETS;ARCHS;HEADERS")
  if(NOT TARGET "${arg_TARGET}" OR NOT arg_PRESETS OR NOT arg_ARCHS OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mistral_add_instances(TARGET <target> PRESETS <preset>... ARCHS <arch>... [HEADERS <header>...])")
  endif()
  if(NOT CMAKE_OBJCOPY OR NOT CMAKE_LINKER)
    message(FATAL_ERROR "mistral_add_instances: expected GNU's ld and objcopy, got '${CMAKE_LINKER}' and '${CMAKE_OBJCOPY}'")
  endif()
  string(MAKE_C_IDENTIFIER "${arg_TARGET}" target)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${arg_TARGET}_instances)
  set(includes "")
  foreach(header IN LISTS arg_HEADERS)
    string(APPEND includes "#include \"${header}\"\n")
  endforeach()

  set(declarations "")
  set(addresses "")
  foreach(arch IN LISTS arg_ARCHS)
    string(MAKE_C_IDENTIFIER "${arch}" arch_name)
    set(sources "")
    set(symbols "")
    foreach(preset IN LISTS arg_PRESETS)
      if(NOT preset MATCHES "^([^ ]+) +([A-Za-z0-9_:]+) +([A-Za-z0-9_:<>]+) +(float|bf16|q8)$")
        message(FATAL_ERROR "mistral_add_instances: expected a preset 'name config weights kv', got '${preset}'")
      endif()
      set(name "${CMAKE_MATCH_1}")
      set(model "Transformer<${CMAKE_MATCH_2}, ${CMAKE_MATCH_3}>, ${CMAKE_MATCH_4}")
      string(MAKE_C_IDENTIFIER "mistral_instance_${target}_${name}_${arch_name}" symbol)
      set(source ${folder}/${symbol}.cpp)
      file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
// Made by mistral_add_instances.
#include <mistral/run/instance_of.hpp>
#include <mistral/model.hpp>
@includes@
using namespace mistral;
extern "C" const instances::Instance @symbol@;
constinit const instances::Instance @symbol@ = instance_of<@model@>("@name@", "@arch@");
]])
      list(APPEND sources ${source})
      list(APPEND symbols ${symbol})
      string(APPEND declarations "extern \"C\" const mistral::instances::Instance ${symbol};\n")
      list(APPEND addresses "&${symbol}")
    endforeach()

    set(library ${arg_TARGET}_${arch_name})
    add_library(${library} OBJECT ${sources})
    target_link_libraries(${library} PRIVATE mistral::mistral)
    target_include_directories(${library} PRIVATE $<TARGET_PROPERTY:${arg_TARGET},INCLUDE_DIRECTORIES>)
    target_compile_definitions(${library} PRIVATE $<TARGET_PROPERTY:${arg_TARGET},COMPILE_DEFINITIONS>)
    set_target_properties(${library} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                                                VISIBILITY_INLINES_HIDDEN ON INTERPROCEDURAL_OPTIMIZATION OFF)
    # of a source, since those of a source come after all others: what is linked may bring an -march of its own
    set(options "-march=${arch}")
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      list(APPEND options -fno-gnu-unique)  # such symbols would stay global
    endif()
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${options}")

    set(object ${folder}/${arch_name}.o)
    list(TRANSFORM symbols PREPEND "--keep-global-symbol=" OUTPUT_VARIABLE keep)
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${object}.all $<TARGET_OBJECTS:${library}>
      COMMAND ${CMAKE_OBJCOPY} ${keep} ${object}.all ${object}
      DEPENDS ${library} $<TARGET_OBJECTS:${library}>
      COMMENT "Making the symbols of ${arg_TARGET}'s units for ${arch} local"
      COMMAND_EXPAND_LISTS VERBATIM)
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    target_sources(${arg_TARGET} PRIVATE ${object})
  endforeach()

  list(JOIN addresses ", " addresses)
  file(CONFIGURE OUTPUT ${folder}/${arg_TARGET}_instances.hpp @ONLY CONTENT [[
// Made by mistral_add_instances.
#pragma once
#include <mistral/run/instances.hpp>
@declarations@
/// All instances of @arg_TARGET@, from the plainest processor to the richest: for mistral::best_instance.
inline std::span<const mistral::instances::Instance* const> @target@_instances() {
  static const mistral::instances::Instance* const all[] = {@addresses@};
  return all;
}
]])
  target_include_directories(${arg_TARGET} PRIVATE ${folder})
  target_link_libraries(${arg_TARGET} PRIVATE mistral::mistral)
endfunction()
