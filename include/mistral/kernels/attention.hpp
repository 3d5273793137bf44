#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Keys (or values) of one head over consecutive positions, in up to three contiguous pieces: the two spans of a ring
/// buffer, then the chunk that is not in it yet. Each entry is (head_dim) elements, entries are adjacent.
template <class T>
struct HeadEntries {
  std::array<std::span<const T>, 3> pieces;  ///< (entries * head_dim) each, oldest first

  /// The entry `index` places after the first.
  const T* entry(std::size_t index, std::size_t head_dim) const noexcept {
    std::size_t offset = index * head_dim;
    for (const auto& piece : pieces) {
      if (offset < piece.size()) return piece.data() + offset;
      offset -= piece.size();
    }
    return nullptr;
  }
};

/// What the queries of one sequence that share a head of keys attend to.
template <class T>
struct HeadContext {
  HeadEntries<T> keys;
  HeadEntries<T> values;
  std::int64_t first_position;  ///< position of the first entry
};

/// Keys that are scored together. Blocks begin at multiples of it in absolute position, so that where a block begins
/// depends neither on the chunk nor on the ring.
inline constexpr std::size_t key_block = 32;

/// Rows (queries x heads of a group) that a task holds: each block of keys is widened once for all of them.
inline constexpr std::size_t query_rows = 64;

/// Attention of up to query_rows rows that share one head of keys and values, by online softmax over blocks of keys:
/// out = sum_j softmax_j(q . k_j) v_j over the keys j in a row's window. A row's keys are met in order of position, in
/// blocks that depend on the position alone, and what a row doesn't see is never part of a sum: a row gets the same
/// bits in any chunk and beside any other row.
template <class T>
class OnlineSoftmax {
 public:
  /// `queries` (rows, head_dim), already scaled by 1 / sqrt(head_dim), adjacent.
  explicit OnlineSoftmax(std::size_t head_dim) noexcept
      : head_dim_(head_dim), value_panels_((head_dim + simd::lanes - 1) / simd::lanes) {}

  float* query(std::size_t row) noexcept { return queries_ + row * head_dim_; }

  /// Declares the next row: it sees positions [begin, end). Rows come in order of their positions.
  void add_row(std::int64_t begin, std::int64_t end) noexcept {
    assert(rows_ < query_rows && begin < end);
    begin_[rows_] = begin;
    end_[rows_] = end;
    maximum_[rows_] = -std::numeric_limits<float>::infinity();
    total_[rows_] = simd::Lanes::broadcast(0.0f);
    for (std::size_t p = 0; p < value_panels_; ++p) output_[rows_][p] = simd::Lanes::broadcast(0.0f);
    ++rows_;
  }

  void run(const HeadContext<T>& context) noexcept {
    constexpr auto block = static_cast<std::int64_t>(key_block);
    for (std::int64_t first = begin_[0] / block * block; first < end_[rows_ - 1]; first += block) {
      attend(context, first);
    }
  }

  /// Writes the (head_dim) result of a row.
  void result(std::size_t row, float* out) const noexcept {
    const simd::Lanes total = simd::Lanes::broadcast(simd::sum(total_[row]));
    for (std::size_t p = 0; p < value_panels_; ++p) {
      (output_[row][p] / total).store_some(out + p * simd::lanes, head_dim_ - p * simd::lanes);
    }
  }

 private:
  static constexpr std::size_t max_value_panels = (max_head_dim + simd::lanes - 1) / simd::lanes;
  static constexpr std::size_t key_panels = key_block / simd::lanes;

  /// The part [from, to) of a block, relative to its first position, that a row sees.
  struct Seen {
    std::size_t from;
    std::size_t to;
    bool empty() const noexcept { return from >= to; }
    bool whole() const noexcept { return from == 0 && to == key_block; }
  };
  Seen seen(std::size_t row, std::int64_t first) const noexcept {
    const std::int64_t from = std::clamp<std::int64_t>(begin_[row] - first, 0, key_block);
    const std::int64_t to = std::clamp<std::int64_t>(end_[row] - first, 0, key_block);
    return {static_cast<std::size_t>(from), static_cast<std::size_t>(to)};
  }

