// SPDX-License-Identifier: Apache-2.0
// Trains the model `breeze` from nothing, all of its parameters in float, and says how well it predicts a text:
//
//   own_model train FOLDER TOKENIZER TEXT HELD_OUT [STEPS]
//   own_model score FOLDER TEXT...
//
// In a text a document ends with a form feed. A run that was ended goes on from the state that it has left in
// FOLDER.state, and ends in the same bits as an unbroken one.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <mistral/train.hpp>

#include "../tool/configs.hpp"

namespace {

using mistral::TokenId;
using mistral::tool::breeze;
using Model = mistral::Transformer<breeze, mistral::F32>;

constexpr std::size_t sequence_length = 256;  // four windows: what a layer forgets, the layers above it may still see
constexpr std::size_t sequences_in_step = 8;
constexpr std::size_t evaluation_sequences = 64;
constexpr std::uint64_t evaluation_steps = 100;  // between two looks at the held-out text, and two checkpoints
constexpr std::uint64_t logged_steps = 10;

// What models of this family begin with: normal numbers of a deviation of 0.02; the two matrices that write to the
// residual stream, 2 n_layers times in all, divided by the root of that, so that its variance doesn't grow with depth.
struct Initializer {
  mistral::Random random{1};

  void operator()(const std::string& name, mistral::Panels<mistral::F32>& matrix, std::size_t) {
    const bool residual = name.ends_with("wo.weight") || name.ends_with("w2.weight");
    const float deviation = 0.02f / (residual ? std::sqrt(2.0f * static_cast<float>(breeze.n_layers)) : 1.0f);
    std::vector<float> values(matrix.rows() * matrix.cols());
    for (float& v : values) v = deviation * random.normal();
    for (std::size_t panel = 0; panel < matrix.view().panel_count(); ++panel) {
      const float* rows[mistral::panel_rows];
      const std::size_t first = panel * mistral::panel_rows;
      const std::size_t count = std::min(mistral::panel_rows, matrix.rows() - first);
      for (std::size_t r = 0; r < count; ++r) rows[r] = values.data() + (first + r) * matrix.cols();
      matrix.pack(panel, std::span<const float* const>(rows, count));
    }
  }
  void operator()(const std::string&, mistral::Buffer<float>& norm) {
    for (float& v : norm.span()) v = 1.0f;
  }
};

struct Text {
  std::vector<TokenId> tokens;  // BOS and EOS around each document
  std::size_t bytes = 0;
};

Text read_text(const std::string& path, const mistral::Tokenizer& tokenizer) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw mistral::Error("text", path + ": cannot be read");
  Text text;
  for (std::string document; std::getline(file, document, '\f');) {
    if (document.empty() || document == "\n") continue;
    text.bytes += document.size();
    const std::vector<TokenId> ids = tokenizer.encode(document);
    text.tokens.push_back(tokenizer.bos_id());
    text.tokens.insert(text.tokens.end(), ids.begin(), ids.end());
    text.tokens.push_back(tokenizer.eos_id());
  }
  if (text.tokens.size() <= sequence_length + 1) throw mistral::Error("text", path, "more than a sequence", "less");
  return text;
}

mistral::Example sequence_at(const Text& text, std::size_t begin) {
  const auto first = text.tokens.begin() + static_cast<std::ptrdiff_t>(begin);
  return {.tokens = {first, first + sequence_length + 1}};
}

// The sequences of a step. They depend on its number alone: where a run goes on, so does their order.
std::vector<mistral::Example> batch_of(const Text& text, std::uint64_t step) {
  mistral::Random random(step + 1000);
  std::vector<mistral::Example> batch;
  while (batch.size() < sequences_in_step) {
    batch.push_back(sequence_at(text, random.next() % (text.tokens.size() - sequence_length)));
  }
  return batch;
}

// One line for each step that is logged. Of those that an earlier run has written, the first `steps` steps' are kept.
class Metrics {
 public:
  Metrics(std::string path, std::uint64_t steps) : path_(std::move(path)) {
    std::ifstream file(path_);
    for (std::string line; std::getline(file, line);) {
      unsigned long long step = 0;
      if (std::sscanf(line.c_str(), "{\"step\": %llu", &step) == 1 && step <= steps) text_ += line + "\n";
    }
  }
  void add(const std::string& line) { text_ += line + "\n"; }
  void write() const {
    mistral::AtomicFile file(path_, "metrics");
    file.write(text_);
    file.commit();
  }

 private:
  std::string path_;
  std::string text_;
};

