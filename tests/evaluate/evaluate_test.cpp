// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/evaluate/evaluate.hpp>
#include <mistral/evaluate/moderation.hpp>
#include <mistral/evaluate/program_results.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/session.hpp>

#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

using Ids = std::vector<TokenId>;

const std::string breeze = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

// How many of the k-subsets of n programs, of which the first c pass, hold one that passes.
double brute_force_pass_at_k(std::size_t n, std::size_t c, std::size_t k) {
  std::size_t subsets = 0, passing = 0;
  for (std::size_t set = 0; set < std::size_t{1} << n; ++set) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < n; ++i) size += set >> i & 1;
    if (size != k) continue;
    ++subsets;
    if ((set & ((std::size_t{1} << c) - 1)) != 0) ++passing;
  }
  return static_cast<double>(passing) / static_cast<double>(subsets);
}

// The sum over the end's tokens of what one forward of the whole text says of them.
template <class Model>
double naive_log_likelihood(const Model& model, const Ids& prompt, const Ids& end) {
  Ids whole = prompt;
  whole.insert(whole.end(), end.begin(), end.end());
  Session<Model> session{model};
  const auto logits = session.forward(whole);
  double sum = 0.0;
  for (std::size_t i = prompt.size(); i < whole.size(); ++i) sum += log_probability(logits.row(i - 1), whole[i]);
  return sum;
}

// Some prompts, most of which begin as the one before. Returns how many of their tokens could have been shared and
// weren't.
template <class Model>
std::size_t check_continuations(std::size_t rollback, std::size_t longest_prompt, std::size_t longest_end) {
  const auto model = test::random_model<Model>(5);
  Session<Model> session{model, rollback};
  Random random(11);
  Ids prompt;
  std::size_t shared = 0;
  {
    ContinuationScorer scorer(session);
    for (int round = 0; round < 12; ++round) {
      const Ids before = prompt;
      if (random.next() % 4 == 0) prompt.clear();
      prompt.resize(prompt.empty() ? 0 : random.next() % prompt.size());
      const auto tail = test::random_tokens(1 + random.next() % longest_prompt, Model::config.vocab_size, random);
      prompt.insert(prompt.end(), tail.begin(), tail.end());
      prompt.resize(std::min(prompt.size(), longest_prompt));
      std::size_t same = 0;
      while (same + 1 < prompt.size() && same < before.size() && prompt[same] == before[same]) ++same;
      shared += same;
      std::vector<Ids> ends(1 + random.next() % 5);
      for (Ids& end : ends) {
        end = test::random_tokens(1 + random.next() % longest_end, Model::config.vocab_size, random);
      }
      const auto scores = scorer.score(prompt, ends);
      REQUIRE(scores.size() == ends.size());
      for (std::size_t i = 0; i < ends.size(); ++i) {
        CHECK(scores[i].log_likelihood == naive_log_likelihood(model, prompt, ends[i]));
        CHECK(scores[i].targets == ends[i].size());
      }
    }
    CHECK(shared > 30);
    CHECK(scorer.shared_tokens() <= shared);
    shared -= scorer.shared_tokens();
  }
  CHECK(session.position() == 0);
  return shared;
}

std::string task_error(const std::string& content) {
  const test::Scratch scratch;
  const std::string path = scratch.write("t.jsonl", content);
  std::string error = test::error_of([&] { read_task(path); });
  if (const std::size_t at = error.find(path); at != std::string::npos) error.replace(at, path.size(), "t.jsonl");
  return error;
}

}  // namespace

