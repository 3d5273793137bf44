// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/token.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

#include "data.hpp"

namespace mistral::test {

/// expected.json of a folder of golden data.
inline nlohmann::json expected_json(const std::filesystem::path& folder) {
  std::ifstream file(folder / "expected.json");
  return nlohmann::json::parse(file);
}

/// The elements of a golden tensor, converted to T: F32 or I64.
template <class T>
std::vector<T> tensor_values(const Safetensors& file, const std::string& name) {
  const SafetensorsTensor& tensor = file.get(name);
  std::size_t count = 1;
  for (const auto size : tensor.shape) count *= static_cast<std::size_t>(size);
  std::vector<T> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (tensor.dtype == DType::f32) {
      float v;
      std::memcpy(&v, tensor.data.data() + 4 * i, 4);
      out[i] = static_cast<T>(v);
    } else {
      std::int64_t v;
      std::memcpy(&v, tensor.data.data() + 8 * i, 8);
      out[i] = static_cast<T>(v);
    }
  }
  return out;
}

/// The largest difference of two sequences of one length, NaN where one holds a NaN.
inline float max_error(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  float error = 0.0f;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= error)) error = difference;
  }
  return error;
}

inline TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// log softmax(logits)[token], in double.
inline double log_probability(std::span<const float> logits, TokenId token) {
  const double maximum = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - maximum);
  return static_cast<double>(logits[static_cast<std::size_t>(token)]) - maximum - std::log(sum);
}

}  // namespace mistral::test
