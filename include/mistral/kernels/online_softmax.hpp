// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <mistral/core/config.hpp>
#include <mistral/core/kv_entry.hpp>
#include <mistral/kernels/head_context.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Keys that are scored together. Blocks begin at multiples of it in absolute position, so that where a block begins
/// depends neither on the chunk nor on the ring.
inline constexpr std::size_t key_block = 32;

/// Rows (queries x heads of a group) that a task holds at most: each block of keys is turned once for all of them.
inline constexpr std::size_t query_rows = 64;

/// Attention of up to query_rows rows that share one head of keys and values, by online softmax over blocks of keys:
/// out = sum_j softmax_j(q . k_j) v_j over the keys j in a row's window. A row's keys are met in order of position, in
/// blocks that depend on the position alone, and what a row doesn't see is never part of a sum: a row gets the same
/// bits in any chunk and beside any other row.
///
/// It lives on the stack of a task, of which it takes less than 140 KB with keys in float, 110 KB in bfloat16 and 90 KB
/// in q8. Memory of a caller's would have to be one for each thread that may come, a number that changes between calls.
template <KvElement T>
class OnlineSoftmax {
 public:
  /// Rows of so wide heads that a task holds: wider heads are held in fewer, so that what they take is bounded by heads
  /// of 128, which is what Mistral has.
  static constexpr std::size_t rows_of(std::size_t head_dim) noexcept {
    return (std::min)(query_rows, row_floats / padded(head_dim));
  }

  explicit OnlineSoftmax(std::size_t head_dim) noexcept
      : head_dim_(head_dim),
        entry_bytes_(kv_entry_bytes<T>(head_dim)),
        words_(kv_words<T>(head_dim)),
        query_stride_(words_ * Layout::per_word),
        value_lines_((words_ + simd::lanes - 1) / simd::lanes),
        output_stride_(padded(head_dim)) {}

  /// Declares the next row: `query` (head_dim) times `scale` sees positions [begin, end). Rows come in order of their
  /// positions.
  void add_row(const float* query, float scale, std::int64_t begin, std::int64_t end) noexcept {
    assert(rows_ < rows_of(head_dim_) && begin < end);
    float* const turned = queries_ + rows_ * query_stride_;
    for (std::size_t d = 0; d < head_dim_; ++d) turned[d] = query[d] * scale;
    for (std::size_t d = head_dim_; d < query_stride_; ++d) turned[d] = 0.0f;
    begin_[rows_] = begin;
    end_[rows_] = end;
    maximum_[rows_] = -std::numeric_limits<float>::infinity();
    total_[rows_] = simd::Lanes::broadcast(0.0f);
    std::fill_n(output(rows_), output_stride_, 0.0f);
    ++rows_;
  }

  /// Attends to all keys that the rows see.
  void run(const HeadContext& context) noexcept;

  /// Writes the (head_dim) result of a row.
  void result(std::size_t row, float* out) const noexcept {
    const simd::Lanes total = simd::Lanes::broadcast(simd::sum(total_[row]));
    for (std::size_t first = 0; first < head_dim_; first += line_columns) {
      alignas(64) float columns[Layout::per_word][simd::lanes];
      for (std::size_t i = 0; i < Layout::per_word; ++i) {
        (simd::Lanes::load(output(row) + first + i * simd::lanes) / total).store(columns[i]);
      }
      const std::size_t count = (std::min)(line_columns, head_dim_ - first);
      for (std::size_t c = 0; c < count; ++c) out[first + c] = columns[c % Layout::per_word][c / Layout::per_word];
    }
  }

 private:
  using Layout = KvLayout<T>;
  using Code = typename Layout::Code;
  static constexpr bool scaled = std::same_as<T, q8>;
  static constexpr std::size_t key_panels = key_block / simd::lanes;

  /// Columns of values in a line, that is in 16 words: a panel of 16 for each element of a word, taken apart like the
  /// keys', of the columns that are so many apart.
  static constexpr std::size_t line_columns = simd::lanes * Layout::per_word;
  static_assert(max_head_dim % line_columns == 0);

