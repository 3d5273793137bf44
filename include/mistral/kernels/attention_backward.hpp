// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/attention.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// The results of a layer's attention over rows that attend to each other alone, and the gradient of its output.
struct AttentionGradient {
  Rows<const float> q;         ///< (tokens, n_heads * head_dim), turned by RoPE
  Rows<const float> k;         ///< (tokens, n_kv_heads * head_dim), turned by RoPE
  Rows<const float> v;         ///< (tokens, n_kv_heads * head_dim)
  Rows<const float> attended;  ///< (tokens, n_heads * head_dim) the output
  Rows<const float> dout;      ///< (tokens, n_heads * head_dim) its gradient
  Rows<float> dq, dk, dv;      ///< as q, k and v: written
  Rows<float> statistics;      ///< (tokens, 2 * n_heads): room for two numbers a row and head
};

/// A block of up to 32 rows of one head, as the products of the backward take it.
class HeadBlock {
 public:
  static constexpr std::size_t rows = 32;
  static constexpr std::size_t panels = rows / simd::lanes;
  static constexpr std::size_t max_width = (max_head_dim + simd::lanes - 1) / simd::lanes * simd::lanes;

  /// Turned: a lane owns a row, a step is a column. Panel p is at p * max_head_dim * 16. Rows past the last are zero.
  static void turn(Rows<const float> x, std::size_t column, std::size_t head_dim, float* out) noexcept {
    static constexpr float zeros[max_head_dim] = {};
    for (std::size_t p = 0; p < panels; ++p) {
      const std::byte* lanes[simd::lanes];
      for (std::size_t lane = 0; lane < simd::lanes; ++lane) {
        const std::size_t row = p * simd::lanes + lane;
        lanes[lane] = reinterpret_cast<const std::byte*>(row < x.rows() ? x.row(row).data() + column : zeros);
      }
      simd::transpose_words(lanes, head_dim, reinterpret_cast<std::byte*>(out + p * max_head_dim * simd::lanes));
    }
  }

  /// As columns: a lane owns a column, a step is a row. Panel p is at p * rows * 16; columns past the last are zero.
  static void columns(Rows<const float> x, std::size_t column, std::size_t head_dim, float* out) noexcept {
    for (std::size_t p = 0; p * simd::lanes < head_dim; ++p) {
      for (std::size_t row = 0; row < x.rows(); ++row) {
        simd::Lanes::load_some(x.row(row).data() + column + p * simd::lanes, head_dim - p * simd::lanes)
            .store(out + (p * rows + row) * simd::lanes);
      }
    }
  }
};

/// out[r] = the sum over `depth` of the panels' steps x x[r], or added to out; every sum in order.
///   panels  `count` panels (depth, 16), `panel_stride` floats apart
///   x       `rows` rows (depth), `row_stride` floats apart
///   out     (rows, count * 16), `out_stride` floats from one row to the next
inline void small_product(const float* panels, std::size_t count, std::size_t panel_stride, const float* x,
                          std::size_t row_stride, std::size_t rows, std::size_t depth, float* out,
                          std::size_t out_stride, bool add) noexcept {
  for (std::size_t row = 0; row < rows; row += tile_rows) {
    with_rows((std::min)(tile_rows, rows - row), [&]<std::size_t R>() {
      for (std::size_t p = 0; p < count; ++p) {
        float* const place = out + row * out_stride + p * simd::lanes;
        simd::Lanes acc[R][1];
        for (std::size_t r = 0; r < R; ++r) {
          acc[r][0] = add ? simd::Lanes::load(place + r * out_stride) : simd::Lanes::broadcast(0.0f);
        }
        multiply_tile<R, 1>(panels + p * panel_stride, panel_stride, x + row * row_stride, row_stride, depth, acc);
        for (std::size_t r = 0; r < R; ++r) acc[r][0].store(place + r * out_stride);
      }
    });
  }
}

/// The gradient of attention, for sequences that begin with their first row. Keeps no matrix of scores: they are taken
/// again by blocks, first for each block of queries (dq), then for each block of keys (dk and dv), so that memory grows
/// with the rows alone and every sum has one order, whatever the threads: dq's goes over the keys by position, dk's and
/// dv's over the queries by position, and the heads of the group within.
class AttentionBackward {
 public:
  AttentionBackward(const AttentionShape& shape, const AttentionGradient& of) noexcept
      : shape_(shape), of_(of), scale_(1.0f / std::sqrt(static_cast<float>(shape.head_dim))) {}

