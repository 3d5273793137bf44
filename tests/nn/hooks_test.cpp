// SPDX-License-Identifier: Apache-2.0
// What a tape sees of a forward, and what comes of what it writes.
#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/session.hpp>

#include "../support/models.hpp"
#include "../support/random_rows.hpp"

using namespace mistral;
using test::same_bits;

namespace {

using Place = std::tuple<std::size_t, std::size_t, std::int64_t>;  // layer, head or 0, position

// Keeps all that the hooks of one sequence are shown: of scores those of the keys that a row sees.
struct Recorder {
  std::size_t window;
  std::map<Place, std::vector<float>> seen_scores, seen_heads, seen_attention, seen_feed_forward, seen_residual;
  std::size_t sequence = 0;

  static void keep(std::map<Place, std::vector<float>>& kept, std::size_t sequence, const LayerRows& rows) {
    if (rows.sequence != sequence) return;
    for (std::size_t i = 0; i < rows.x.rows(); ++i) {
      const auto row = rows.x.row(i);
      const bool first =
          kept.try_emplace({rows.layer, 0, rows.position + static_cast<std::int64_t>(i)}, row.begin(), row.end())
              .second;
      CHECK(first);
    }
  }
  void residual(const Residual& rows) { keep(seen_residual, sequence, rows); }
  void heads(const LayerRows& rows) { keep(seen_heads, sequence, rows); }
  void attention_output(const LayerRows& rows) { keep(seen_attention, sequence, rows); }
  void feed_forward_output(const LayerRows& rows) { keep(seen_feed_forward, sequence, rows); }
  void scores(const AttentionScores& s) {
    if (s.sequence != sequence) return;
    for (std::size_t i = 0; i < s.x.rows(); ++i) {
      const std::int64_t position = s.position + static_cast<std::int64_t>(i);
      const auto oldest = window == 0 ? 0 : std::max<std::int64_t>(0, position + 1 - static_cast<std::int64_t>(window));
      std::vector<float> weights;
      for (std::size_t j = 0; j < s.x.cols(); ++j) {
        const std::int64_t key = s.first_key + static_cast<std::int64_t>(j);
        if (key < oldest || key > position) {
          CHECK(s.x.row(i)[j] == 0.0f);
        } else {
          weights.push_back(s.x.row(i)[j]);
        }
      }
      CHECK(weights.size() == static_cast<std::size_t>(position - oldest + 1));
      CHECK(seen_scores.try_emplace({s.layer, s.head, position}, weights).second);
    }
  }
};

bool same(const std::map<Place, std::vector<float>>& a, const std::map<Place, std::vector<float>>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) {
           return x.first == y.first && same_bits(x.second, y.second);
         });
}
bool same(const Recorder& a, const Recorder& b) {
  return same(a.seen_scores, b.seen_scores) && same(a.seen_heads, b.seen_heads) &&
         same(a.seen_attention, b.seen_attention) && same(a.seen_feed_forward, b.seen_feed_forward) &&
         same(a.seen_residual, b.seen_residual);
}

template <ModelConfig Config>
struct Case {
  static constexpr ModelConfig config = Config;
  using Model = Transformer<Config, F32>;
};

}  // namespace