  void attend(const HeadContext<T>& context, std::int64_t first) noexcept {
    // Rows are in order of position, so those that see something of the block are neighbours.
    std::size_t row = 0;
    while (row < rows_ && seen(row, first).empty()) ++row;
    std::size_t last = rows_;
    while (last > row && seen(last - 1, first).empty()) --last;
    if (row == last) return;
    widen(context, first, seen(row, first).from, seen(last - 1, first).to);
    while (row < last) {
      // A tile of rows that see the whole block shares its loads; at an edge of the window each row goes alone.
      std::size_t rows = 0;
      while (rows < tile_rows && row + rows < last && seen(row + rows, first).whole()) ++rows;
      if (rows == 0) {
        step<1>(row, seen(row, first));
        rows = 1;
      } else {
        with_rows(rows, [&]<std::size_t R>() { step<R>(row, Seen{0, key_block}); });
      }
      row += rows;
    }
  }

  /// Widens the block's keys to panels, a key a lane, and its values to panels of 16 columns, a key a step.
  void widen(const HeadContext<T>& context, std::int64_t first, std::size_t from, std::size_t to) noexcept {
    const T* keys[key_block] = {};
    const T* values[key_block] = {};
    for (std::size_t k = from; k < to; ++k) {
      const auto index = static_cast<std::size_t>(first - context.first_position + static_cast<std::int64_t>(k));
      keys[k] = context.keys.entry(index, head_dim_);
      values[k] = context.values.entry(index, head_dim_);
    }
    for (std::size_t k = 0; k < key_block; ++k) {  // lanes that no row sees: any key will do, their scores are dropped
      if (keys[k] == nullptr) keys[k] = keys[from];
    }
    for (std::size_t p = 0; p < key_panels; ++p) {
      simd::transpose_to_panel(keys + p * simd::lanes, simd::lanes, head_dim_, keys_ + p * simd::lanes * max_head_dim);
    }
    for (std::size_t k = from; k < to; ++k) {
      std::size_t p = 0;
      for (; (p + 1) * simd::lanes <= head_dim_; ++p) {
        simd::Lanes::load(values[k] + p * simd::lanes).store(values_ + (p * key_block + k) * simd::lanes);
      }
      for (std::size_t i = p * simd::lanes; i < value_panels_ * simd::lanes; ++i) {
        values_[(p * key_block + k) * simd::lanes + i % simd::lanes] = i < head_dim_ ? to_float(values[k][i]) : 0.0f;
      }
    }
  }

  /// One block for R rows from `row` on, all of which see `seen` of it.
  template <std::size_t R>
  void step(std::size_t row, Seen seen) noexcept {
    alignas(64) float scores[R][key_block];
    for (std::size_t p = 0; p < key_panels; ++p) {
      simd::Lanes acc[R][1];
      for (auto& a : acc) a[0] = simd::Lanes::broadcast(0.0f);
      multiply_tile<R, 1>(keys_ + p * simd::lanes * max_head_dim, 0, queries_ + row * head_dim_, head_dim_, head_dim_,
                          acc);
      for (std::size_t r = 0; r < R; ++r) acc[r][0].store(scores[r] + p * simd::lanes);
    }
    for (std::size_t r = 0; r < R; ++r) rescale(row + r, scores[r], seen);
    for (std::size_t p = 0; p < value_panels_; ++p) {
      simd::Lanes acc[R][1];
      for (std::size_t r = 0; r < R; ++r) acc[r][0] = output_[row + r][p];
      multiply_tile<R, 1>(values_ + (p * key_block + seen.from) * simd::lanes, 0, scores[0] + seen.from, key_block,
                          seen.to - seen.from, acc);
      for (std::size_t r = 0; r < R; ++r) output_[row + r][p] = acc[r][0];
    }
  }