  /// Statistics and dq of one head's queries [first, first + count) of a sequence.
  void queries(const SequenceSpan& span, std::size_t head, std::size_t first) const noexcept {
    const std::size_t count = (std::min)(block, span.rows - first);
    const Queries part{.span = span,
                       .head = head,
                       .first = first,
                       .count = count,
                       .kv_column = head / (shape_.n_heads / shape_.n_kv_heads) * shape_.head_dim,
                       .begin = first_seen(first) / block * block,
                       .end = first + count,
                       .q = of_.q.slice(span.first_row + first, count),
                       .dout = of_.dout.slice(span.first_row + first, count)};
    QueryRoom room;
    take_statistics(part, room);
    take_query_gradient(part, room);
  }

  /// dk and dv of one key head's keys [first, first + count) of a sequence; the statistics stand already.
  void keys(const SequenceSpan& span, std::size_t kv_head, std::size_t first) const noexcept {
    const std::size_t d = shape_.head_dim;
    const std::size_t group = shape_.n_heads / shape_.n_kv_heads;
    const std::size_t count = (std::min)(block, span.rows - first);
    const Rows<const float> k = of_.k.slice(span.first_row + first, count);
    const Rows<const float> v = of_.v.slice(span.first_row + first, count);
    const std::size_t last = first + count - 1;  // its last query sees the block's last key
    const std::size_t end = shape_.window == 0 || shape_.window > span.rows - last ? span.rows : last + shape_.window;

    alignas(64) float turned[HeadBlock::panels * max_head_dim * simd::lanes];
    alignas(64) float columns[HeadBlock::max_width * block];
    alignas(64) float weights[block * block];
    alignas(64) float products[block * block];
    alignas(64) float logarithms[block];
    alignas(64) float deltas[block];
    alignas(64) float dk[block * HeadBlock::max_width];
    alignas(64) float dv[block * HeadBlock::max_width];
    std::fill_n(dk, block * HeadBlock::max_width, 0.0f);
    std::fill_n(dv, block * HeadBlock::max_width, 0.0f);
    const std::size_t width = (d + simd::lanes - 1) / simd::lanes;
    for (std::size_t query = first; query < end; query += block) {
      const std::size_t queries = (std::min)(block, end - query);
      const Rows<const float> q = of_.q.slice(span.first_row + query, queries);
      const Rows<const float> dout = of_.dout.slice(span.first_row + query, queries);
      for (std::size_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        for (std::size_t i = 0; i < block; ++i) {
          const std::size_t row = span.first_row + query + (std::min)(i, queries - 1);
          logarithms[i] = of_.statistics.row(row)[2 * head];
          deltas[i] = of_.statistics.row(row)[2 * head + 1];
        }
        HeadBlock::turn(q, head * d, d, turned);
        small_product(turned, HeadBlock::panels, max_head_dim * simd::lanes, k.data() + kv_head * d, k.stride(), count,
                      d, weights, block, false);
        HeadBlock::turn(dout, head * d, d, turned);
        small_product(turned, HeadBlock::panels, max_head_dim * simd::lanes, v.data() + kv_head * d, v.stride(), count,
                      d, products, block, false);
        weigh_keys({first, count}, {query, queries}, end, logarithms, deltas, weights, products);
        HeadBlock::columns(dout, head * d, d, columns);
        small_product(columns, width, block * simd::lanes, weights, block, count, queries, dv, HeadBlock::max_width,
                      true);
        HeadBlock::columns(q, head * d, d, columns);
        small_product(columns, width, block * simd::lanes, products, block, count, queries, dk, HeadBlock::max_width,
                      true);
      }
    }
    for (std::size_t j = 0; j < count; ++j) {
      const std::size_t row = span.first_row + first + j;
      std::memcpy(of_.dk.row(row).data() + kv_head * d, dk + j * HeadBlock::max_width, d * sizeof(float));
      std::memcpy(of_.dv.row(row).data() + kv_head * d, dv + j * HeadBlock::max_width, d * sizeof(float));
    }
  }

  static constexpr std::size_t block = HeadBlock::rows;

 private:
  struct Range {
    std::size_t from, to;
  };
  struct Part {
    std::size_t first, count;
  };

  /// A block of one head's queries.
  struct Queries {
    const SequenceSpan& span;
    std::size_t head;
    std::size_t first;  // in its sequence
    std::size_t count;
    std::size_t kv_column;   // where the head's keys and values begin
    std::size_t begin, end;  // of the keys that they see, from a whole block on
    Rows<const float> q, dout;
  };

  /// Room for what is written on the way to the gradient of a block of queries.
  struct QueryRoom {
    alignas(64) float turned[HeadBlock::panels * max_head_dim * simd::lanes];
    alignas(64) float columns[HeadBlock::max_width * block];
    alignas(64) float scores[block * block];
    alignas(64) float products[block * block];
    alignas(64) float dq[block * HeadBlock::max_width];
  };