int train(const std::string& folder, const std::string& tokenizer_path, const std::string& text_path,
          const std::string& held_out_path, std::uint64_t steps) {
  const auto tokenizer = mistral::Tokenizer::load(tokenizer_path);
  if (tokenizer.vocab_size() != breeze.vocab_size) {
    throw mistral::Error("tokenizer", tokenizer_path, std::to_string(breeze.vocab_size) + " pieces",
                         std::to_string(tokenizer.vocab_size()));
  }
  const Text text = read_text(text_path, tokenizer);
  const Text held_out = read_text(held_out_path, tokenizer);
  std::vector<mistral::Example> evaluation;
  for (std::size_t i = 0; i < evaluation_sequences; ++i) {
    const std::size_t room = held_out.tokens.size() - sequence_length - 1;
    evaluation.push_back(sequence_at(held_out, room * i / evaluation_sequences));
  }
  std::printf("%zu tokens of %zu bytes to learn from, %zu of %zu held out, %llu parameters\n", text.tokens.size(),
              text.bytes, held_out.tokens.size(), held_out.bytes,
              static_cast<unsigned long long>(breeze.parameter_count()));

  Model model;
  mistral::visit_weights(model, Initializer{});
  mistral::Trainer trainer{model,
                           {.learning_rate = 3e-3f,
                            .beta1 = 0.9f,
                            .beta2 = 0.95f,
                            .weight_decay = 0.1f,
                            .max_grad_norm = 1.0f,
                            .schedule = mistral::Schedule::cosine,
                            .warmup_steps = 100,
                            .total_steps = steps,
                            .min_learning_rate = 1e-4f}};
  mistral::make_folder(folder, "train");
  const std::string state = folder + ".state";
  if (mistral::path_exists(state)) trainer.resume(state);
  Metrics metrics(mistral::path_in(folder, "metrics.jsonl"), trainer.steps());

  const auto begin = std::chrono::steady_clock::now();
  const std::uint64_t first_step = trainer.steps();
  double loss = 0.0;
  while (trainer.steps() < steps) {
    const auto rate = static_cast<double>(trainer.learning_rate());
    loss += static_cast<double>(trainer.step(batch_of(text, trainer.steps())));
    const std::uint64_t step = trainer.steps();
    const bool last = step == steps;
    char line[256];
    if (step % logged_steps == 0) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      const double per_step = seconds / static_cast<double>(step - first_step);
      loss /= static_cast<double>(logged_steps);
      std::snprintf(line, sizeof line, "{\"step\": %llu, \"loss\": %.4f, \"rate\": %.3e, \"gradient_norm\": %.3f}",
                    static_cast<unsigned long long>(step), loss, rate, trainer.gradient_norm());
      metrics.add(line);
      std::printf("step %llu of %llu: loss %.4f, %.0f tokens/s, %.0f s left\n", static_cast<unsigned long long>(step),
                  static_cast<unsigned long long>(steps), loss,
                  static_cast<double>(sequence_length * sequences_in_step) / per_step,
                  per_step * static_cast<double>(steps - step));
      loss = 0.0;
    }
    if (step % evaluation_steps == 0 || last) {
      const double held_out_loss = trainer.evaluate(evaluation);
      std::snprintf(line, sizeof line, "{\"step\": %llu, \"held_out_loss\": %.4f}",
                    static_cast<unsigned long long>(step), held_out_loss);
      metrics.add(line);
      std::printf("step %llu: held out %.4f\n", static_cast<unsigned long long>(step), held_out_loss);
      mistral::save_checkpoint(
          model, folder, {.type = mistral::DType::bf16, .bos_id = tokenizer.bos_id(), .eos_id = tokenizer.eos_id()});
      metrics.write();
      trainer.save(state);
    }
    std::fflush(stdout);
  }
  return 0;
}

// Each text in one piece, through the window, as it would be read.
int score(const std::string& folder, const std::vector<std::string>& texts) {
  const auto tokenizer = mistral::Tokenizer::load(mistral::path_in(folder, "tokenizer.model"));
  const auto model = mistral::load<Model>(folder);
  mistral::Session<Model, float> session{model};
  for (const std::string& path : texts) {
    const Text text = read_text(path, tokenizer);
    const mistral::TextScore total = mistral::score_text(session, text.tokens);
    std::printf("%s: %zu tokens of %zu bytes: %.4f nats a token, perplexity %.2f, %.3f bits a byte\n", path.c_str(),
                text.tokens.size(), text.bytes, total.loss(), total.perplexity(),
                -total.log_likelihood / std::log(2.0) / static_cast<double>(text.bytes));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() >= 5 && arguments.size() <= 6 && arguments[0] == "train") {
    const std::uint64_t steps = arguments.size() == 6 ? std::strtoull(arguments[5].c_str(), nullptr, 10) : 800;
    return train(arguments[1], arguments[2], arguments[3], arguments[4], steps);
  }
  if (arguments.size() >= 3 && arguments[0] == "score") {
    return score(arguments[1], {arguments.begin() + 2, arguments.end()});
  }
  std::fprintf(stderr, "usage: %s train FOLDER TOKENIZER TEXT HELD_OUT [STEPS]\n       %s score FOLDER TEXT...\n",
               argv[0], argv[0]);
  return 2;
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
