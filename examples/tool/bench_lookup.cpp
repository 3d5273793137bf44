// SPDX-License-Identifier: Apache-2.0
// mistral bench --lookup: what drafts from the prompt bring an answer that repeats it.

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/random.hpp>

#include "../../benchmarks/limits.hpp"
#include "bench_figures.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

// A prompt, and an answer that repeats it but for one change in about every 40 tokens: a token is another one, is left
// out, or has another before it. Random weights edit nothing: the answer's tokens are given, so that what is accepted
// is so by construction. What is computed for them is real, and so is what the drafts get wrong.
struct Editing {
  std::vector<TokenId> prompt;
  std::vector<TokenId> answer;
  std::size_t edits = 0;

  Editing(std::size_t prompt_tokens, std::size_t answer_tokens, std::size_t vocab_size) {
    Random random(1);
    const auto any = [&] { return static_cast<TokenId>(random.next() % vocab_size); };
    for (std::size_t i = 0; i < prompt_tokens; ++i) prompt.push_back(any());
    for (std::size_t i = 0; answer.size() < answer_tokens; ++i) {
      const std::uint64_t change = random.next() % 120;
      if (change < 3) ++edits;
      if (change == 1 || change == 2) answer.push_back(any());
      if (change != 0 && change != 1) answer.push_back(prompt[i % prompt_tokens]);
    }
    answer.resize(answer_tokens);
  }
};

// A session on its way through the answer.
class Run {
 public:
  Run(const AnyModel& model, std::size_t drafts, const Editing& text)
      : text_(text), drafts_(drafts), session_(model.session(drafts)) {}

  void begin() {
    lookup_.reset();
    session_->clear();
    session_->prefill(text_.prompt);
    lookup_ = std::make_unique<LookupDecoder<AnySession>>(*session_, drafts_, text_.prompt);
    seconds_ = 0.0;
    given_ = 0;
    chosen_.clear();
  }

  /// Goes on to `end` tokens of the answer. A token is chosen after each, as greedy decoding does, and then another one
  /// given.
  void go_to(std::size_t end) {
    const double begin = bench::seconds();
    for (; given_ < end; ++given_) {
      const auto logits = lookup_->next(text_.answer[given_], text_.answer.size() - given_);
      chosen_.push_back(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    seconds_ += bench::seconds() - begin;
  }

  double tokens_per_second() const { return static_cast<double>(given_) / seconds_; }
  LookupCounts counts() const { return lookup_->counts(); }
  const std::vector<std::ptrdiff_t>& chosen() const { return chosen_; }

 private:
  const Editing& text_;
  std::size_t drafts_;
  std::unique_ptr<AnySession> session_;
  std::unique_ptr<LookupDecoder<AnySession>> lookup_;
  double seconds_ = 0.0;
  std::size_t given_ = 0;
  std::vector<std::ptrdiff_t> chosen_;
};

}  // namespace

void run_bench_lookup(const AnyModelType& type, const BenchArguments& a) {
  const ModelInfo& info = type.info();
  if (info.config.window_size == 0 && a.prompt_tokens + a.generate_tokens > info.config.context_len) {
    throw UsageError("--prompt-tokens, --generate-tokens: expected at most " + std::to_string(info.config.context_len) +
                     " tokens in all for a model without a window, got " +
                     std::to_string(a.prompt_tokens + a.generate_tokens));
  }
  const std::size_t threads = a.threads != 0 ? a.threads : std::max(1u, std::thread::hardware_concurrency());
  const Threads limit(threads);
  std::unique_ptr<AnyModel> model;
  {
    const Progress progress("making random weights for " + a.config + " ...");
    model = type.random(1);
  }
  const Editing text(a.prompt_tokens, a.generate_tokens, info.config.vocab_size);
  Run plain(*model, 0, text), drafted(*model, a.lookup, text);
  std::vector<double> plain_tps, drafted_tps, ratios;
  {
    Progress progress("measuring", a.repeats);
    for (std::size_t i = 0; i < a.repeats; ++i) {
      plain.begin();
      drafted.begin();
      // They take turns, so that what slows the machine for a while slows both.
      constexpr std::size_t turn = 48;
      for (std::size_t end = 0; end < text.answer.size();) {
        end = std::min(end + turn, text.answer.size());
        plain.go_to(end);
        drafted.go_to(end);
      }
      plain_tps.push_back(plain.tokens_per_second());
      drafted_tps.push_back(drafted.tokens_per_second());
      ratios.push_back(drafted_tps.back() / plain_tps.back());
      progress.at(i + 1);
    }
  }
  if (plain.chosen() != drafted.chosen()) throw Error("bench", "the tokens chosen", "the same with drafts", "others");

  const LookupCounts counts = drafted.counts();
  const double acceptance = static_cast<double>(counts.accepted) / static_cast<double>(counts.drafted);
  if (a.json) {
    const nlohmann::ordered_json out = {{"config", a.config},
                                        {"weights", std::string(info.weights)},
                                        {"threads", threads},
                                        {"repeats", a.repeats},
                                        {"prompt_tokens", a.prompt_tokens},
                                        {"answer_tokens", text.answer.size()},
                                        {"edits", text.edits},
                                        {"answer_is_given", true},
                                        {"draft_tokens", a.lookup},
                                        {"plain_tps", to_json(plain_tps)},
                                        {"lookup_tps", to_json(drafted_tps)},
                                        {"lookup_over_plain", to_json(ratios)},
                                        {"forwards", counts.forwards},
                                        {"drafted", counts.drafted},
                                        {"accepted", counts.accepted},
                                        {"acceptance", acceptance}};
    print(json_text(out, 2));
    return;
  }
  const auto line = [](const char* what, const Spread& s, const char* unit) {
    return format("  %-24s %9.2f%s (%.2f ... %.2f)\n", what, s.median, unit, s.min, s.max);
  };
  print(
      format("%s, weights %.*s, %zu threads, medians of %zu repeats (least ... greatest)\n",
             printable(a.config, 100).c_str(), static_cast<int>(info.weights.size()), info.weights.data(), threads,
             a.repeats) +
      format("an answer of %zu tokens that repeats a prompt of %zu but for %zu edits. Its tokens are given, for random "
             "weights edit nothing: what is accepted is so by construction, what it takes is measured\n",
             text.answer.size(), a.prompt_tokens, text.edits) +
      line("token by token", spread(plain_tps), " tokens/s") +
      line(("drafts of up to " + std::to_string(a.lookup)).c_str(), spread(drafted_tps), " tokens/s") +
      line("over token by token", spread(ratios), "") +
      format("  %zu forwards; of %zu drafted tokens %zu accepted, %.1f%%; the choices after each are the same\n",
             counts.forwards, counts.drafted, counts.accepted, 100.0 * acceptance));
}

}  // namespace mistral::tool
