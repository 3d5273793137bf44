// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <mistral/core/rows.hpp>
#include <mistral/kernels/online_softmax.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Sizes of an attention layer.
struct AttentionShape {
  std::size_t head_dim;
  std::size_t n_heads;
  std::size_t n_kv_heads;
  std::size_t window;  ///< keys that a query sees, itself included; 0: all
};

/// Rows [first_row, first_row + rows) of a forward: consecutive tokens of one sequence, the first at `position`.
struct SequenceSpan {
  std::size_t first_row;
  std::size_t rows;
  std::int64_t position;
};

/// Sliding-window, grouped-query attention (sections 2 and 2.1 of the paper) for rows of any number of sequences.
///   q, out              (tokens, n_heads * head_dim)
///   sequence(i)         the SequenceSpan of sequence i < n_sequences
///   context(i, head)    the HeadContext of a key head: what is cached before the rows, and the rows' own
/// Query head h shares the keys of head h / (n_heads / n_kv_heads). Work is split over sequences, key heads and rows.
template <KvElement T, class SequenceOf, class ContextOf>
void attention(const AttentionShape& shape, Rows<const float> q, Rows<float> out, std::size_t n_sequences,
               const SequenceOf& sequence, const ContextOf& context) noexcept {
  assert(shape.head_dim <= max_head_dim && q.cols() == shape.n_heads * shape.head_dim && out.cols() == q.cols());
  const std::size_t group = shape.n_heads / shape.n_kv_heads;
  const std::size_t rows_per_task = OnlineSoftmax<T>::rows_of(shape.head_dim);
  const std::size_t heads_per_task = (std::min)(group, rows_per_task);
  const std::size_t head_parts = (group + heads_per_task - 1) / heads_per_task;
  const std::size_t tokens_per_task = rows_per_task / heads_per_task;
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));

  const auto tasks_of = [&](const SequenceSpan& span) {
    return (span.rows + tokens_per_task - 1) / tokens_per_task * shape.n_kv_heads * head_parts;
  };
  std::size_t tasks = 0;
  for (std::size_t i = 0; i < n_sequences; ++i) tasks += tasks_of(sequence(i));

  const auto run = [&](std::size_t i, const SequenceSpan& span, std::size_t task) {
    const std::size_t kv_head = task % shape.n_kv_heads;
    const std::size_t part = task / shape.n_kv_heads % head_parts;
    const std::size_t first_token = task / (shape.n_kv_heads * head_parts) * tokens_per_task;
    const std::size_t tokens = (std::min)(tokens_per_task, span.rows - first_token);
    const std::size_t first_head = kv_head * group + part * heads_per_task;
    const std::size_t heads = (std::min)(heads_per_task, group - part * heads_per_task);
    OnlineSoftmax<T> softmax(shape.head_dim);
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::int64_t end = span.position + static_cast<std::int64_t>(first_token + t) + 1;
      const std::int64_t begin =
          shape.window == 0 ? 0 : (std::max<std::int64_t>)(0, end - static_cast<std::int64_t>(shape.window));
      for (std::size_t h = 0; h < heads; ++h) {
        const float* query = q.row(span.first_row + first_token + t).data() + (first_head + h) * shape.head_dim;
        softmax.add_row(query, scale, begin, end);
      }
    }
    softmax.run(context(i, kv_head));
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t h = 0; h < heads; ++h) {
        softmax.result(t * heads + h,
                       out.row(span.first_row + first_token + t).data() + (first_head + h) * shape.head_dim);
      }
    }
  };
  parallel::for_ranges(tasks, 1, [&](std::size_t begin, std::size_t end) {
    std::size_t first_task = 0;
    for (std::size_t i = 0; i < n_sequences; ++i) {
      const SequenceSpan span = sequence(i);
      const std::size_t count = tasks_of(span);
      for (std::size_t task = (std::max)(begin, first_task); task < (std::min)(end, first_task + count); ++task) {
        run(i, span, task - first_task);
      }
      first_task += count;
    }
  });
}

}}}  // namespace mistral::kernels
