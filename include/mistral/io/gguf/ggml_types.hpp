// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The element types of GGUF tensors that this library reads; the numbers are those of the format
/// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, `ggml_type`).
enum class GgmlType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  bf16 = 30,
};

/// An element type: what the format calls it, and how a row is cut, in blocks of `block` elements, `bytes` bytes each.
struct GgmlTypeInfo {
  std::string_view name;
  std::uint32_t block = 0;  // 0: this library doesn't read the type
  std::uint32_t bytes = 0;
  std::uint32_t model = 1024;  // llama.cpp's number for a file whose matrices have the type (`llama_ftype`); 1024: none
};

/// All types that the format has given a number, by number; those without a name were taken out of it again.
inline constexpr GgmlTypeInfo ggml_type_infos[] = {
    {"F32", 1, 4, 0},
    {"F16", 1, 2, 1},
    {"Q4_0", 32, 18, 2},
    {"Q4_1", 32, 20, 3},
    {""},
    {""},
    {"Q5_0", 32, 22, 8},
    {"Q5_1", 32, 24, 9},
    {"Q8_0", 32, 34, 7},
    {"Q8_1"},
    {"Q2_K", 256, 84, 21},
    {"Q3_K", 256, 110, 11},
    {"Q4_K", 256, 144, 14},
    {"Q5_K", 256, 176, 16},
    {"Q6_K", 256, 210, 18},
    {"Q8_K"},
    {"IQ2_XXS"},
    {"IQ2_XS"},
    {"IQ3_XXS"},
    {"IQ1_S"},
    {"IQ4_NL", 32, 18, 25},
    {"IQ3_S"},
    {"IQ2_S"},
    {"IQ4_XS"},
    {"I8"},
    {"I16"},
    {"I32"},
    {"I64"},
    {"F64"},
    {"IQ1_M"},
    {"BF16", 1, 2, 32},
    {""},
    {""},
    {""},
    {"TQ1_0"},
    {"TQ2_0"},
    {""},
    {""},
    {""},
    {"MXFP4"},
};

/// Whether this library reads the type of that number.
constexpr bool is_ggml_type(std::uint32_t number) noexcept {
  return number < std::size(ggml_type_infos) && ggml_type_infos[number].block != 0;
}

constexpr const GgmlTypeInfo& info(GgmlType type) noexcept { return ggml_type_infos[static_cast<std::size_t>(type)]; }

/// `Q4_K`, or `type 99` where the format has no name for that number: for messages.
inline std::string ggml_type_text(std::uint32_t number) {
  if (number < std::size(ggml_type_infos) && !ggml_type_infos[number].name.empty()) {
    return std::string(ggml_type_infos[number].name);
  }
  return "type " + std::to_string(number);
}

/// `F32, F16, Q4_0, ...`: what this library reads, for messages.
inline std::string ggml_type_names() {
  std::string names;
  for (const GgmlTypeInfo& type : ggml_type_infos) {
    if (type.block != 0) names.append(names.empty() ? "" : ", ").append(type.name);
  }
  return names;
}

}}  // namespace mistral
