// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/checkpoint/peft_config.hpp>
#include <mistral/core/buffer.hpp>
#include <mistral/core/random.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/nn/weights.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The base that an adapter was trained beside, as far as its folder says. The two sums stand in the metadata of
/// adapter_model.safetensors, which PEFT passes over; they are empty in a folder that PEFT wrote.
struct AdapterBase {
  std::string name;   ///< `base_model_name_or_path`: a path, or a name on the hub; empty: not said
  std::string norms;  ///< a sum over the weights of all norms, which every format keeps as floats
  std::string
      weights;  ///< `Q4_0 0123456789abcdef`: a format, and a sum over the first and last row of each matrix in it
};

namespace detail {

inline constexpr std::string_view base_norms_key = "mistral.base_norms";
inline constexpr std::string_view base_weights_key = "mistral.base_weights";

/// Sums over a model's weights, in whatever order they come; a visitor of visit_weights.
class BaseSums {
 public:
  template <WeightFormat F>
  void operator()(const std::string& name, const Panels<F>& matrix, std::size_t) {
    std::vector<float> row(matrix.cols());
    for (const std::size_t r : {std::size_t{0}, matrix.rows() - 1}) {
      matrix.unpack_row(r, row);
      add_row(name, F::name, row);
    }
  }
  void operator()(const std::string& name, const Buffer<float>& norm) { add_norm(name, norm.span()); }

  void add_norm(std::string_view name, std::span<const float> values) { norms_ += sum(name, values); }

  /// A row as `format` holds it.
  void add_row(std::string_view name, std::string_view format, std::span<const float> values) {
    if (format_.empty()) format_ = format;
    one_format_ = one_format_ && format_ == format;
    weights_ += sum(name, values);
  }

  std::string norms() const { return checksum_text(norms_); }
  std::string weights() const {
    return one_format_ && !format_.empty() ? format_ + " " + checksum_text(weights_) : std::string();
  }

 private:
  static std::uint64_t sum(std::string_view name, std::span<const float> values) {
    std::uint64_t state = checksum(std::as_bytes(std::span(name)));
    state = split_mix(state) ^ checksum(std::as_bytes(values));
    return split_mix(state);
  }

  std::uint64_t norms_ = 0;
  std::uint64_t weights_ = 0;
  std::string format_;
  bool one_format_ = true;
};

template <class Model>
BaseSums base_sums(const Model& model) {
  BaseSums sums;
  visit_weights(model, sums);
  return sums;
}

/// Computes the sums of a base from a checkpoint's tensors, as of a model.
inline BaseSums base_sums(const Checkpoint& checkpoint) {
  BaseSums sums;
  const CheckpointConfig& config = checkpoint.config();
  for (const std::string& weight : weight_names(config)) {
    const CheckpointTensor tensor = checkpoint.get(weight);
    if (!tensor.type) continue;  // of a packed file, whose norms alone are rows
    std::vector<float> row(static_cast<std::size_t>(tensor.shape.back()));
    if (tensor.shape.size() == 1) {
      tensor.read_row(0, row);
      sums.add_norm(weight, row);
      continue;
    }
    const auto rows = static_cast<std::size_t>(tensor.shape[0]);
    const bool permuted = config.layout == CheckpointLayout::hugging_face && turned_heads(config, weight) != 0;
    for (const std::size_t r : {std::size_t{0}, rows - 1}) {
      tensor.read_row(permuted ? hugging_face_row(r, static_cast<std::size_t>(config.head_dim)) : r, row);
      sums.add_row(weight, tensor.type_name, row);
    }
  }
  return sums;
}

/// Whether sums are those of the base that the folder names; none where it says nothing that could be held against
/// them.
inline std::optional<bool> same_base(const AdapterBase& base, const BaseSums& sums) {
  if (base.norms.empty()) return std::nullopt;
  if (base.norms != sums.norms()) return false;
  // rows can be compared within a format only
  const std::string weights = sums.weights();
  const auto format = [](const std::string& text) { return text.substr(0, text.find(' ')); };
  if (weights.empty() || base.weights.empty() || format(weights) != format(base.weights)) return true;
  return weights == base.weights;
}

}  // namespace detail

/// Reads what an adapter's folder says of its base. Throws Error where the folder holds no adapter.
inline AdapterBase adapter_base(const std::string& folder) {
  AdapterBase base;
  base.name = detail::PeftConfig::read_folder(folder).base_model;
  const Safetensors file = Safetensors::open(path_in(folder, detail::adapter_tensors_name));
  for (const auto& [key, value] : file.metadata()) {
    if (key == detail::base_norms_key) base.norms = value;
    if (key == detail::base_weights_key) base.weights = value;
  }
  return base;
}

/// Whether an adapter was trained beside a model's weights, adapters aside: true for the same base in any format of its
/// weights, false for another of the same shapes, and none where the folder doesn't say (PEFT's says a name alone). A
/// base that differs from the right one inside of its matrices alone is taken for it where the formats differ. Throws
/// Error where the folder holds no adapter.
///   model  a Transformer, or a Checkpoint
template <class Model>
std::optional<bool> trained_beside(const Model& model, const std::string& folder) {
  return detail::same_base(adapter_base(folder), detail::base_sums(model));
}

}}  // namespace mistral