TEST_CASE_TEMPLATE("the scores of a head, times the values in its window, are what the head puts out", C,
                   Case<test::tiny>, Case<test::full>) {
  constexpr ModelConfig config = C::config;
  const auto model = test::random_model<typename C::Model>(1);
  Random random(2);
  const auto text = test::random_tokens(30, config.vocab_size, random);
  Session<typename C::Model> session{model};
  Recorder one{config.window_size, {}, {}, {}, {}, {}};
  for (const TokenId token : text) {
    session.decode(token, one);
    const std::int64_t position = session.position() - 1;
    for (std::size_t layer = 0; layer < config.n_layers; ++layer) {
      for (std::size_t head = 0; head < config.n_heads; ++head) {
        // The ring now holds just what the row has seen.
        const std::vector<float>& weights = one.seen_scores.at({layer, head, position});
        const auto& ring = session.cache().layer(layer).values[head / (config.n_heads / config.n_kv_heads)];
        REQUIRE(ring.size() == weights.size());
        double total = 0.0;
        double largest = 0.0;
        std::vector<double> sum(config.head_dim);
        for (std::size_t j = 0; j < weights.size(); ++j) {
          float value[config.head_dim];
          ring.at(ring.first_position() + static_cast<std::int64_t>(j)).read(value);
          for (std::size_t d = 0; d < config.head_dim; ++d) {
            sum[d] += static_cast<double>(weights[j]) * static_cast<double>(value[d]);
            largest = std::max(largest, std::abs(static_cast<double>(value[d])));
          }
          total += static_cast<double>(weights[j]);
        }
        CHECK(std::abs(total - 1.0) < static_cast<double>(weights.size()) * 0x1p-24);
        // A score is a sum of head_dim products of floats near 1, off by as many half ulps, and so is its exponential;
        // twice that, since the sum of the exponentials is off as well, and a factor of 4 for activations above 1.
        const double bound = 8.0 * static_cast<double>(config.head_dim) * 0x1p-24 *
                             std::sqrt(static_cast<double>(config.head_dim)) * largest;
        const std::vector<float>& put_out = one.seen_heads.at({layer, 0, position});
        for (std::size_t d = 0; d < config.head_dim; ++d) {
          CHECK(std::abs(static_cast<double>(put_out[head * config.head_dim + d]) - sum[d]) <= bound);
        }
      }
    }
  }

  // Whatever the chunks, hooks are shown the same bits.
  for (int round = 0; round < 3; ++round) {
    session.clear();
    Recorder chunks{config.window_size, {}, {}, {}, {}, {}};
    for (std::size_t done = 0; done < text.size();) {
      const std::size_t rows = std::min(text.size() - done, test::uniform(random, 1, 11));
      session.prefill(std::span(text).subspan(done, rows), chunks);
      done += rows;
    }
    CHECK(same(one, chunks));
  }
}

TEST_CASE("hooks see each sequence of a forward as if it were alone") {
  using Model = Transformer<test::tiny, F32>;
  const auto model = test::random_model<Model>(3);
  Random random(4);
  const std::vector<std::vector<TokenId>> texts{test::random_tokens(5, 97, random), test::random_tokens(3, 97, random)};
  const std::vector<std::vector<TokenId>> before{test::random_tokens(11, 97, random), {}};
  std::vector<KvCache<test::tiny, float>> caches(2);
  Workspace<test::tiny, F32, float> work(16);
  std::vector<Sequence<test::tiny, float>> sequences;
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < 2; ++i) {
    if (!before[i].empty()) {
      for (const TokenId token : before[i]) {
        const Sequence<test::tiny, float> alone{&caches[i], 1};
        model.forward(std::span(&token, 1), std::span(&alone, 1), work);
      }
    }
    sequences.push_back({&caches[i], texts[i].size()});
    tokens.insert(tokens.end(), texts[i].begin(), texts[i].end());
  }
  Recorder both[2] = {{8, {}, {}, {}, {}, {}}, {8, {}, {}, {}, {}, {}, 1}};
  struct Tee {
    Recorder* of;
    void residual(const Residual& x) { of[0].residual(x), of[1].residual(x); }
    void scores(const AttentionScores& x) { of[0].scores(x), of[1].scores(x); }
    void heads(const LayerRows& x) { of[0].heads(x), of[1].heads(x); }
    void attention_output(const LayerRows& x) { of[0].attention_output(x), of[1].attention_output(x); }
    void feed_forward_output(const LayerRows& x) { of[0].feed_forward_output(x), of[1].feed_forward_output(x); }
  };
  model.forward(tokens, std::span<const Sequence<test::tiny, float>>(sequences), work, Tee{both});
  for (std::size_t i = 0; i < 2; ++i) {
    Session<Model> session{model};
    if (!before[i].empty()) session.prefill(before[i]);
    Recorder alone{8, {}, {}, {}, {}, {}};
    session.prefill(texts[i], alone);
    CHECK(alone.seen_residual.size() == 4 * texts[i].size());
    CHECK(alone.seen_feed_forward.size() == 3 * texts[i].size());
    CHECK(same(both[i], alone));
  }
}

