// SPDX-License-Identifier: Apache-2.0
// Models with layers of their own: an activation, which can be trained, and an attention, which can't.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/train/trainer.hpp>

#include "../support/finite_difference.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::Numbers;
using test::same_bits;

namespace {

double gelu(double a) { return 0.5 * a * (1.0 + std::erf(a / std::sqrt(2.0))); }
double silu(double a) { return a / (1.0 + std::exp(-a)); }

// gelu(gate) * up (GeGLU, arXiv 2002.05202)
struct GeGlu {
  static void forward(Rows<float> gate, Rows<const float> up) noexcept {
    for (std::size_t t = 0; t < gate.rows(); ++t) {
      for (std::size_t i = 0; i < gate.cols(); ++i) {
        gate.row(t)[i] = static_cast<float>(gelu(static_cast<double>(gate.row(t)[i]))) * up.row(t)[i];
      }
    }
  }
  static void backward(Rows<const float> gate, Rows<float> up, Rows<float> dh) noexcept {
    for (std::size_t t = 0; t < gate.rows(); ++t) {
      for (std::size_t i = 0; i < gate.cols(); ++i) {
        const auto a = static_cast<double>(gate.row(t)[i]);
        const double density = std::exp(-0.5 * a * a) / std::sqrt(2.0 * std::acos(-1.0));
        const double slope = 0.5 * (1.0 + std::erf(a / std::sqrt(2.0))) + a * density;
        const float d = dh.row(t)[i];
        dh.row(t)[i] = d * up.row(t)[i] * static_cast<float>(slope);
        up.row(t)[i] = d * static_cast<float>(gelu(a));
      }
    }
  }
};

struct GegluLayers : MistralLayers {
  static constexpr std::string_view name = "GeGLU";
  template <ModelConfig C, WeightFormat F>
  using FeedForward = mistral::FeedForward<C, F, GeGlu>;
};

double temperature(std::int64_t position) { return 1.0 + 0.1 * std::log(1.0 + static_cast<double>(position)); }

// Queries that grow with their position, so that attention stays sharp over many keys.
struct SharpLayers : MistralLayers {
  static constexpr std::string_view name = "sharp";
  template <ModelConfig C, WeightFormat F>
  struct Attention : mistral::Attention<C, F> {
    using mistral::Attention<C, F>::Attention;
    template <KvElement T, class Tape>
    void forward(std::size_t layer, const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const {
      this->project(context, work);
      for (std::size_t i = 0; i < context.sequences.size(); ++i) {
        for (std::size_t row = 0; row < context.sequences[i].rows; ++row) {
          const double factor = temperature(context.position(i, layer) + static_cast<std::int64_t>(row));
          for (float& q : work.q.row(context.first_row(i) + row)) q *= static_cast<float>(factor);
        }
      }
      this->attend(layer, context, work, tape);
      this->wo.forward(work.inputs.prepare(work.attended.view()), context, work.branch);
    }
  };
};

// A model's weights in double, row after row, by name; and its forward in plain loops.
template <ModelConfig C>
struct Plain {
  std::map<std::string, Numbers> weights;
  double (*activation)(double) = silu;
  double (*query_factor)(std::int64_t) = [](std::int64_t) { return 1.0; };

  template <class Model>
  explicit Plain(Model& model) {
    visit_tensors(model, [&](auto at, const auto& member) {
      Numbers& numbers = weights[at.name()];
      if constexpr (decltype(at)::kind == TensorKind::norm) {
        numbers = test::wide(member.weight.span());
      } else {
        std::vector<float> row(member.weight.cols());
        for (std::size_t r = 0; r < member.weight.rows(); ++r) {
          member.weight.unpack_row(r, row);
          numbers.insert(numbers.end(), row.begin(), row.end());
        }
      }
    });
  }

