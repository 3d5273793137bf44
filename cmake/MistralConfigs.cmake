# SPDX-License-Identifier: Apache-2.0
# mistral_add_config(TARGET <target> CHECKPOINT <path> NAME <identifier>)
#
# Makes a header "<identifier>.hpp" for a target, with the ModelConfig of a checkpoint as the constant <identifier>:
#
#   mistral_add_config(TARGET app CHECKPOINT /models/breeze NAME breeze)
#
#   #include "breeze.hpp"
#   using Model = mistral::Transformer<breeze, mistral::Q4_0>;
#
# The header is made when the project is configured, and again where the checkpoint's own configuration has changed. The tool
# `mistral` reads the checkpoint; MISTRAL_TOOL says where it is, unless it is in the PATH. A path that isn't absolute is one from
# the current source folder.
function(mistral_add_config)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "TARGET;CHECKPOINT;NAME" "")
  if(NOT TARGET "${arg_TARGET}" OR NOT arg_CHECKPOINT OR NOT arg_NAME MATCHES "^[A-Za-z_][A-Za-z0-9_]*$" OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mistral_add_config(TARGET <target> CHECKPOINT <path> NAME <identifier>)")
  endif()
  find_program(MISTRAL_TOOL mistral DOC "The tool 'mistral', which mistral_add_config reads checkpoints with")
  if(NOT MISTRAL_TOOL)
    message(FATAL_ERROR "mistral_add_config: the tool 'mistral' is not in the PATH: build it, and say where it is by "
                        "-DMISTRAL_TOOL=<path of mistral>")
  endif()
  cmake_path(ABSOLUTE_PATH arg_CHECKPOINT BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE)
  execute_process(COMMAND ${MISTRAL_TOOL} inspect --model ${arg_CHECKPOINT} --config ${arg_NAME}
                  OUTPUT_VARIABLE config ERROR_VARIABLE error RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    string(STRIP "${error}" error)
    message(FATAL_ERROR "mistral_add_config: ${MISTRAL_TOOL} inspect --model ${arg_CHECKPOINT} --config ${arg_NAME}: ${error}")
  endif()
  if(NOT config MATCHES "inline constexpr mistral::ModelConfig ${arg_NAME}[{]")
    message(FATAL_ERROR "mistral_add_config: ${MISTRAL_TOOL} is of another version: it prints no ModelConfig")
  endif()
  foreach(file "" /config.json /params.json)
    if(EXISTS "${arg_CHECKPOINT}${file}" AND NOT IS_DIRECTORY "${arg_CHECKPOINT}${file}")
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${arg_CHECKPOINT}${file}")
    endif()
  endforeach()

  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${arg_TARGET}_configs)
  file(CONFIGURE OUTPUT ${folder}/${arg_NAME}.hpp @ONLY CONTENT [[
// Made by mistral_add_config.
#pragma once
#include <mistral/core/config.hpp>

@config@]])
  target_include_directories(${arg_TARGET} PRIVATE ${folder})
  target_link_libraries(${arg_TARGET} PRIVATE mistral::mistral)
endfunction()
