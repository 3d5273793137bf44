// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/finite.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/format/held.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Watches the rows of one tensor on their way into another format, for weights that it doesn't hold: a finite one that
/// becomes infinite or NaN, since a format's scale is too narrow, or the other way round. Several threads may add rows.
class HeldWeights {
 public:
  /// Weights that are refused besides.
  enum class Refuse {
    nothing,    ///< a NaN or an infinity passes where the format holds it
    not_finite  ///< each NaN and each infinity
  };

  explicit HeldWeights(Refuse refuse) noexcept : refuse_(refuse) {}

  /// Looks at a row.
  ///   wanted  the weights before they were encoded
  ///   decode  decode(std::span<float>) gives what the format made of them; called where that isn't certain
  template <class Decode>
  void add(std::size_t row, std::span<const float> wanted, const Decode& decode) {
    const bool refused = refuse_ == Refuse::not_finite && !all_finite(wanted);
    if (refused || !holds(wanted, decode)) note(row, largest_magnitude(wanted));
  }

  /// Throws Error `[safetensors] file: tensor 'name': expected weights that Q8_0 holds, got 1.3e+08 in row 5` for the
  /// first row that holds what the format `name` doesn't.
  void check(const Checkpoint& checkpoint, const CheckpointTensor& tensor, std::string_view name) const {
    if (row_ == none) return;
    const std::string row = " in row " + std::to_string(row_);
    if (!std::isfinite(value_)) {
      throw checkpoint.error(tensor, "finite weights", (std::isnan(value_) ? "NaN" : "an infinity") + row);
    }
    throw checkpoint.error(tensor, "weights that " + std::string(name) + " holds", number_text(value_) + row);
  }

 private:
  static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

  void note(std::size_t row, float value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (row >= row_) return;
    row_ = row;
    value_ = value;
  }

  Refuse refuse_;
  std::mutex mutex_;
  std::size_t row_ = none;  // the first, so that the error is the same for any number of threads
  float value_ = 0.0f;
};

}}  // namespace mistral
