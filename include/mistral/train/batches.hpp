// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/random.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The numbers 0 ... count - 1 in a random order: the same for the same seed, with every compiler.
inline std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed) {
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  Random random(seed);
  for (std::size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<std::size_t>(random.next() % i)]);  // uneven by i / 2^64: nothing
  }
  return order;
}

/// The order in which examples are learnt from: all of them each epoch, each time in another order, in batches, of
/// which an epoch's last may be smaller. The n-th batch is a function of the seed and n, so that a run which is resumed
/// needs nothing but its number of steps to go on with the same data.
///
/// Batches are not grouped by length: a Trainer lays the rows of several examples behind each other and pads none, so
/// that there is nothing to be saved.
class Batches {
 public:
  /// Throws Error where there are no examples, or none in a batch.
  Batches(std::size_t examples, std::size_t batch, std::uint64_t seed) : batch_(batch), seed_(seed), count_(examples) {
    if (examples == 0) throw Error("fit", "examples to learn from", "at least one", "none");
    if (batch == 0) throw Error("fit", "batch x accumulation", "at least one example", "none");
  }

  /// Batches of an epoch.
  std::uint64_t per_epoch() const noexcept { return (count_ - 1) / batch_ + 1; }

  /// The numbers of the examples of batch `number`, 0 for the first one of the first epoch; until the next call.
  std::span<const std::size_t> at(std::uint64_t number) {
    const std::uint64_t epoch = number / per_epoch();
    if (order_.empty() || epoch != epoch_) {
      std::uint64_t state = seed_;
      order_ = shuffled(count_, split_mix(state) ^ epoch);
      epoch_ = epoch;
    }
    const std::size_t begin = static_cast<std::size_t>(number % per_epoch()) * batch_;
    return std::span<const std::size_t>(order_).subspan(begin, (std::min)(batch_, count_ - begin));
  }

 private:
  std::size_t batch_;
  std::uint64_t seed_;
  std::size_t count_;
  std::vector<std::size_t> order_;  // of the epoch `epoch_`
  std::uint64_t epoch_ = 0;
};

}}  // namespace mistral