  static constexpr float lowest = -std::numeric_limits<float>::infinity();

  float* statistics_of(const Queries& part, std::size_t row) const noexcept {
    return of_.statistics.row(part.span.first_row + part.first + row).data() + 2 * part.head;
  }

  /// Scores of the queries against the block of keys from `key` on, which are returned.
  Rows<const float> score(const Queries& part, std::size_t key, QueryRoom& room) const noexcept {
    const std::size_t d = shape_.head_dim;
    const Rows<const float> k = of_.k.slice(part.span.first_row + key, (std::min)(block, part.span.rows - key));
    HeadBlock::turn(k, part.kv_column, d, room.turned);
    small_product(room.turned, HeadBlock::panels, max_head_dim * simd::lanes, part.q.data() + part.head * d,
                  part.q.stride(), part.count, d, room.scores, block, false);
    return k;
  }

  /// Of each query the logarithm of what its scores' exponentials sum to, and its output times that one's gradient.
  void take_statistics(const Queries& part, QueryRoom& room) const noexcept {
    const std::size_t d = shape_.head_dim;
    float maximum[block];
    simd::Lanes total[block];
    std::fill_n(maximum, part.count, lowest);
    std::fill_n(total, part.count, simd::Lanes::broadcast(0.0f));
    for (std::size_t key = part.begin; key < part.end; key += block) {
      score(part, key, room);
      for (std::size_t r = 0; r < part.count; ++r) {
        const auto [from, to] = seen_keys(part.first + r, key);
        if (from >= to) continue;
        float* const row = room.scores + r * block;
        std::fill(row, row + from, lowest);
        std::fill(row + to, row + block, lowest);
        simd::Lanes largest = simd::Lanes::broadcast(lowest);
        for (std::size_t p = 0; p < block; p += simd::lanes) largest = (simd::max)(simd::Lanes::load(row + p), largest);
        const float risen = (std::max)(maximum[r], (simd::max)(largest)*scale_);
        total[r] = total[r] * simd::Lanes::broadcast(std::exp(maximum[r] - risen));
        maximum[r] = risen;
        for (std::size_t p = 0; p < block; p += simd::lanes) {
          const simd::Lanes scaled = simd::Lanes::load(row + p) * simd::Lanes::broadcast(scale_);
          total[r] = total[r] + simd::exp(scaled - simd::Lanes::broadcast(risen));
        }
      }
    }
    for (std::size_t r = 0; r < part.count; ++r) {
      float* const statistics = statistics_of(part, r);
      statistics[0] = maximum[r] + std::log(simd::sum(total[r]));
      const float* const out = of_.attended.row(part.span.first_row + part.first + r).data() + part.head * d;
      float delta = 0.0f;
      for (std::size_t i = 0; i < d; ++i) delta += out[i] * part.dout.row(r)[part.head * d + i];
      statistics[1] = delta;
    }
  }

  /// The gradient of the queries, whose statistics stand.
  void take_query_gradient(const Queries& part, QueryRoom& room) const noexcept {
    const std::size_t d = shape_.head_dim;
    const std::size_t width = (d + simd::lanes - 1) / simd::lanes;
    std::fill_n(room.dq, block * HeadBlock::max_width, 0.0f);
    for (std::size_t key = part.begin; key < part.end; key += block) {
      const Rows<const float> k = score(part, key, room);
      HeadBlock::turn(of_.v.slice(part.span.first_row + key, k.rows()), part.kv_column, d, room.turned);
      small_product(room.turned, HeadBlock::panels, max_head_dim * simd::lanes, part.dout.data() + part.head * d,
                    part.dout.stride(), part.count, d, room.products, block, false);
      for (std::size_t r = 0; r < part.count; ++r) {
        const auto [from, to] = seen_keys(part.first + r, key);
        const float* const statistics = statistics_of(part, r);
        weigh(room.scores + r * block, from, to, [&](std::size_t) { return simd::Lanes::broadcast(statistics[0]); });
        const simd::Lanes delta = simd::Lanes::broadcast(statistics[1]);
        for (std::size_t p = 0; p < block; p += simd::lanes) {
          float* const s = room.scores + r * block + p;
          (simd::Lanes::load(s) * (simd::Lanes::load(room.products + r * block + p) - delta) *
           simd::Lanes::broadcast(scale_))
              .store(s);
        }
      }
      HeadBlock::columns(k, part.kv_column, d, room.columns);
      small_product(room.columns, width, block * simd::lanes, room.scores, block, part.count, k.rows(), room.dq,
                    HeadBlock::max_width, true);
    }
    for (std::size_t r = 0; r < part.count; ++r) {
      std::memcpy(of_.dq.row(part.span.first_row + part.first + r).data() + part.head * d,
                  room.dq + r * HeadBlock::max_width, d * sizeof(float));
    }
  }