TEST_CASE("pass@k is the share of the k-subsets that hold a program that passes") {
  for (std::size_t n = 1; n <= 9; ++n) {
    for (std::size_t c = 0; c <= n; ++c) {
      for (std::size_t k = 1; k <= n; ++k) {
        CAPTURE(n);
        CAPTURE(c);
        CAPTURE(k);
        CHECK(std::abs(pass_at_k(n, c, k) - brute_force_pass_at_k(n, c, k)) < 1e-14);
      }
    }
  }
  // of numbers whose binomials are no doubles: 1 - 900! 1900! / (2000! 800!), by logarithms
  const double direct =
      1.0 - std::exp(std::lgamma(1901.0) + std::lgamma(1901.0) - std::lgamma(2001.0) - std::lgamma(1801.0));
  CHECK(std::abs(pass_at_k(2000, 100, 100) - direct) < 1e-9);
  CHECK(test::error_of([] { pass_at_k(5, 2, 6); }) == "[pass@k] k: expected 1 ... 5, the samples, got 6");
  CHECK(test::error_of([] { pass_at_k(5, 2, 0); }) == "[pass@k] k: expected 1 ... 5, the samples, got 0");
  CHECK(test::error_of([] { pass_at_k(5, 6, 1); }) == "[pass@k] passed: expected at most the 5 samples, got 6");
}

TEST_CASE("standard errors are those of all outcomes, counted") {
  // a proportion of n trials that each go well with probability count / n
  for (std::size_t n = 1; n <= 10; ++n) {
    for (std::size_t count = 0; count <= n; ++count) {
      const double p = static_cast<double>(count) / static_cast<double>(n);
      double variance = 0.0;
      for (std::size_t set = 0; set < std::size_t{1} << n; ++set) {
        double probability = 1.0, well = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
          const bool one = (set >> i & 1) != 0;
          probability *= one ? p : 1.0 - p;
          well += one ? 1.0 : 0.0;
        }
        const double distance = well / static_cast<double>(n) - p;
        variance += probability * distance * distance;
      }
      CHECK(std::abs(Proportion{count, n}.standard_error() - std::sqrt(variance)) < 1e-12);
      CHECK(Proportion{count, n}.value() == p);
    }
  }
  Mean mean;
  const std::vector<double> values{3.0, -1.5, 1e6, 2.25, 0.0};
  for (const double x : values) mean.add(x);
  double sum = 0.0, squares = 0.0;
  for (const double x : values) sum += x / 5.0;
  for (const double x : values) squares += (x - sum) * (x - sum);
  CHECK(mean.value() == doctest::Approx(sum).epsilon(1e-14));
  CHECK(mean.standard_error() == doctest::Approx(std::sqrt(squares / 4.0 / 5.0)).epsilon(1e-14));
  CHECK(Mean().standard_error() == 0.0);
}

TEST_CASE("the majority is the answer given most often, of several the first") {
  using Texts = std::vector<std::string>;
  CHECK(majority(Texts{"a"}) == "a");
  CHECK(majority(Texts{"a", "b", "b"}) == "b");
  CHECK(majority(Texts{"c", "b", "a", "a", "b"}) == "b");
  CHECK(majority(Texts{}) == "");
  CHECK(answer_in("so it is 3.\n#### 42 \nor not", "####") == "42");
  CHECK(answer_in(" #### 1\n#### 2", "####") == "2");
  CHECK(answer_in(" 42\n", "####") == "42");
  CHECK(answer_in("\n42 is\nit ", "") == "42 is\nit");
  CHECK(answer_in("####", "####") == "");
}

TEST_CASE("ends that share a prompt, and prompts that begin alike, get the bits of each text by itself") {
  // a window of 8: prompts wrap, and ends overwrite them; some of those are taken back, and others need a fork
  for (const std::size_t rollback : {0u, 10u, 20u}) {
    check_continuations<Transformer<test::tiny, F32>>(rollback, 40, 20);
  }
  // without a window, or where enough can be taken back, all that could be shared is
  CHECK(check_continuations<Transformer<test::tiny, F32>>(60, 40, 20) == 0);
  CHECK(check_continuations<Transformer<test::full, F32>>(0, 100, 20) == 0);
  const auto model = test::random_model<Transformer<test::full, F32>>(5);
  Session session{model};
  const Ids prompt{1};
  CHECK(test::error_of([&] {
          score_continuations(session, prompt, std::vector<Ids>{{2}, {}});
        }) == "[likelihood] an end: expected at least one token, got none");
}