  static Numbers product(const Numbers& w, const Numbers& x) {
    Numbers y(w.size() / x.size());
    for (std::size_t o = 0; o < y.size(); ++o) {
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
    }
    return y;
  }
  static Numbers normed(const Numbers& x, const Numbers& w) {
    double squares = 0.0;
    for (const double v : x) squares += v * v;
    Numbers y = x;
    const double mean = squares / static_cast<double>(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] *= w[i] / std::sqrt(mean + static_cast<double>(C.norm_eps));
    return y;
  }
  static void turn(Numbers& x, std::size_t position) {
    for (std::size_t i = 0; i < x.size(); i += 2) {
      const double part = static_cast<double>(i % C.head_dim) / static_cast<double>(C.head_dim);
      const double angle = static_cast<double>(position) * std::pow(static_cast<double>(C.rope_theta), -part);
      const double a = x[i], b = x[i + 1];
      x[i] = a * std::cos(angle) - b * std::sin(angle);
      x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
  static void add(Numbers& x, const Numbers& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  // The logits after each token.
  std::vector<Numbers> logits(std::span<const TokenId> tokens) const {
    std::vector<Numbers> x;
    for (const TokenId token : tokens) {
      const double* const row = weights.at("tok_embeddings.weight").data() + static_cast<std::size_t>(token) * C.dim;
      x.emplace_back(row, row + C.dim);
    }
    for (std::size_t layer = 0; layer < C.n_layers; ++layer) {
      const auto w = [&](const char* name) -> const Numbers& {
        return weights.at("layers." + std::to_string(layer) + "." + name + ".weight");
      };
      std::vector<Numbers> keys, values;
      for (std::size_t t = 0; t < x.size(); ++t) {
        const Numbers in = normed(x[t], w("attention_norm"));
        Numbers q = product(w("attention.wq"), in);
        keys.push_back(product(w("attention.wk"), in));
        values.push_back(product(w("attention.wv"), in));
        turn(q, t);
        turn(keys.back(), t);
        Numbers out(q.size());
        const std::size_t first = C.window_size == 0 || t < C.window_size ? 0 : t + 1 - C.window_size;
        for (std::size_t h = 0; h < C.n_heads; ++h) {
          const std::size_t at = h * C.head_dim, kv = h / (C.n_heads / C.n_kv_heads) * C.head_dim;
          double total = 0.0;
          for (std::size_t j = first; j <= t; ++j) {
            double score = 0.0;
            for (std::size_t d = 0; d < C.head_dim; ++d) score += q[at + d] * keys[j][kv + d];
            score *= query_factor(static_cast<std::int64_t>(t)) / std::sqrt(static_cast<double>(C.head_dim));
            total += std::exp(score);
            for (std::size_t d = 0; d < C.head_dim; ++d) out[at + d] += std::exp(score) * values[j][kv + d];
          }
          for (std::size_t d = 0; d < C.head_dim; ++d) out[at + d] /= total;
        }
        add(x[t], product(w("attention.wo"), out));
      }
      for (Numbers& row : x) {
        const Numbers in = normed(row, w("ffn_norm"));
        Numbers gate = product(w("feed_forward.w1"), in);
        const Numbers up = product(w("feed_forward.w3"), in);
        for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = activation(gate[i]) * up[i];
        add(row, product(w("feed_forward.w2"), gate));
      }
    }
    for (Numbers& row : x) row = product(weights.at("output.weight"), normed(row, weights.at("norm.weight")));
    return x;
  }

  // The sum of the cross-entropies of tokens[1], tokens[2], ...
  double loss(std::span<const TokenId> tokens) const {
    double sum = 0.0;
    const auto all = logits(tokens.first(tokens.size() - 1));
    for (std::size_t t = 0; t < all.size(); ++t) {
      double total = 0.0;
      for (const double logit : all[t]) total += std::exp(logit);
      sum += std::log(total) - all[t][static_cast<std::size_t>(tokens[t + 1])];
    }
    return sum;
  }
};

// The largest difference, and the largest logit.
struct Distance {
  double difference = 0.0, size = 0.0;
};
Distance distance(Rows<const float> found, const std::vector<Numbers>& expected) {
  Distance of;
  for (std::size_t t = 0; t < found.rows(); ++t) {
    for (std::size_t i = 0; i < found.cols(); ++i) {
      of.difference = std::max(of.difference, std::abs(static_cast<double>(found.row(t)[i]) - expected[t][i]));
      of.size = std::max(of.size, std::abs(expected[t][i]));
    }
  }
  return of;
}

// A number of a row is the end of so many float operations, one after the other; each is off by half an ulp of a number
// that is no larger than the largest logit, and what is off grows by slopes (of the activation, softmax and the norms)
// below 4.
template <ModelConfig C>
double bound(double size) {
  const std::size_t operations =
      C.n_layers * (3 * C.dim + C.query_dim() + C.head_dim + 2 * C.cache_len() + C.hidden_dim) + 2 * C.dim;
  return 4.0 * static_cast<double>(operations) * 0x1p-24 * size;
}

template <ModelConfig Config, class Policy>
struct Case {
  static constexpr ModelConfig config = Config;
  using Layers = Policy;
  using Model = Transformer<Config, F32, Policy>;
};

template <class Layers, class P>
void set(P& plain) {
  if constexpr (std::is_same_v<Layers, GegluLayers>) plain.activation = gelu;
  if constexpr (std::is_same_v<Layers, SharpLayers>) plain.query_factor = temperature;
}

}  // namespace

#define MISTRAL_CASES                                                                         \
  Case<test::tiny, GegluLayers>, Case<test::odd, GegluLayers>, Case<test::tiny, SharpLayers>, \
      Case<test::full, SharpLayers>

TEST_CASE_TEMPLATE("a model with a layer of its own computes what plain loops do, and another model does not", C,
                   MISTRAL_CASES) {
  constexpr ModelConfig config = C::config;
  Random random(1);
  const auto model = test::random_model<typename C::Model>(1);
  const auto text = test::random_tokens(30, config.vocab_size, random);
  Plain<config> plain(model);
  const auto stock = plain.logits(text);
  set<typename C::Layers>(plain);
  const auto expected = plain.logits(text);

  Session<typename C::Model> session{model};
  const Distance own = distance(session.forward(text), expected);
  CHECK(own.difference <= bound<config>(own.size));
  const Distance other = distance(session.forward(text), stock);
  CHECK(other.difference > bound<config>(other.size));

  const auto mistral = test::random_model<Transformer<config, F32>>(1);
  Session mistral_session{mistral};
  const Distance of_stock = distance(mistral_session.forward(text), stock);
  CHECK(of_stock.difference <= bound<config>(of_stock.size));
}

TEST_CASE_TEMPLATE("a model with a layer of its own gives the same bits in chunks, in a batch and from a file", C,
                   MISTRAL_CASES) {
  constexpr ModelConfig config = C::config;
  using Model = typename C::Model;
  static_assert(memory_bytes<Model> == memory_bytes<Transformer<config, F32>>);
  Random random(2);
  const auto model = test::random_model<Model>(2);
  std::vector<std::vector<TokenId>> texts;
  for (int i = 0; i < 3; ++i) texts.push_back(test::random_tokens(20, config.vocab_size, random));

  for (const auto& text : texts) {
    Session<Model, float, 8> session(model);
    const auto all = session.forward(text);
    const std::vector<float> last(all.row(19).begin(), all.row(19).end());
    session.clear();
    for (std::size_t i = 0; i + 1 < text.size(); ++i) session.decode(text[i]);
    CHECK(same_bits(session.decode(text.back()), last));
  }

  SessionBatch<Model> batch(model, {.max_sequences = 3, .token_budget = 7});
  std::vector<std::vector<std::vector<float>>> seen(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    batch.add(
        {.prompt = texts[i], .options = {.max_tokens = 5}, .tag = i, .on_logits = [&, i](std::span<float> logits) {
           seen[i].emplace_back(logits.begin(), logits.end());
         }});
  }
  std::size_t ended = 0;
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) {
      ++ended;
      const auto& logits = seen[result.tag];
      REQUIRE(logits.size() == result.made.tokens.size());
      Session<Model> session{model};
      CHECK(same_bits(session.prefill(texts[result.tag]), logits[0]));
      for (std::size_t i = 1; i < logits.size(); ++i) {
        CHECK(same_bits(session.decode(result.made.tokens[i - 1]), logits[i]));
      }
    }
  }
  CHECK(ended == texts.size());
}

TEST_CASE("a model with a layer of its own is loaded and saved as any, and its sessions' files are its own") {
  using Model = Transformer<test::tiny, F32, GegluLayers>;
  using Stock = Transformer<test::tiny, F32>;
  const test::Scratch scratch;
  const auto model = test::random_model<Model>(3);
  const std::vector<TokenId> text{1, 2, 3, 4, 5};
  Session session{model};
  const auto last = session.prefill(text);
  const std::vector<float> logits(last.begin(), last.end());
  save_checkpoint(model, scratch.path("checkpoint"));
  save_packed(model, scratch.path("packed"), {});
  for (const char* from : {"checkpoint", "packed"}) {
    CAPTURE(from);
    const Model loaded = load<Model>(scratch.path(from));
    Session again{loaded};
    CHECK(same_bits(again.prefill(text), logits));
  }

  save_session(session, text, scratch.path("state"));
  Session same{model};
  CHECK(load_session(same, scratch.path("state")) == text);
  CHECK(same_bits(same.decode(7), session.decode(7)));
  const Stock stock = load<Stock>(scratch.path("checkpoint"));
  Session other{stock};
  CHECK(test::error_of([&] {
          load_session(other, scratch.path("state"));
        }).starts_with("[state] " + scratch.path("state") + ": field 'model': expected '"));
  save_session(other, {}, scratch.path("stock"));
  CHECK(test::error_of([&] {
          load_session(same, scratch.path("stock"));
        }).starts_with("[state] " + scratch.path("stock") + ": field 'model': expected '"));
}

TEST_CASE("an activation that has a backward is trained: the gradients are finite differences") {
  constexpr ModelConfig config{.dim = 16,
                               .n_layers = 2,
                               .head_dim = 8,
                               .hidden_dim = 24,
                               .n_heads = 2,
                               .n_kv_heads = 1,
                               .window_size = 5,
                               .context_len = 16,
                               .vocab_size = 29};
  using Model = Transformer<config, F32, GegluLayers>;
  Random random(4);
  auto model = test::random_model<Model>(4);
  const auto text = test::random_tokens(12, config.vocab_size, random);
  const std::vector<Example> batch{{.tokens = text, .answer_begin = 1}};
  for (const bool keep : {false, true}) {
    CAPTURE(keep);
    Trainer<Model> trainer(model, {.keep_activations = keep});
    trainer.accumulate(batch);
    Plain<config> plain(model);
    plain.activation = gelu;
    for (const Parameter& p : trainer.parameters()) {
      CAPTURE(p.name);
      Numbers& weights = plain.weights.at(p.name);
      const bool vector = weights.size() == p.gradient.size() && p.name.find("norm") != std::string::npos;
      const std::size_t cols = p.name.find("w2") != std::string::npos ? config.hidden_dim : config.dim;
      std::vector<float> found;
      Numbers expected;
      for (int sample = 0; sample < 8; ++sample) {
        const std::size_t i = test::uniform(random, 0, weights.size() - 1);
        const std::size_t row = i / cols, col = i % cols;
        found.push_back(p.gradient[vector ? i : (row / 16 * cols + col) * 16 + row % 16]);
        constexpr double h = 1e-5;  // as in finite_differences
        const double at = weights[i];
        weights[i] = at + h;
        const double above = plain.loss(text);
        weights[i] = at - h;
        const double below = plain.loss(text);
        weights[i] = at;
        expected.push_back((above - below) / (2.0 * h));
      }
      // Embeddings of tokens that aren't there have no gradient: a difference of 1e-9 is none.
      double squares = 0.0;
      for (const double e : expected) squares += e * e;
      if (squares > 1e-12) CHECK(test::relative_error(found, expected) < 1e-4);
      if (squares <= 1e-12) CHECK(*std::max_element(found.begin(), found.end()) < 1e-6f);
    }
  }
}

TEST_CASE("an adapter beside a layer of one's own is trained") {
  using Model = Transformer<test::tiny, Lora<Q8_0>, GegluLayers>;
  auto model = test::random_model<Model>(5);
  add_adapter(model, {.rank = 4, .dropout = 0.1f, .seed = 6});
  Random random(6);
  const auto text = test::random_tokens(20, test::tiny.vocab_size, random);
  const std::vector<Example> batch{{.tokens = text, .answer_begin = 5}};
  Trainer trainer{model, {.learning_rate = 1e-2f}};
  const double before = trainer.evaluate(batch);
  for (int step = 0; step < 10; ++step) trainer.step(batch);
  CHECK(trainer.evaluate(batch) < 0.8 * before);
}
