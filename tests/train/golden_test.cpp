// SPDX-License-Identifier: Apache-2.0
// The trainer, through DESIGN's snippet, against gradients and parameters that PyTorch computed (../shared/data/lora).

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/train.hpp>

#include "../support/finite_difference.hpp"
#include "../support/golden.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"

using namespace mistral;

namespace {

using Tuned = Transformer<test::tiny, Lora<F32>>;
using Full = Transformer<test::tiny, F32>;

// The issue asks for 1e-4 relative in the Euclidean norm; two implementations in float were 2.8e-6 apart.
constexpr double tolerance = 1e-4;

// A trained parameter (or its gradient) as Hugging Face holds it: rows in order, those of wq and wk permuted.
std::vector<float> hugging_face(std::span<const float> panels, std::size_t rows, std::size_t cols, std::size_t heads) {
  std::vector<float> out(rows * cols);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t to = heads == 0 ? r : detail::hugging_face_row(r, rows / heads);
    for (std::size_t i = 0; i < cols; ++i) out[to * cols + i] = panels[(r / 16 * cols + i) * 16 + r % 16];
  }
  return out;
}

// Holds each adapter matrix of a Trainer (its value, or its gradient over the targets) against `prefix + name`.
template <class Values>
void compare(Tuned& model, const Trainer<Tuned>& trainer, const Safetensors& expected, const std::string& prefix,
             const Values& values) {
  std::map<std::string, std::span<const float>> found;
  for (const Parameter& p : trainer.parameters()) found[p.name] = values(p);
  CHECK(found.size() == 42);
  visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t heads) {
    if (name == "output") return;
    CAPTURE(name);
    const LoraMatrices& m = linear.adapters[0];
    const auto a = hugging_face(found[name + ".lora_a"], m.rank(), m.a.cols(), 0);
    const auto b = hugging_face(found[name + ".lora_b"], m.b.rows(), m.rank(), heads);
    const auto error = [&](const std::vector<float>& ours, char matrix) {
      return test::relative_error(ours,
                                  test::tensor_values<double>(expected, prefix + detail::peft_tensor(name, matrix)));
    };
    CHECK(error(a, 'A') < tolerance);
    CHECK(error(b, 'B') < tolerance);
  });
}

std::span<const float> value_of(const Parameter& p) { return p.value; }

}  // namespace

TEST_CASE("an adapter's logits, gradients and AdamW steps are those of PyTorch and PEFT") {
  const auto folder = test::golden("lora/gqa_w8");
  const auto checkpoint = test::golden("forward/gqa_w8/hf");
  if (folder.empty() || checkpoint.empty()) return;
  const auto json = test::expected_json(folder);
  const Safetensors expected = Safetensors::open((folder / "expected.safetensors").string());
  const auto ids = test::tensor_values<TokenId>(expected, "tokens");

  Tuned model = load<Tuned>(checkpoint.string());
  {
    Session<Tuned, float> session{model};
    const auto logits = session.forward(ids);
    CHECK(test::max_error({logits.data(), logits.rows() * logits.cols()},
                          test::tensor_values<float>(expected, "logits_base_no_adapter")) < 1e-4f);
  }
  load_adapter(model, (folder / "adapter").string());
  {
    Session<Tuned, float> session{model};
    const auto logits = session.forward(ids);
    CHECK(test::max_error({logits.data(), logits.rows() * logits.cols()},
                          test::tensor_values<float>(expected, "logits_with_adapter")) < 1e-4f);
  }

  Trainer trainer{model,
                  {.learning_rate = 1e-3f,
                   .beta1 = 0.9f,
                   .beta2 = 0.999f,
                   .epsilon = 1e-8f,
                   .weight_decay = 0.01f,
                   .max_grad_norm = 0.0f}};
  const std::vector<Example> batch{{.tokens = ids, .answer_begin = 10}};
  trainer.accumulate(batch);
  CHECK(trainer.accumulated_targets() == json["n_targets"].get<std::size_t>());
  std::vector<std::vector<float>> gradients;
  for (const Parameter& p : trainer.parameters()) {
    gradients.emplace_back(p.gradient.begin(), p.gradient.end());
    for (float& v : gradients.back()) v /= static_cast<float>(trainer.accumulated_targets());
  }
  std::size_t next = 0;
  compare(model, trainer, expected, "grad.",
          [&](const Parameter&) { return std::span<const float>(gradients[next++]); });

  const auto& losses = json["losses_before_each_of_5_adamw_steps_then_final"];
  for (std::size_t step = 0; step < 5; ++step) {
    CAPTURE(step);
    const float loss = step == 0 ? trainer.update() : trainer.step(batch);
    CHECK(loss == doctest::Approx(losses[step].get<double>()).epsilon(1e-5));
    if (step == 0) {
      CHECK(trainer.gradient_norm() == doctest::Approx(json["grad_global_l2_norm"].get<double>()).epsilon(1e-4));
      compare(model, trainer, expected, "param_after_step1.", value_of);
    }
  }
  compare(model, trainer, expected, "param_after_step5.", value_of);
  CHECK(trainer.evaluate(batch) == doctest::Approx(losses[5].get<double>()).epsilon(1e-5));
}