TEST_CASE("a prompt and its ends are cut where the first of them leaves the prompt's own ids") {
  const auto tokenizer = Tokenizer::load(breeze + "/tokenizer.model");
  const std::vector<std::string> choices{" house of the LORD", " ho", "usehold", ", and"};
  for (const std::string prompt : {"He went to the", "He went to the ", "And it came to pass, that", ""}) {
    CAPTURE(prompt);
    const Continuations ids = encode_continuations(tokenizer, prompt, choices);
    Ids own = tokenizer.encode(prompt);
    own.insert(own.begin(), tokenizer.bos_id());
    std::size_t common = own.size();
    for (std::size_t i = 0; i < choices.size(); ++i) {
      Ids whole = ids.prompt;
      whole.insert(whole.end(), ids.ends[i].begin(), ids.ends[i].end());
      Ids wanted = tokenizer.encode(prompt + choices[i]);
      wanted.insert(wanted.begin(), tokenizer.bos_id());
      CHECK(whole == wanted);
      CHECK(ids.ends[i].size() >= 1);
      std::size_t same = 0;
      while (same < common && same < wanted.size() && wanted[same] == own[same]) ++same;
      common = same;
    }
    CHECK(ids.prompt.size() == common);
  }
}

TEST_CASE("a task's questions are read, and what is wrong with a line is named by file and line") {
  const test::Scratch scratch;
  const Task task =
      read_task(scratch.write("t.jsonl", R"({"shot": true, "prompt": "1+1=", "choices": ["2", "3"], "answer": 0}

{"prompt": "1+2=", "choices": ["2", "3", "4"], "answer": 1, "source": "ours"}
{"shot": true, "prompt": "2+2=", "choices": ["2", "4"], "answer": 1})"));
  CHECK(task.kind == TaskKind::choices);
  REQUIRE(task.items.size() == 1);
  CHECK(task.items[0].line == 3);
  CHECK(task.items[0].right == 1);
  CHECK(shots_text(task, 0) == "");
  CHECK(shots_text(task, 2) == "1+1=2\n\n2+2=4\n\n");
  CHECK(test::error_of([&] { shots_text(task, 3); }) == "[task] examples: expected at most the file's 2, got 3");
  const Task answers = read_task(scratch.write("a.jsonl", R"({"prompt": "a", "answer": "b"}
{"prompt": "a", "answers": ["b", "c"], "stop": ["\n", "."], "after": "####"})"));
  CHECK(answers.items[0].stop == std::vector<std::string>{"\n\n"});
  CHECK(answers.items[1].answers == std::vector<std::string>{"b", "c"});
  CHECK(answers.items[1].after == "####");

  const std::string good = R"({"prompt": "a", "choices": ["b", "c"], "answer": 0})"
                           "\n\n";
  CHECK(task_error("") == "[task] t.jsonl: expected at least one line that asks something, got none");
  CHECK(task_error(R"({"shot": true, "prompt": "a", "answer": "b"})") ==
        "[task] t.jsonl: expected at least one line that asks something, got none");
  CHECK(task_error(good + "[]") == "[task] t.jsonl:3: expected a JSON object, got an array");
  CHECK(task_error(good + R"({"prompt": "a", "answer": "b"})") ==
        "[task] t.jsonl:3: expected choices as in the lines before, got an answer");
  CHECK(task_error(good + R"({"prompt": "a", "choices": ["b", "c"], "answer": 2})") ==
        "[task] t.jsonl:3: field 'answer': expected an integer from 0 to 1, got 2");
  CHECK(task_error(good + R"({"prompt": "a", "choices": ["b"], "answer": 0})") ==
        "[task] t.jsonl:3: field 'choices': expected at least 2, got an array");
  CHECK(task_error(good + R"({"prompt": "a", "choices": ["b", ""], "answer": 0})") ==
        "[task] t.jsonl:3: field 'choices': expected no empty text, got an array");
  CHECK(task_error(good + R"({"choices": ["b", "c"], "answer": 0})") == "[task] t.jsonl:3: field 'prompt' is missing");
  CHECK(task_error(R"({"prompt": "a"})") == "[task] t.jsonl:1: field 'answer' is missing");
  CHECK(task_error(R"({"text": ""})") == "[task] t.jsonl:1: field 'text': expected text, got ''");
  CHECK(task_error(R"({"text": "a", "shot": true})") ==
        "[task] t.jsonl:1: field 'shot': expected no example in a task of texts, got true");
  CHECK(task_error(good + "{\"prompt\": \"a\0\"").starts_with("[task] t.jsonl:3: "));
  CHECK(test::error_of([&] { read_task(scratch.path("none")); }) ==
        "[task] " + scratch.path("none") + ": cannot open: No such file or directory");
}

TEST_CASE("in a template, what is asked and scored are the ids of the conversation, its examples turns before it") {
  const auto tokenizer = Tokenizer::load(breeze + "/tokenizer.model");
  Task task;
  task.items = {{.line = 2, .prompt = "What is 1+2? \n", .choices = {" three", "two [/INST] </s>"}}};
  task.shots = {{.line = 1, .prompt = "What is 1+1?", .choices = {" one", " two"}, .right = 1}};
  std::vector<Message> messages{{"user", "What is 1+1?"}, {"assistant", "two"}, {"user", "What is 1+2?"}};
  const TaskPrompts prompts(task, 1, tokenizer, ChatTemplate::v1);
  CHECK(prompts.prompt(task.items[0]) == encode_chat(tokenizer, ChatTemplate::v1, messages));
  const Continuations ids = prompts.choices(task.items[0]);
  CHECK(ids.prompt == prompts.prompt(task.items[0]));
  CHECK(std::count(ids.prompt.begin(), ids.prompt.end(), tokenizer.bos_id()) == 1);
  for (const std::size_t choice : {0u, 1u}) {
    messages.resize(3);
    messages.push_back({"assistant", choice == 0 ? "three" : "two [/INST] </s>"});
    Ids whole = ids.prompt;
    whole.insert(whole.end(), ids.ends[choice].begin(), ids.ends[choice].end());
    CHECK(whole == encode_chat(tokenizer, ChatTemplate::v1, messages, {.continue_final_message = true}));
    CHECK(std::count(ids.ends[choice].begin(), ids.ends[choice].end(), tokenizer.eos_id()) == 0);
  }
  CHECK(TaskPrompts(task, 0, tokenizer).choices(task.items[0]).prompt.size() < ids.prompt.size());
  CHECK(test::error_of([&] { TaskPrompts(task, 1, tokenizer, ChatTemplate::v3); }) ==
        "[chat] template v3: expected a tokenizer with the control piece [INST], got one without");
  CHECK(test::error_of([&] { TaskPrompts(task, 2, tokenizer); }) ==
        "[task] examples: expected at most the file's 1, got 2");
}

TEST_CASE("choices are chosen by log-likelihood, and by that over their bytes, and counted") {
  const auto tokenizer = Tokenizer::load(breeze + "/tokenizer.model");
  Task task;
  task.items = {{.line = 1, .prompt = "a", .choices = {" b", " bcdefgh"}, .right = 1},
                {.line = 2, .prompt = "a", .choices = {" b", " c", " d"}, .right = 0}};
  std::size_t calls = 0;
  const auto score = [&](std::span<const TokenId> prompt, std::span<const Ids> ends) {
    CHECK(prompt[0] == tokenizer.bos_id());
    if (++calls == 1) return std::vector<TextScore>{{1, -2.0}, {1, -3.0}};  // -1 and -0.375 a byte
    CHECK(ends.size() == 3);
    return std::vector<TextScore>{{1, -2.0}, {1, -2.0}, {1, -4.0}};
  };
  std::size_t told = 0;
  const ChoiceResult result =
      evaluate_choices(task, TaskPrompts(task, 0, tokenizer), score, [&](std::size_t n) { told += n; });
  CHECK(told == 3);
  CHECK(result.outcomes[0].chosen == 0);
  CHECK(result.outcomes[0].chosen_per_byte == 1);
  CHECK(result.outcomes[1].chosen == 0);  // of two that are as probable the first
  CHECK(result.accuracy.count == 1);
  CHECK(result.accuracy_per_byte.count == 2);
  CHECK(result.accuracy.total == 2);
  CHECK(result.chance == doctest::Approx((1.0 / 2 + 1.0 / 3) / 2));
  const auto fails = [](std::span<const TokenId>, std::span<const Ids>) -> std::vector<TextScore> {
    throw Error("session", "too long");
  };
  CHECK(test::error_of([&] { evaluate_choices(task, TaskPrompts(task, 0, tokenizer), fails, [](std::size_t) {}); }) ==
        "[task] line 1: [session] too long");
}

TEST_CASE("an answer is right where the majority of the samples is, to the letter") {
  const auto tokenizer = Tokenizer::load(breeze + "/tokenizer.model");
  Task task{.kind = TaskKind::answers, .items = {}, .shots = {}};
  task.items = {{.line = 1, .prompt = "a", .answers = {"4", "four"}, .stop = {"\n"}, .after = "="}};
  const std::vector<std::string> texts{"1 = 4 ", "5", "it's = 4", "four"};
  std::vector<std::uint64_t> seeds;
  const auto run = [&](std::span<const TokenId>, const GenerateOptions& options) {
    CHECK(options.stop_strings == std::vector<std::string>{"\n"});
    CHECK(options.stop_ids == Ids{tokenizer.eos_id()});
    seeds.push_back(options.sampling.seed);
    return Generated{.tokens = {}, .text = texts[seeds.size() - 1]};
  };
  GenerateOptions options;
  options.sampling.seed = 7;
  const AnswerResult result =
      evaluate_answers(task, TaskPrompts(task, 0, tokenizer), 4, options, run, [](std::size_t) {});
  CHECK(seeds == std::vector<std::uint64_t>{7, 8, 9, 10});
  CHECK(result.outcomes[0].answers == std::vector<std::string>{"4", "5", "4", "four"});
  CHECK(result.outcomes[0].given == "4");
  CHECK(result.exact_match.count == 1);
  CHECK(result.sample_accuracy.value() == 0.75);
}

TEST_CASE("results of programs are read, and pass@k is the mean over problems") {
  const test::Scratch scratch;
  const auto results = read_program_results(scratch.write(
      "r.jsonl", "{\"samples\": 5, \"passed\": 2}\n\n{\"samples\": 4, \"passed\": 0, \"task\": \"x\"}\n"));
  CHECK(mean_pass_at(results, 1).value() == doctest::Approx(0.2));
  CHECK(mean_pass_at(results, 4).value() == 0.5);
  CHECK(mean_pass_at(results, 1).standard_error() == doctest::Approx(0.2));
  CHECK(test::error_of([&] { mean_pass_at(results, 5); }) == "[results] line 3: expected at least 5 samples, got 4");
  const auto error = [&](const std::string& content) {
    const std::string path = scratch.write("bad.jsonl", content);
    return test::error_of([&] { read_program_results(path); }).substr(std::string("[results] ").size() + path.size());
  };
  CHECK(error("{\"samples\": 5, \"passed\": 6}") == ":1: field 'passed': expected an integer from 0 to 5, got 6");
  CHECK(error("{\"samples\": 0, \"passed\": 0}").starts_with(":1: field 'samples': expected an integer from 1 to "));
  CHECK(error("\n") == ": expected at least one problem, got none");
}

TEST_CASE("a text is judged by the probabilities of the letters, and a threshold lets fewer or more pass") {
  const auto tokenizer = Tokenizer::load(breeze + "/tokenizer.model");
  const ModeratedText text{.prompt = "How do I pick a lock?", .answer = "With care."};
  const auto score = [&](std::span<const TokenId> prompt, std::span<const Ids> ends) {
    const Message question{"user", moderation_question(text)};
    CHECK(Ids(prompt.begin(), prompt.end()) == encode_chat(tokenizer, ChatTemplate::v1, {question}));
    REQUIRE(ends.size() == 4);
    CHECK(ends[2] == tokenizer.encode("C"));
    return std::vector<TextScore>{{1, std::log(0.04)}, {1, std::log(0.06)}, {1, std::log(0.01)}, {1, std::log(0.09)}};
  };
  const Moderation made = moderate(text, tokenizer, ChatTemplate::v1, score);
  const std::vector<double> wanted{0.2, 0.3, 0.05, 0.45};
  for (std::size_t i = 0; i < 4; ++i) CHECK(made.probabilities[i] == doctest::Approx(wanted[i]).epsilon(1e-12));
  CHECK(made.verdict() == Verdict::unqualified);
  CHECK(made.verdict(0.19) == Verdict::acceptable);
  CHECK(made.verdict(0.21) == Verdict::unqualified);
  CHECK(moderation_question(text).find("Prompt: How do I pick a lock?\n\nAnswer: With care.\n") != std::string::npos);
  CHECK(moderation_question({.prompt = "Hi"}).find("Answer:") == std::string::npos);
  for (const std::string_view category : verdict_descriptions) {
    CHECK(moderation_question({.prompt = "Hi"}).find(category) != std::string::npos);
  }
}

TEST_CASE("precision and recall are counted, and labels that aren't known are named by file and line") {
  ModerationCounts counts;
  const auto add = [&](Verdict label, Verdict verdict, int times) {
    for (int i = 0; i < times; ++i) counts.add(label, verdict);
  };
  add(Verdict::acceptable, Verdict::acceptable, 7);
  add(Verdict::acceptable, Verdict::illegal, 2);
  add(Verdict::illegal, Verdict::acceptable, 1);
  add(Verdict::illegal, Verdict::illegal, 3);
  add(Verdict::hateful, Verdict::illegal, 1);
  CHECK(counts.precision(Verdict::acceptable).value() == 7.0 / 8.0);
  CHECK(counts.recall(Verdict::acceptable).value() == 7.0 / 9.0);
  CHECK(counts.precision(Verdict::illegal).value() == 3.0 / 6.0);
  CHECK(counts.recall(Verdict::illegal).value() == 3.0 / 4.0);
  CHECK(counts.recall(Verdict::hateful).value() == 0.0);
  CHECK(counts.precision(Verdict::hateful).total == 0);
  CHECK(counts.accuracy().value() == 10.0 / 14.0);

  const test::Scratch scratch;
  const auto texts = read_labelled_texts(scratch.write(
      "m.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"answer\": \"c\", \"label\": \"hateful\"}\n"));
  CHECK(!texts[0].label);
  CHECK(texts[1].label == Verdict::hateful);
  CHECK(texts[1].text.answer == "c");
  const std::string bad = scratch.write("bad.jsonl", "\n{\"prompt\": \"a\", \"label\": \"rude\"}");
  CHECK(test::error_of([&] { read_labelled_texts(bad); }) ==
        "[moderation] " + bad +
            ":2: field 'label': expected 'acceptable', 'illegal', 'hateful' or 'unqualified', got "
            "'rude'");
  const std::string empty = scratch.write("empty.jsonl", "");
  CHECK(test::error_of([&] { read_labelled_texts(empty); }) ==
        "[moderation] " + empty + ": expected at least one text, got none");
}