TEST_CASE("a forward that is watched has the same bits, and scores are computed for the layers that are asked for") {
  using Model = Transformer<test::tiny, F32>;
  const auto model = test::random_model<Model>(5);
  Random random(6);
  const auto text = test::random_tokens(20, 97, random);
  Session<Model> session{model};
  const auto logits = session.prefill(text);
  const std::vector<float> want(logits.begin(), logits.end());
  session.clear();
  Recorder recorder{8, {}, {}, {}, {}, {}};
  CHECK(same_bits(session.prefill(text, recorder), want));

  struct OneLayer {
    std::vector<std::size_t> layers;
    bool wants_scores(std::size_t layer) const { return layer == 1; }
    void scores(const AttentionScores& s) { layers.push_back(s.layer); }
  } one;
  session.clear();
  session.prefill(std::span(text).first(4), one);
  CHECK(one.layers == std::vector<std::size_t>(4, 1));  // of each head
}

TEST_CASE("what hooks write goes on: a silenced head is one whose columns of wo are zero") {
  using Model = Transformer<test::tiny, F32>;
  auto model = test::random_model<Model>(7);
  Random random(8);
  const auto text = test::random_tokens(20, 97, random);
  struct Silence {
    void heads(const LayerRows& rows) const {
      if (rows.layer != 1) return;
      for (std::size_t i = 0; i < rows.x.rows(); ++i) {
        const auto head = rows.x.row(i).subspan(2 * 16, 16);
        std::fill(head.begin(), head.end(), 0.0f);
      }
    }
  };
  Session<Model> session{model};
  const auto plain = session.prefill(text);
  const std::vector<float> before(plain.begin(), plain.end());
  session.clear();
  const Silence silence;  // a hook that is const, in a tape that is
  const auto logits = session.prefill(text, silence);
  const std::vector<float> silenced(logits.begin(), logits.end());
  CHECK(!same_bits(silenced, before));

  auto& wo = model.layers[1].attention.wo.weight;
  test::Matrix weights(wo.rows(), wo.cols());
  for (std::size_t r = 0; r < wo.rows(); ++r) {
    wo.unpack_row(r, weights.view().row(r));
    std::fill_n(weights.view().row(r).data() + 2 * 16, 16, 0.0f);
  }
  wo = test::packed<F32>(weights);
  session.clear();
  CHECK(same_bits(session.prefill(text), silenced));
}

TEST_CASE("what hooks write goes on: blocks that add nothing leave the embedding as it was") {
  using Model = Transformer<test::tiny, F32>;
  const auto model = test::random_model<Model>(9);
  struct Nothing {
    Batch<64> first{1}, last{1};
    static void clear(const LayerRows& rows) { std::fill(rows.x.row(0).begin(), rows.x.row(0).end(), 0.0f); }
    void attention_output(const LayerRows& rows) { clear(rows); }
    void feed_forward_output(const LayerRows& rows) { clear(rows); }
    void residual(const Residual& rows) {
      Batch<64>& kept = rows.layer == 0 ? first : last;
      kept.resize(1);
      std::copy(rows.x.row(0).begin(), rows.x.row(0).end(), kept.row(0).begin());
    }
  } nothing;
  Session<Model> session{model};
  session.decode(5, nothing);
  CHECK(same_bits(nothing.first.row(0), nothing.last.row(0)));
  struct Half {
    Nothing& of;
    void attention_output(const LayerRows& rows) { Nothing::clear(rows); }
    void residual(const Residual& rows) { of.residual(rows); }
  };
  session.decode(5, Half{nothing});
  CHECK(!same_bits(nothing.first.row(0), nothing.last.row(0)));
}

TEST_CASE("a hook that throws inside a block leaves a cleared session that works") {
  using Model = Transformer<test::tiny, F32>;
  const auto model = test::random_model<Model>(10);
  Session<Model> session{model};
  const std::vector<TokenId> text{1, 2, 3};
  const auto logits = session.prefill(text);
  const std::vector<float> want(logits.begin(), logits.end());
  struct InScores {
    void scores(const AttentionScores& s) {
      if (s.layer == 1) throw Error("test", "enough");
    }
  };
  struct InFeedForward {
    void feed_forward_output(const LayerRows& rows) {
      if (rows.layer == 1) throw Error("test", "enough");
    }
  };
  session.clear();
  CHECK_THROWS_AS(session.prefill(text, InScores{}), Error);
  CHECK(session.position() == 0);
  CHECK_THROWS_AS(session.prefill(text, InFeedForward{}), Error);
  CHECK(session.position() == 0);
  CHECK(same_bits(session.prefill(text), want));
}
