# SPDX-License-Identifier: Apache-2.0
# mistral_add_instances(TARGET <target> PRESETS <preset>... ARCHS <arch>... [HEADERS <header>...])
#
# Compiles presets for several processors into one program, which chooses when it runs (mistral/run/instances.hpp):
#
#   mistral_add_instances(TARGET app HEADERS configs.hpp
#                         PRESETS "mistral-7b mistral_7b_v0_1 Q4_0 bf16" "small app::small F32 float"
#                         ARCHS x86-64 x86-64-v3 x86-64-v4)
#
#   a preset  name, config, weight format, elements of the cache, and `training` where it is to be trained as well;
#             configs and formats of one's own stand in HEADERS, which are found where the target's includes are
#   an arch   what -march takes, from the plainest to the richest: of those that a processor runs, the last is chosen;
#             on Arm such as armv8-a, armv8.2-a+dotprod, armv8.6-a+i8mm+bf16
#
# and gives the target a header "<target>_instances.hpp" with a function <target>_instances(), all of them in order. Each
# is a mistral::AnyModelType of the target's own MISTRAL_ABI, whatever it is compiled for: a unit of the target that is
# compiled for another processor than the target's options say doesn't link with them.
#
# Each arch's units become one object in which every symbol is local, but for the instances themselves. Otherwise the
# linker would keep one copy of what two units both instantiate, perhaps the one that is compiled for the richer
# processor, and the plainer one would run it. That takes GNU's ld and objcopy.
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

  # The name that the target's units give to the library's types hangs on options that are known when it is built: a
  # unit that is compiled as they are spells it, and it is read out of its object.
  set(interface ${arg_TARGET}_interface)
  file(CONFIGURE OUTPUT ${folder}/interface.cpp @ONLY CONTENT [[
// Made by mistral_add_instances.
#include <mistral/core/abi.hpp>
#define TEXT_OF(...) #__VA_ARGS__
#define TEXT(...) TEXT_OF(__VA_ARGS__)
extern "C" const char mistral_interface_name[];
const char mistral_interface_name[] = "MISTRAL_ABI=" TEXT(MISTRAL_ABI);
]])
  file(CONFIGURE OUTPUT ${folder}/interface.cmake @ONLY CONTENT [[
# Made by mistral_add_instances.
file(STRINGS "${OBJECT}" name REGEX "^MISTRAL_ABI=[A-Za-z0-9_]+$")
if(NOT name MATCHES "^MISTRAL_ABI=([A-Za-z0-9_]+)$")
  message(FATAL_ERROR "mistral_add_instances: expected the name of an interface in ${OBJECT}, got '${name}'")
endif()
file(WRITE "${HEADER}" "// Made by mistral_add_instances.\n#ifndef MISTRAL_ABI\n#define MISTRAL_ABI ${CMAKE_MATCH_1}\n#endif\n")
]])
  add_library(${interface} OBJECT ${folder}/interface.cpp)
  target_link_libraries(${interface} PRIVATE mistral::mistral)
  target_compile_definitions(${interface} PRIVATE $<TARGET_PROPERTY:${arg_TARGET},COMPILE_DEFINITIONS>)
  target_compile_options(${interface} PRIVATE $<TARGET_PROPERTY:${arg_TARGET},COMPILE_OPTIONS>)
  set_target_properties(${interface} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
  set_source_files_properties(${folder}/interface.cpp PROPERTIES COMPILE_OPTIONS -fno-lto)
  add_custom_command(
    OUTPUT ${folder}/${interface}.hpp
    COMMAND ${CMAKE_COMMAND} -DOBJECT=$<TARGET_OBJECTS:${interface}> -DHEADER=${folder}/${interface}.hpp -P ${folder}/interface.cmake
    DEPENDS ${interface} $<TARGET_OBJECTS:${interface}> ${folder}/interface.cmake
    VERBATIM)
  add_custom_target(${interface}_header DEPENDS ${folder}/${interface}.hpp)

  set(declarations "")
  set(addresses "")
  foreach(arch IN LISTS arg_ARCHS)
    string(MAKE_C_IDENTIFIER "${arch}" arch_name)
    set(sources "")
    set(symbols "")
    foreach(preset IN LISTS arg_PRESETS)
      if(NOT preset MATCHES "^([^ ]+) +([A-Za-z0-9_:]+) +([A-Za-z0-9_:<>]+) +(float|bf16|q8)( +training)?$")
        message(FATAL_ERROR "mistral_add_instances: expected a preset 'name config weights kv [training]', got '${preset}'")
      endif()
      set(name "${CMAKE_MATCH_1}")
      set(model "Transformer<${CMAKE_MATCH_2}, ${CMAKE_MATCH_3}>")
      set(kv "${CMAKE_MATCH_4}")
      set(purpose inference)
      if(CMAKE_MATCH_5)
        set(purpose training)
      endif()
      string(MAKE_C_IDENTIFIER "mistral_instance_${target}_${name}_${arch_name}" symbol)
      set(source ${folder}/${symbol}.cpp)
      file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
// Made by mistral_add_instances.
#include "@folder@/@interface@.hpp"
#include <mistral/run/instance_of.hpp>
#include <mistral/model.hpp>
@includes@
using namespace mistral;
using ModelOfInstance = @model@;
namespace mistral { inline namespace MISTRAL_ABI { namespace instances {
extern const Instance @symbol@;
constinit const Instance @symbol@ = instance_of<ModelOfInstance, @kv@, Purpose::@purpose@>("@name@", "@arch@");
}}}
]])
      list(APPEND sources ${source})
      list(APPEND symbols ${symbol})
      string(APPEND declarations "extern const Instance ${symbol};\n")
      list(APPEND addresses "&mistral::instances::${symbol}")
    endforeach()

    set(library ${arg_TARGET}_${arch_name})
    add_library(${library} OBJECT ${sources})
    add_dependencies(${library} ${interface}_header)
    set_source_files_properties(${sources} PROPERTIES OBJECT_DEPENDS ${folder}/${interface}.hpp)
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
    set(keep --wildcard)  # for the name of the interface is in that of the symbol
    foreach(symbol IN LISTS symbols)
      list(APPEND keep "--keep-global-symbol=_ZN7mistral*9instances*${symbol}E")
    endforeach()
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
namespace mistral { inline namespace MISTRAL_ABI { namespace instances {
@declarations@}}}
/// All instances of @arg_TARGET@, from the plainest processor to the richest: for mistral::best_instance.
inline std::span<const mistral::Instance* const> @target@_instances() {
  static const mistral::Instance* const all[] = {@addresses@};
  return all;
}
]])
  target_include_directories(${arg_TARGET} PRIVATE ${folder})
  target_link_libraries(${arg_TARGET} PRIVATE mistral::mistral)
endfunction()