  /// Floats of all rows that are held, and of one: whole lines.
  static constexpr std::size_t row_floats = query_rows * 128;
  static constexpr std::size_t padded(std::size_t head_dim) noexcept {
    return (head_dim + line_columns - 1) / line_columns * line_columns;
  }

  float* output(std::size_t row) noexcept { return outputs_ + row * output_stride_; }
  const float* output(std::size_t row) const noexcept { return outputs_ + row * output_stride_; }

  /// Panels of keys that a tile of R rows walks together: with few rows there are too few accumulators in one to hide
  /// the latency of the multiply-adds.
  template <std::size_t R>
  static constexpr std::size_t panels_of = R * 2 * simd::registers <= 8 ? 2 : tile_panels;

  /// The same for panels of values, of which there are more than two.
  template <std::size_t R>
  static constexpr std::size_t value_panels_of = simd::registers == 1 && R <= 4 ? 4 : panels_of<R>;

  /// The part [from, to) of a block, relative to its first position, that a row sees.
  struct Seen {
    std::size_t from;
    std::size_t to;
    bool empty() const noexcept { return from >= to; }
    friend bool operator==(const Seen&, const Seen&) = default;
  };
  Seen seen(std::size_t row, std::int64_t first) const noexcept {
    const std::int64_t from = std::clamp<std::int64_t>(begin_[row] - first, 0, key_block);
    const std::int64_t to = std::clamp<std::int64_t>(end_[row] - first, 0, key_block);
    return {static_cast<std::size_t>(from), static_cast<std::size_t>(to)};
  }

  void attend(const HeadContext& context, std::int64_t first) noexcept {
    // Rows are in order of position, so those that see something of the block are neighbours.
    std::size_t row = 0;
    while (row < rows_ && seen(row, first).empty()) ++row;
    std::size_t last = rows_;
    while (last > row && seen(last - 1, first).empty()) --last;
    if (row == last) return;
    const Seen any = {seen(row, first).from, seen(last - 1, first).to};
    fetch_keys(context, first, any);
    turn();
    fetch_values(context, first, any);  // which may need the room that the keys had
    while (row < last) {
      // Rows that see the same of the block share its loads: all of them, save at the two edges of the window, where
      // the heads of one token do.
      const Seen same = seen(row, first);
      std::size_t rows = 1;
      while (rows < tile_rows && row + rows < last && seen(row + rows, first) == same) ++rows;
      with_rows(rows, [&]<std::size_t R>() { step<R>(row, same); });
      row += rows;
      ahead_keys_ = ahead_values_ = values_;  // the first tile asked for the next block: here already
    }
  }

  /// Finds the block's keys, of which some row sees `any`, and where the next block's keys and values begin: the next
  /// block may not exist, and what is asked for ahead is then here already.
  void fetch_keys(const HeadContext& context, std::int64_t first, Seen any) noexcept {
    const std::size_t index = index_of(context, first, any);
    keys_ = block(context.keys, index, any);
    const std::byte* const next_keys = context.keys.run(index + any.to - any.from, entry_bytes_).first;
    const std::byte* const next_values = context.values.run(index + any.to - any.from, entry_bytes_).first;
    ahead_keys_ = next_keys == nullptr ? keys_ : next_keys;
    ahead_values_ = next_values == nullptr ? keys_ : next_values;
    if constexpr (scaled) read_scales(keys_, key_scales_);
    keys_ += Layout::codes_at;
  }

  /// Finds the block's values.
  void fetch_values(const HeadContext& context, std::int64_t first, Seen any) noexcept {
    values_ = block(context.values, index_of(context, first, any), any);
    if constexpr (scaled) read_scales(values_, value_scales_);
    values_ += Layout::codes_at;
  }

  static std::size_t index_of(const HeadContext& context, std::int64_t first, Seen any) noexcept {
    return static_cast<std::size_t>(first - context.first_position + static_cast<std::int64_t>(any.from));
  }

