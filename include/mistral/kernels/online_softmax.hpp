#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include <mistral/core/config.hpp>
#include <mistral/core/kv_entry.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Keys (or values) of one head over consecutive positions, in up to three contiguous pieces: the two spans of a ring
/// buffer, then the chunk that is not in it yet. Entries lie as KvLayout<T> says, one behind the other.
struct HeadEntries {
  std::array<std::span<const std::byte>, 3> pieces;  ///< oldest first

  /// Writes the addresses of the `count` entries from `index` places after the first on.
  void locate(std::size_t index, std::size_t count, std::size_t entry_bytes, const std::byte** entries) const noexcept {
    std::size_t offset = index * entry_bytes;
    for (const auto& piece : pieces) {
      for (; count > 0 && offset < piece.size(); --count, offset += entry_bytes) *entries++ = piece.data() + offset;
      offset -= piece.size();
    }
  }
};

/// What the queries of one sequence that share a head of keys attend to.
struct HeadContext {
  HeadEntries keys;
  HeadEntries values;
  std::int64_t first_position;  ///< position of the first entry
};

/// Keys that are scored together. Blocks begin at multiples of it in absolute position, so that where a block begins
/// depends neither on the chunk nor on the ring.
inline constexpr std::size_t key_block = 32;

/// Rows (queries x heads of a group) that a task holds: each block of keys is turned once for all of them.
inline constexpr std::size_t query_rows = 64;

/// Attention of up to query_rows rows that share one head of keys and values, by online softmax over blocks of keys:
/// out = sum_j softmax_j(q . k_j) v_j over the keys j in a row's window. A row's keys are met in order of position, in
/// blocks that depend on the position alone, and what a row doesn't see is never part of a sum: a row gets the same
/// bits in any chunk and beside any other row.
template <KvElement T>
class OnlineSoftmax {
 public:
  explicit OnlineSoftmax(std::size_t head_dim) noexcept
      : head_dim_(head_dim),
        words_(kv_words<T>(head_dim)),
        query_stride_(words_ * Layout::per_word),
        value_panels_((head_dim + simd::lanes - 1) / simd::lanes) {}

  /// Declares the next row: `query` (head_dim) times `scale` sees positions [begin, end). Rows come in order of their
  /// positions.
  void add_row(const float* query, float scale, std::int64_t begin, std::int64_t end) noexcept {
    assert(rows_ < query_rows && begin < end);
    float* const turned = queries_ + rows_ * query_stride_;
    for (std::size_t d = 0; d < head_dim_; ++d) turned[d] = query[d] * scale;
    for (std::size_t d = head_dim_; d < query_stride_; ++d) turned[d] = 0.0f;
    begin_[rows_] = begin;
    end_[rows_] = end;
    maximum_[rows_] = -std::numeric_limits<float>::infinity();
    total_[rows_] = simd::Lanes::broadcast(0.0f);
    std::fill_n(output_[rows_], value_panels_ * simd::lanes, 0.0f);
    ++rows_;
  }

  void run(const HeadContext& context) noexcept {
    constexpr auto block = static_cast<std::int64_t>(key_block);
    for (std::int64_t first = begin_[0] / block * block; first < end_[rows_ - 1]; first += block) {
      attend(context, first);
    }
  }

  /// Writes the (head_dim) result of a row.
  void result(std::size_t row, float* out) const noexcept {
    const simd::Lanes total = simd::Lanes::broadcast(simd::sum(total_[row]));
    for (std::size_t p = 0; p < value_panels_; ++p) {
      (simd::Lanes::load(output_[row] + p * simd::lanes) / total)
          .store_some(out + p * simd::lanes, head_dim_ - p * simd::lanes);
    }
  }

 private:
  using Layout = KvLayout<T>;
  using Code = typename Layout::Code;
  static constexpr bool scaled = std::same_as<T, q8>;
  static constexpr std::size_t max_value_panels = (max_head_dim + simd::lanes - 1) / simd::lanes;
  static constexpr std::size_t key_panels = key_block / simd::lanes;

