// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <mistral/core/kv_entry.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/head_context.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// The weights that attention never writes down, for those who want to see them: softmax(q . k / sqrt(head_dim)) of the
/// rows of one head, in double, over the keys as they are cached. Takes memory, and far longer than attention itself.
///   q          (rows, head_dim): consecutive tokens of one sequence, the first at `position`
///   context    the head's keys, of which the first is at context.first_position, and the last at that of the last row
///   first_key  position of the first column's key: that of the oldest key which the first row sees
///   window     keys that a row sees, itself included; 0: all
///   out        (rows, position + rows - first_key), 0 where a row doesn't see a key
template <KvElement T>
void attention_scores(Rows<const float> q, const HeadContext& context, std::int64_t position, std::int64_t first_key,
                      std::size_t window, Rows<float> out) {
  const std::size_t head_dim = q.cols();
  const std::size_t keys = out.cols();
  assert(out.rows() == q.rows() && first_key >= context.first_position);
  const std::size_t entry_bytes = kv_entry_bytes<T>(head_dim);
  std::vector<std::byte> room(keys * entry_bytes);
  const std::byte* const entries = context.keys.together(static_cast<std::size_t>(first_key - context.first_position),
                                                         keys, entry_bytes, room.data());
  std::vector<float> k(keys * head_dim);
  for (std::size_t j = 0; j < keys; ++j) {
    read_kv_entry<T>(entries + j * entry_bytes, std::span(k).subspan(j * head_dim, head_dim));
  }

  parallel::for_ranges(q.rows(), 1, [&](std::size_t begin, std::size_t end) {
    std::vector<double> weights(keys);
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t last = static_cast<std::size_t>(position - first_key) + i;  // the row's own key
      const std::size_t first = window == 0 || last + 1 <= window ? 0 : last + 1 - window;
      double maximum = -std::numeric_limits<double>::infinity();
      for (std::size_t j = first; j <= last; ++j) {
        double dot = 0.0;
        for (std::size_t d = 0; d < head_dim; ++d) {
          dot += static_cast<double>(q.row(i)[d]) * static_cast<double>(k[j * head_dim + d]);
        }
        weights[j] = dot / std::sqrt(static_cast<double>(head_dim));
        maximum = (std::max)(maximum, weights[j]);
      }
      double total = 0.0;
      for (std::size_t j = first; j <= last; ++j) total += weights[j] = std::exp(weights[j] - maximum);
      std::fill(out.row(i).begin(), out.row(i).end(), 0.0f);
      for (std::size_t j = first; j <= last; ++j) out.row(i)[j] = static_cast<float>(weights[j] / total);
    }
  });
}

}}}  // namespace mistral::kernels
