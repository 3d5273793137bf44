#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <mistral/core/rows.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The residual stream of one sequence's rows as it enters block `layer`; layer == n_layers: as it leaves the last.
struct Residual {
  std::size_t layer;
  std::size_t sequence;   ///< index of the sequence in the forward
  std::int64_t position;  ///< position of the first row
  Rows<float> x;          ///< (rows, dim); what is written here goes on into the block
};

/// A tape watches a forward. It has whichever of these members it wants, and what it doesn't have costs nothing:
///   residual(const Residual&)   may throw; the forward's sequences are then to be reset
/// NoTape watches nothing.
struct NoTape {};

/// A tape that hands the residual stream, before each block and after the last, to a function.
template <class F>
struct ResidualHook {
  F function;
  void residual(const Residual& residual) { function(residual); }
};

template <class F>
ResidualHook(F) -> ResidualHook<F>;

}  // namespace mistral::inline MISTRAL_ABI