TEST_CASE("a clipped batch of two sequences trains as PyTorch's") {
  const auto folder = test::golden("lora/gqa_w8");
  const auto checkpoint = test::golden("forward/gqa_w8/hf");
  if (folder.empty() || checkpoint.empty()) return;
  const auto json = test::expected_json(folder)["batch_run"];
  const Safetensors expected = Safetensors::open((folder / "expected.safetensors").string());
  Tuned model = load<Tuned>(checkpoint.string());
  load_adapter(model, (folder / "adapter").string());
  Trainer trainer{model,
                  {.learning_rate = 0.005f,
                   .beta1 = 0.9f,
                   .beta2 = 0.95f,
                   .epsilon = 1e-6f,
                   .weight_decay = 0.1f,
                   .max_grad_norm = 1.0f}};
  const std::vector<Example> batch{{.tokens = test::tensor_values<TokenId>(expected, "tokens"), .answer_begin = 10},
                                   {.tokens = test::tensor_values<TokenId>(expected, "tokens2"), .answer_begin = 4}};
  for (std::size_t step = 0; step < 3; ++step) {
    CAPTURE(step);
    CHECK(trainer.step(batch) == doctest::Approx(json["losses"][step].get<double>()).epsilon(1e-5));
    CHECK(trainer.gradient_norm() == doctest::Approx(json["pre_clip_norms"][step].get<double>()).epsilon(1e-4));
  }
  compare(model, trainer, expected, "batch_run.param_after_step3.", value_of);
}

TEST_CASE("the gradient of every parameter of a whole model is PyTorch's") {
  const auto folder = test::golden("lora/gqa_w8");
  const auto checkpoint = test::golden("forward/gqa_w8/hf");
  if (folder.empty() || checkpoint.empty()) return;
  const auto json = test::expected_json(folder);
  const Safetensors expected = Safetensors::open((folder / "full_grads.safetensors").string());
  const std::vector<TokenId> ids = json["tokens"].get<std::vector<TokenId>>();
  Full model = load<Full>(checkpoint.string());
  Trainer trainer{model};
  trainer.accumulate(std::vector<Example>{{.tokens = ids, .answer_begin = 10}});
  std::map<std::string, std::vector<float>> found;
  for (const Parameter& p : trainer.parameters()) {
    auto& gradient = found[p.name];
    gradient.assign(p.gradient.begin(), p.gradient.end());
    for (float& v : gradient) v /= static_cast<float>(trainer.accumulated_targets());
  }
  CHECK(found.size() == 30);
  struct Compare {
    const Safetensors& expected;
    std::map<std::string, std::vector<float>>& found;
    void operator()(const std::string& name, const Panels<F32>& matrix, std::size_t heads) const {
      check(name, hugging_face(found[name], matrix.rows(), matrix.cols(), heads));
    }
    void operator()(const std::string& name, const Buffer<float>&) const { check(name, found[name]); }
    void check(const std::string& name, const std::vector<float>& ours) const {
      CAPTURE(name);
      const auto theirs = test::tensor_values<double>(expected, weight_name(CheckpointLayout::hugging_face, name));
      CHECK(test::relative_error(ours, theirs) < tolerance);
    }
  };
  visit_weights(model, Compare{expected, found});
}