  /// Turns a row's scores into exp(score - maximum) and scales what it summed so far to the new maximum.
  void rescale(std::size_t row, float* scores, Seen seen) noexcept {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    for (std::size_t k = 0; k < seen.from; ++k) scores[k] = lowest;
    for (std::size_t k = seen.to; k < key_block; ++k) scores[k] = lowest;
    float maximum = maximum_[row];
    for (std::size_t k = seen.from; k < seen.to; ++k) maximum = std::max(maximum, scores[k]);
    if (maximum > maximum_[row]) {
      const simd::Lanes shrink = simd::exp(simd::Lanes::broadcast(maximum_[row] - maximum));
      total_[row] = total_[row] * shrink;
      for (std::size_t p = 0; p < value_panels_; ++p) output_[row][p] = output_[row][p] * shrink;
      maximum_[row] = maximum;
    }
    for (std::size_t p = 0; p < key_panels; ++p) {
      const simd::Lanes weights =
          simd::exp(simd::Lanes::load(scores + p * simd::lanes) - simd::Lanes::broadcast(maximum));
      weights.store(scores + p * simd::lanes);
      total_[row] = total_[row] + weights;
    }
  }

  std::size_t head_dim_;
  std::size_t value_panels_;
  std::size_t rows_ = 0;
  std::int64_t begin_[query_rows];
  std::int64_t end_[query_rows];
  float maximum_[query_rows];
  simd::Lanes total_[query_rows];  // lane i: the keys at positions i mod 16
  simd::Lanes output_[query_rows][max_value_panels];
  alignas(64) float queries_[query_rows * max_head_dim];
  alignas(64) float keys_[key_block * max_head_dim];
  alignas(64) float values_[key_block * max_head_dim];
};

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
///   context(i, head)    the HeadContext<T> of a key head: what is cached before the rows, and the rows' own
/// Query head h shares the keys of head h / (n_heads / n_kv_heads). Work is split over sequences, key heads and rows.
template <class T, class SequenceOf, class ContextOf>
void attention(const AttentionShape& shape, Rows<const float> q, Rows<float> out, std::size_t n_sequences,
               const SequenceOf& sequence, const ContextOf& context) noexcept {
  assert(shape.head_dim <= max_head_dim && q.cols() == shape.n_heads * shape.head_dim && out.cols() == q.cols());
  const std::size_t group = shape.n_heads / shape.n_kv_heads;
  const std::size_t heads_per_task = std::min(group, query_rows);
  const std::size_t head_parts = (group + heads_per_task - 1) / heads_per_task;
  const std::size_t tokens_per_task = query_rows / heads_per_task;
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
    const std::size_t tokens = std::min(tokens_per_task, span.rows - first_token);
    const std::size_t first_head = kv_head * group + part * heads_per_task;
    const std::size_t heads = std::min(heads_per_task, group - part * heads_per_task);
    OnlineSoftmax<T> softmax(shape.head_dim);
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::int64_t end = span.position + static_cast<std::int64_t>(first_token + t) + 1;
      const std::int64_t begin =
          shape.window == 0 ? 0 : std::max<std::int64_t>(0, end - static_cast<std::int64_t>(shape.window));
      for (std::size_t h = 0; h < heads; ++h) {
        const float* query = q.row(span.first_row + first_token + t).data() + (first_head + h) * shape.head_dim;
        float* scaled = softmax.query(t * heads + h);
        for (std::size_t d = 0; d < shape.head_dim; ++d) scaled[d] = query[d] * scale;
        softmax.add_row(begin, end);
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
      for (std::size_t task = std::max(begin, first_task); task < std::min(end, first_task + count); ++task) {
        run(i, span, task - first_task);
      }
      first_task += count;
    }
  });
}

}  // namespace mistral::inline MISTRAL_ABI::kernels