  void read_scales(const std::byte* entries, float (&scales)[key_block]) const noexcept {
    for (std::size_t k = 0; k < key_block; ++k) std::memcpy(&scales[k], entries + k * entry_bytes_, sizeof(float));
  }

  /// The key_block entries of a block, one behind the other. Those that nobody sees may not exist: they are zeros then.
  const std::byte* block(const HeadEntries& entries, std::size_t index, Seen any) noexcept {
    const auto entry = [&](std::size_t k) { return own_ + k * entry_bytes_; };
    const std::byte* const found = entries.together(index, any.to - any.from, entry_bytes_, entry(any.from));
    if (any.from == 0 && any.to == key_block) return found;
    std::fill(entry(0), entry(any.from), std::byte{0});
    std::fill(entry(any.to), entry(key_block), std::byte{0});
    if (found != entry(any.from)) std::copy_n(found, (any.to - any.from) * entry_bytes_, entry(any.from));
    return own_;
  }

  /// Turns the block's keys to panels of words, a key a lane.
  void turn() noexcept {
    constexpr std::size_t words_at_once = 16;
    Ahead ahead = ahead_of(0);
    for (std::size_t p = 0; p < key_panels; ++p) {
      const std::byte* const keys = keys_ + p * simd::lanes * entry_bytes_;
      for (std::size_t w = 0; w < words_; w += words_at_once) {
        const std::size_t words = (std::min)(words_at_once, words_ - w);
        for (std::size_t i = 0; i < words / 2; ++i) ahead.ask();
        simd::transpose_words(simd::StridedRows(keys + w * sizeof(std::uint32_t), entry_bytes_), words,
                              panel(p) + w * simd::word_bytes);
      }
    }
  }

  /// Asks memory for the next block while this one is worked on, all the time, since a burst of requests waits for the
  /// first of them: a quarter of its lines while the keys are turned, one while they are scored, half while the values
  /// are added. Keys and values take turns: two streams a thread come faster than one after the other.
  struct Ahead {
    const std::byte* next;
    const std::byte* other;
    void ask() noexcept {
      __builtin_prefetch(next);
      next += simd::word_bytes;
      std::swap(next, other);
    }
  };
  Ahead ahead_of(std::size_t line) const noexcept {
    return {ahead_keys_ + line / 2 * simd::word_bytes, ahead_values_ + line / 2 * simd::word_bytes};
  }

  std::byte* panel(std::size_t p) noexcept { return panels_ + p * max_words * simd::word_bytes; }

  /// One block for R rows from `row` on, all of which see `seen` of it.
  template <std::size_t R>
  void step(std::size_t row, Seen seen) noexcept {
    alignas(64) float weights[R][key_block];
    constexpr std::size_t P = panels_of<R>;
    for (std::size_t p = 0; p < key_panels; p += P) {
      score<R, P>(row, p, weights);
    }
    for (std::size_t r = 0; r < R; ++r) rescale(row + r, weights[r], seen);
    const std::size_t whole = words_ / simd::lanes;
    constexpr std::size_t lines = (std::max<std::size_t>)(1, value_panels_of<R> / Layout::per_word);
    std::size_t line = 0;
    for (; line + lines <= whole; line += lines) add_lines<R, lines, true>(row, line, weights, seen);
    if constexpr (lines > 1) {
      for (; line < whole; ++line) add_lines<R, 1, true>(row, line, weights, seen);
    }
    if (line < value_lines_) add_lines<R, 1, false>(row, line, weights, seen);
  }