  std::size_t first_seen(std::size_t query) const noexcept {
    return shape_.window == 0 || query + 1 < shape_.window ? 0 : query + 1 - shape_.window;
  }

  /// The part of the block of keys from `key` on that a query sees.
  Range seen_keys(std::size_t query, std::size_t key) const noexcept {
    const std::size_t from = first_seen(query);
    return {from > key ? (std::min)(block, from - key) : 0, query + 1 > key ? (std::min)(block, query + 1 - key) : 0};
  }

  /// Turns a row of products q . k to exp(scale q . k - logarithm), and to 0 outside [from, to).
  template <class Logarithm>
  void weigh(float* row, std::size_t from, std::size_t to, const Logarithm& logarithm) const noexcept {
    for (std::size_t p = 0; p < block; p += simd::lanes) {
      const simd::Lanes scaled = simd::Lanes::load(row + p) * simd::Lanes::broadcast(scale_);
      simd::exp(scaled - logarithm(p)).store(row + p);
    }
    for (std::size_t j = 0; j < (std::min)(from, block); ++j) row[j] = 0.0f;
    for (std::size_t j = to; j < block; ++j) row[j] = 0.0f;
  }

  /// Turns the products of some keys with some queries, and those of their values with the gradients, to the weights of
  /// the values and the gradients of the scores: what the sums of dv and dk take the queries by.
  ///   keys, queries  the first of them in their sequence, and their number
  ///   end            of the queries that see any of the keys
  void weigh_keys(Part keys, Part queries, std::size_t end, const float* logarithms, const float* deltas,
                  float* weights, float* products) const noexcept {
    for (std::size_t j = 0; j < keys.count; ++j) {
      // The queries that see the key, counted from the first of them.
      const std::size_t key = keys.first + j;
      const std::size_t from = key > queries.first ? key - queries.first : 0;
      const std::size_t stop = shape_.window == 0 || shape_.window > end - key ? end : key + shape_.window;
      weigh(weights + j * block, from, stop > queries.first ? (std::min)(queries.count, stop - queries.first) : 0,
            [&](std::size_t p) { return simd::Lanes::load(logarithms + p); });
      for (std::size_t p = 0; p < block; p += simd::lanes) {
        float* const g = products + j * block + p;
        (simd::Lanes::load(weights + j * block + p) * (simd::Lanes::load(g) - simd::Lanes::load(deltas + p)) *
         simd::Lanes::broadcast(scale_))
            .store(g);
      }
    }
  }

  AttentionShape shape_;
  AttentionGradient of_;
  float scale_;
};

/// Runs AttentionBackward over all sequences: sequence(i) is the SequenceSpan of sequence i < n_sequences, and begins
/// at position 0.
template <class SequenceOf>
void attention_backward(const AttentionShape& shape, const AttentionGradient& of, std::size_t n_sequences,
                        const SequenceOf& sequence) noexcept {
  assert(shape.head_dim <= max_head_dim && of.statistics.cols() == 2 * shape.n_heads);
  const AttentionBackward backward(shape, of);
  for (const bool queries : {true, false}) {  // the keys' part reads the statistics that the queries' part writes
    const std::size_t heads = queries ? shape.n_heads : shape.n_kv_heads;
    const auto tasks_of = [&](const SequenceSpan& span) {
      return (span.rows + AttentionBackward::block - 1) / AttentionBackward::block * heads;
    };
    std::size_t tasks = 0;
    for (std::size_t i = 0; i < n_sequences; ++i) tasks += tasks_of(sequence(i));
    parallel::for_ranges(tasks, 1, [&](std::size_t begin, std::size_t end) {
      std::size_t first_task = 0;
      for (std::size_t i = 0; i < n_sequences; ++i) {
        const SequenceSpan span = sequence(i);
        const std::size_t count = tasks_of(span);
        for (std::size_t task = (std::max)(begin, first_task); task < (std::min)(end, first_task + count); ++task) {
          const std::size_t first = (task - first_task) / heads * AttentionBackward::block;
          if (queries) {
            backward.queries(span, (task - first_task) % heads, first);
          } else {
            backward.keys(span, (task - first_task) % heads, first);
          }
        }
        first_task += count;
      }
    });
  }
}

}}}  // namespace mistral::kernels