  /// Panels of keys, or of 16 columns of values, that a tile of R rows walks together: with few rows there are too few
  /// accumulators in one to hide the latency of the multiply-adds.
  template <std::size_t R>
  static constexpr std::size_t panels_of = R * 2 * simd::registers <= 8 ? 2 : tile_panels;

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
    fetch(context, first, seen(row, first).from, seen(last - 1, first).to);
    while (row < last) {
      // Rows that see the same of the block share its loads: all of them, save at the two edges of the window, where
      // the heads of one token do.
      const Seen same = seen(row, first);
      std::size_t rows = 1;
      while (rows < tile_rows && row + rows < last && seen(row + rows, first) == same) ++rows;
      with_rows(rows, [&]<std::size_t R>() { step<R>(row, same); });
      row += rows;
      ahead_keys_ = ahead_values_ = values_[same.from];  // the first tile asked for the next block: here already
    }
  }

  /// Turns the block's keys to panels of words, a key a lane, and finds its values.
  void fetch(const HeadContext& context, std::int64_t first, std::size_t from, std::size_t to) noexcept {
    const std::byte* keys[key_block];
    const auto index = static_cast<std::size_t>(first - context.first_position + static_cast<std::int64_t>(from));
    const std::size_t entry_bytes = kv_entry_bytes<T>(head_dim_);
    context.keys.locate(index, to - from, entry_bytes, keys + from);
    context.values.locate(index, to - from, entry_bytes, values_ + from);
    ahead_keys_ = keys[from];
    ahead_values_ = values_[from];
    context.keys.locate(index + to - from, 1, entry_bytes, &ahead_keys_);
    context.values.locate(index + to - from, 1, entry_bytes, &ahead_values_);
    // Lanes that no row sees: any key will do, their scores are dropped.
    for (std::size_t k = 0; k < from; ++k) keys[k] = keys[from];
    for (std::size_t k = to; k < key_block; ++k) keys[k] = keys[from];
    for (std::size_t k = 0; k < key_block; ++k) {
      if constexpr (scaled) {
        std::memcpy(&key_scales_[k], keys[k], sizeof(float));
        value_scales_[k] = 0.0f;
        if (k >= from && k < to) std::memcpy(&value_scales_[k], values_[k], sizeof(float));
      }
      keys[k] += Layout::codes_at;
    }
    for (std::size_t k = from; k < to; ++k) values_[k] += Layout::codes_at;
    for (std::size_t p = 0; p < key_panels; ++p) {
      simd::transpose_words(keys + p * simd::lanes, words_, panel(p));
    }
  }

  /// Asks memory for the next block while this one is worked on, a line for every line that is read. Keys and values
  /// take turns: two streams a thread come faster than one after the other.
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

  std::byte* panel(std::size_t p) noexcept { return keys_ + p * max_words * simd::word_bytes; }

  /// One block for R rows from `row` on, all of which see `seen` of it.
  template <std::size_t R>
  void step(std::size_t row, Seen seen) noexcept {
    alignas(64) float weights[R][key_block];
    constexpr std::size_t P = panels_of<R>;
    for (std::size_t p = 0; p < key_panels; p += P) {
      score<R, P>(row, p, weights);
    }
    for (std::size_t r = 0; r < R; ++r) rescale(row + r, weights[r], seen);
    const std::size_t whole = head_dim_ / simd::lanes;
    std::size_t p = 0;
    for (; p + P <= whole; p += P) add_values<R, P, true>(row, p, weights, seen);
    if constexpr (P > 1) {
      for (; p < whole; ++p) add_values<R, 1, true>(row, p, weights, seen);
    }
    if (p < value_panels_) add_values<R, 1, false>(row, p, weights, seen);
  }

  /// Scores of R rows against P panels of keys: the sum over d in order, one fused multiply-add after the other.
  template <std::size_t R, std::size_t P>
  void score(std::size_t row, std::size_t p, float (&scores)[R][key_block]) noexcept {
    simd::Lanes acc[R][P];
    for (auto& a : acc) {
      for (auto& b : a) b = simd::Lanes::broadcast(0.0f);
    }
    const float* const queries = queries_ + row * query_stride_;
    const std::byte* const keys = panel(p);
    Ahead ahead = ahead_of(p * words_);
    for (std::size_t w = 0; w < words_; ++w) {
#pragma GCC unroll 2
      for (std::size_t i = 0; i < P; ++i) ahead.ask();
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

  /// Adds the weighted values to P panels of 16 columns of R rows, keys in order. Not Whole: fewer columns are left.
  template <std::size_t R, std::size_t P, bool Whole>
  void add_values(std::size_t row, std::size_t p, const float (&weights)[R][key_block], Seen seen) noexcept {
    simd::Lanes acc[R][P];
    for (std::size_t r = 0; r < R; ++r) {
      for (std::size_t i = 0; i < P; ++i) acc[r][i] = simd::Lanes::load(output_[row + r] + (p + i) * simd::lanes);
    }
    const auto add = [&](std::size_t k, const std::byte* values) {
      simd::Lanes v[P];
#pragma GCC unroll 2
      for (std::size_t i = 0; i < P; ++i) {
        v[i] = simd::Lanes::load(reinterpret_cast<const Code*>(values) + i * simd::lanes);
      }
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) {
        const simd::Lanes w = simd::Lanes::broadcast(weights[r][k]);
#pragma GCC unroll 2
        for (std::size_t i = 0; i < P; ++i) acc[r][i] = simd::fma(v[i], w, acc[r][i]);
      }
    };
    const std::size_t column = p * simd::lanes;
    if constexpr (Whole) {
      constexpr std::size_t bytes = P * simd::lanes * sizeof(Code);
      constexpr std::size_t keys = std::max<std::size_t>(1, simd::word_bytes / bytes);  // whose bytes make up a line
      Ahead ahead = ahead_of(key_panels * words_ + column * key_block * sizeof(Code) / simd::word_bytes);
      std::size_t k = seen.from;
      for (; k + keys <= seen.to; k += keys) {
        ahead.ask();
#pragma GCC unroll 4
        for (std::size_t i = 0; i < keys; ++i) add(k + i, values_[k + i] + column * sizeof(Code));
      }
      for (; k < seen.to; ++k) add(k, values_[k] + column * sizeof(Code));
    } else {
      std::byte padded[P * simd::lanes * sizeof(Code)] = {};
      for (std::size_t k = seen.from; k < seen.to; ++k) {
        std::memcpy(padded, values_[k] + column * sizeof(Code), (head_dim_ - column) * sizeof(Code));
        add(k, padded);
      }
    }
    for (std::size_t r = 0; r < R; ++r) {
      for (std::size_t i = 0; i < P; ++i) acc[r][i].store(output_[row + r] + (p + i) * simd::lanes);
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
      largest = simd::max(simd::Lanes::load(scores + p * simd::lanes), largest);
    }
    if (simd::any_greater(largest, simd::Lanes::broadcast(maximum_[row]))) raise(row, simd::max(largest));
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
    for (std::size_t i = 0; i < value_panels_ * simd::lanes; i += simd::lanes) {
      (simd::Lanes::load(output_[row] + i) * shrink).store(output_[row] + i);
    }
    maximum_[row] = maximum;
  }

  static constexpr std::size_t max_words = kv_words<T>(max_head_dim);

  std::size_t head_dim_;
  std::size_t words_;
  std::size_t query_stride_;
  std::size_t value_panels_;
  std::size_t rows_ = 0;
  const std::byte* ahead_keys_;  // where the next block begins
  const std::byte* ahead_values_;
  const std::byte* values_[key_block];  // elements of the block's values
  std::int64_t begin_[query_rows];
  std::int64_t end_[query_rows];
  float maximum_[query_rows];
  simd::Lanes total_[query_rows];  // lane i: the keys at positions i mod 16
  alignas(64) float output_[query_rows][max_value_panels * simd::lanes];
  alignas(64) float key_scales_[key_block];    // q8 only
  alignas(64) float value_scales_[key_block];  // q8 only
  alignas(64) float queries_[query_rows * max_head_dim];
  alignas(64) std::byte keys_[key_panels * max_words * simd::word_bytes];
};

}  // namespace mistral::inline MISTRAL_ABI::kernels