  /// Scores of R rows against P panels of keys: the sum over d in order, one fused multiply-add after the other.
  template <std::size_t R, std::size_t P>
  void score(std::size_t row, std::size_t p, float (&scores)[R][key_block]) noexcept {
    simd::Lanes acc[R][P];
    for (auto& a : acc) {
      for (auto& b : a) b = simd::Lanes::broadcast(0.0f);
    }
    const float* const queries = queries_ + row * query_stride_;
    Ahead ahead = ahead_of(words_ + p * words_ / key_panels);
    const std::byte* const keys = panel(p);
    for (std::size_t w = 0; w < words_; ++w) {
      if (w % key_panels < P) ahead.ask();
      const auto element = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
        simd::Lanes k[P];
#pragma GCC unroll 2
        for (std::size_t i = 0; i < P; ++i) {
          k[i] = element_of_words<I>(keys + (i * max_words + w) * simd::word_bytes);
        }
#pragma GCC unroll 12
        for (std::size_t r = 0; r < R; ++r) {
          const simd::Lanes q = simd::Lanes::broadcast(queries[r * query_stride_ + w * Layout::per_word + I]);
#pragma GCC unroll 2
          for (std::size_t i = 0; i < P; ++i) acc[r][i] = simd::fma(k[i], q, acc[r][i]);
        }
      };
      [&]<std::size_t... I>(std::index_sequence<I...>) { (element(std::integral_constant<std::size_t, I>{}), ...); }
      (std::make_index_sequence<Layout::per_word>{});
    }
    for (std::size_t r = 0; r < R; ++r) {
      for (std::size_t i = 0; i < P; ++i) {
        if constexpr (scaled) acc[r][i] = acc[r][i] * simd::Lanes::load(key_scales_ + (p + i) * simd::lanes);
        acc[r][i].store(scores[r] + (p + i) * simd::lanes);
      }
    }
  }

  /// Adds the weighted values to the columns of some lines of R rows: as many panels at a time as they have
  /// accumulators for. Not Whole: fewer words are left than a line has.
  template <std::size_t R, std::size_t Lines, bool Whole>
  void add_lines(std::size_t row, std::size_t line, const float (&weights)[R][key_block], Seen seen) noexcept {
    constexpr std::size_t panels = Lines * Layout::per_word;
    constexpr std::size_t P = (std::min)(panels, (std::max)(value_panels_of<R>, Lines));
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (add_values<R, P, I * P, Whole>(row, line, weights, seen), ...);
    }
    (std::make_index_sequence<panels / P>{});
  }

  /// The same for panels First ... First + P - 1 of the lines, keys in order.
  template <std::size_t R, std::size_t P, std::size_t First, bool Whole>
  void add_values(std::size_t row, std::size_t line, const float (&weights)[R][key_block], Seen seen) noexcept {
    simd::Lanes acc[R][P];
    float* const first_output = output(row) + line * line_columns + First * simd::lanes;
    const std::size_t stride = output_stride_;
    const auto output = [&](std::size_t r, std::size_t i) { return first_output + r * stride + i * simd::lanes; };
    for (std::size_t r = 0; r < R; ++r) {
      for (std::size_t i = 0; i < P; ++i) acc[r][i] = simd::Lanes::load(output(r, i));
    }
    Ahead ahead = ahead_of(key_panels * words_ + line * key_block);
    for (std::size_t k = seen.from; k < seen.to; ++k) {
      const std::byte* words = values_ + k * entry_bytes_ + line * simd::word_bytes;
      std::byte padded[simd::word_bytes] = {};
      if constexpr (!Whole) {
        std::memcpy(padded, words, words_ % simd::lanes * sizeof(std::uint32_t));
        words = padded;
      }
      simd::Lanes v[P];
      const auto load = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
        constexpr std::size_t panel = First + I;
        if constexpr (panel % Layout::per_word == 0) ahead.ask();  // once a line
        v[I] = element_of_words<panel % Layout::per_word>(words + panel / Layout::per_word * simd::word_bytes);
      };
      [&]<std::size_t... I>(std::index_sequence<I...>) { (load(std::integral_constant<std::size_t, I>{}), ...); }
      (std::make_index_sequence<P>{});
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) {
        const simd::Lanes w = simd::Lanes::broadcast(weights[r][k]);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < P; ++i) acc[r][i] = simd::fma(v[i], w, acc[r][i]);
      }
    }
    for (std::size_t r = 0; r < R; ++r) {
      for (std::size_t i = 0; i < P; ++i) acc[r][i].store(output(r, i));
    }
  }

  /// Element I of each of 16 words.
  template <std::size_t I>
  static simd::Lanes element_of_words(const std::byte* words) noexcept {
    if constexpr (std::same_as<T, float>) {
      return simd::Lanes::load(reinterpret_cast<const float*>(words));
    } else if constexpr (std::same_as<T, bf16>) {
      return I == 0 ? simd::even_of_pairs(words) : simd::odd_of_pairs(words);
    } else {
      return simd::byte_of_words<static_cast<int>(I)>(words);
    }
  }

  /// Turns a row's scores into exp(score - maximum) and scales what it summed so far to the new maximum.
  void rescale(std::size_t row, float* scores, Seen seen) noexcept {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    for (std::size_t k = 0; k < seen.from; ++k) scores[k] = lowest;
    for (std::size_t k = seen.to; k < key_block; ++k) scores[k] = lowest;
    simd::Lanes largest = simd::Lanes::broadcast(maximum_[row]);
    for (std::size_t p = 0; p < key_panels; ++p) {
      largest = (simd::max)(simd::Lanes::load(scores + p * simd::lanes), largest);
    }
    if (simd::any_greater(largest, simd::Lanes::broadcast(maximum_[row]))) raise(row, (simd::max)(largest));
    const simd::Lanes maximum = simd::Lanes::broadcast(maximum_[row]);
    for (std::size_t p = 0; p < key_panels; ++p) {
      simd::Lanes weights = simd::exp(simd::Lanes::load(scores + p * simd::lanes) - maximum);
      total_[row] = total_[row] + weights;
      if constexpr (scaled) weights = weights * simd::Lanes::load(value_scales_ + p * simd::lanes);
      weights.store(scores + p * simd::lanes);
    }
  }

  void raise(std::size_t row, float maximum) noexcept {
    const simd::Lanes shrink = simd::exp(simd::Lanes::broadcast(maximum_[row] - maximum));
    total_[row] = total_[row] * shrink;
    float* const sums = output(row);
    for (std::size_t i = 0; i < output_stride_; i += simd::lanes) {
      (simd::Lanes::load(sums + i) * shrink).store(sums + i);
    }
    maximum_[row] = maximum;
  }

  static constexpr std::size_t max_words = kv_words<T>(max_head_dim);

  std::size_t head_dim_;
  std::size_t entry_bytes_;
  std::size_t words_;
  std::size_t query_stride_;
  std::size_t value_lines_;  // of 16 words
  std::size_t output_stride_;
  std::size_t rows_ = 0;
  const std::byte* ahead_keys_;  // where the next block begins
  const std::byte* ahead_values_;
  const std::byte* keys_;  // elements of the block's first key; the others lie entry_bytes_ apart
  const std::byte* values_;
  std::int64_t begin_[query_rows];
  std::int64_t end_[query_rows];
  float maximum_[query_rows];
  simd::Lanes total_[query_rows];              // lane i: the keys at positions i mod 16
  alignas(64) float outputs_[row_floats];      // of each row line after line, in it panel after panel
  alignas(64) float key_scales_[key_block];    // q8 only
  alignas(64) float value_scales_[key_block];  // q8 only
  alignas(64) float queries_[row_floats];
  alignas(64) std::byte own_[key_block * kv_entry_bytes<T>(max_head_dim)];   // keys, then values, that lie in pieces
  alignas(64) std::byte panels_[key_panels * max_words * simd::word_bytes];  // of keys
};

template <KvElement T>  // out of the class, and so no inline function: a program may compile it in one unit for all
void OnlineSoftmax<T>::run(const HeadContext& context) noexcept {
  constexpr auto block = static_cast<std::int64_t>(key_block);
  for (std::int64_t first = begin_[0] / block * block; first < end_[rows_ - 1]; first += block) {
    attend(context, first);
  }
}

}}}  // namespace mistral::kernels
