// From JSONL to examples: what is learnt of each kind of object, what is cut, and what is refused.
#include <mistral/train/dataset.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../support/scratch.hpp"

using namespace mistral;
using test::error_of;

namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer loaded =
      Tokenizer::load(std::string(MISTRAL_SOURCE_DIR) + "/tests/data/tokenizer/bpe600.model");
  return loaded;
}

/// The text of the tokens that an example's loss covers, `|` between its answers, `$` for EOS.
std::string learnt(const Example& example) {
  std::vector<TokenRange> ranges = example.answers;
  if (ranges.empty()) ranges.push_back({example.answer_begin, example.tokens.size()});
  std::string text;
  for (const TokenRange& range : ranges) {
    std::vector<TokenId> ids(example.tokens.begin() + static_cast<std::ptrdiff_t>(range.begin),
                             example.tokens.begin() + static_cast<std::ptrdiff_t>(range.end));
    const bool ends = ids.back() == tokenizer().eos_id();
    text += (text.empty() ? "" : "|") + tokenizer().decode(ids) + (ends ? "$" : "");
  }
  return text;
}

std::size_t bos_count(const Example& example) {
  return static_cast<std::size_t>(std::count(example.tokens.begin(), example.tokens.end(), tokenizer().bos_id()));
}

Dataset read(const test::Scratch& scratch, const std::string& lines, const DatasetOptions& options = {}) {
  return read_dataset(scratch.write("d.jsonl", lines), tokenizer(), options);
}

std::string error_in(const std::string& lines, const DatasetOptions& options = {}) {
  const test::Scratch scratch;
  std::string text = error_of([&] { read(scratch, lines, options); });
  const std::string path = scratch.path("d.jsonl");
  if (const auto at = text.find(path); at != std::string::npos) text.replace(at, path.size(), "F");
  return text;
}

}  // namespace

TEST_CASE("an object's fields say what it is, and the loss covers its answers and their EOS") {
  const test::Scratch scratch;
  const Dataset data = read(scratch,
                            R"({"instruction": "add these", "input": "1 2", "output": "three"})"
                            "\n"
                            R"({"instruction": "greet", "input": "", "output": "hello", "text": "not looked at"})"
                            "\n\n   \r\n"
                            R"({"prompt": "a dog is an", "completion": " animal"})"
                            "\r\n"
                            R"({"messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "hi"},
 )"  // no: a line is an object
                            "",
                            {.skip_bad = true});
  REQUIRE(data.examples.size() == 3);
  CHECK(data.counts.lines == 4);
  CHECK(data.counts.bad == 1);
  CHECK(data.counts.first_bad.find("d.jsonl:6: not valid JSON at byte ") != std::string::npos);

  const auto chat =
      encode_chat_with_answers(tokenizer(), ChatTemplate::v1, {{"user", "add these\n\n1 2"}, {"assistant", "three"}});
  CHECK(data.examples[0].tokens == chat.ids);
  CHECK(data.examples[0].answer_begin == chat.answers[0].begin);
  CHECK(learnt(data.examples[0]) == "three$");
  CHECK(data.examples[1].tokens ==
        encode_chat(tokenizer(), ChatTemplate::v1, {{"user", "greet"}, {"assistant", "hello"}}));
  CHECK(learnt(data.examples[1]) == "hello$");

  // one text, and no template: what stands in front of the answer is what a prompt would be
  std::vector<TokenId> prompt = tokenizer().encode("a dog is an");
  prompt.insert(prompt.begin(), tokenizer().bos_id());
  const Example& continued = data.examples[2];
  CHECK(continued.answer_begin == prompt.size());
  CHECK(std::equal(prompt.begin(), prompt.end(), continued.tokens.begin()));
  CHECK(tokenizer().decode(continued.tokens) == "a dog is an animal");
  CHECK(continued.tokens.back() == tokenizer().eos_id());
  for (const Example& example : data.examples) CHECK(bos_count(example) == 1);
}

TEST_CASE("of a conversation every answer is learnt, of a text everything, and of both with train_on_prompt") {
  const test::Scratch scratch;
  const std::string lines =
      R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},)"
      R"( {"role": "user", "content": "three"}, {"role": "assistant", "content": "four five"}]})"
      "\n"
      R"({"text": "some words"})"
      "\n";
  const Dataset data = read(scratch, lines);
  REQUIRE(data.examples.size() == 2);
  CHECK(learnt(data.examples[0]) == "two$|four five$");
  CHECK(target_count(data.examples[0]) ==
        tokenizer().encode("two").size() + tokenizer().encode("four five").size() + 2);
  CHECK(learnt(data.examples[1]) == "some words$");
  CHECK(data.examples[1].answer_begin == 1);
  CHECK(data.counts.targets == target_count(data.examples[0]) + target_count(data.examples[1]));
  for (const Example& example : data.examples) CHECK(bos_count(example) == 1);

  const Dataset all = read(scratch, lines, {.train_on_prompt = true});
  CHECK(all.examples[0].tokens == data.examples[0].tokens);
  CHECK(target_count(all.examples[0]) == all.examples[0].tokens.size() - 1);

  // a question behind the last answer teaches nothing
  const Dataset waits =
      read(scratch, R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},)"
                    R"( {"role": "user", "content": "three"}]})");
  CHECK(learnt(waits.examples[0]) == "two$");
  CHECK(waits.counts.cut == 0);
}

TEST_CASE("long examples are cut and counted, and those whose answers are cut away are left out and counted") {
  const test::Scratch scratch;
  const std::string lines =
      R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},)"
      R"( {"role": "user", "content": "three"}, {"role": "assistant", "content": "four five six seven"}]})"
      "\n"
      R"({"text": "a"})"
      "\n"
      R"({"prompt": "words and words and words and words and words and more words of them", "completion": " end"})";
  const Example whole = read(scratch, lines).examples[0];
  REQUIRE(whole.answers.size() == 2);
  for (std::size_t size = 2; size <= whole.tokens.size() + 1; ++size) {
    CAPTURE(size);
    const Dataset data = read(scratch, lines, {.max_tokens = size});
    const bool first = size > whole.answers[0].begin;
    const bool second = size > whole.answers[1].begin;
    const bool third = size > 30;
    std::size_t kept = first ? std::min(size, whole.answers[0].end) : 0;
    if (second) kept = std::min(size, whole.tokens.size());
    CHECK(data.counts.dropped == (first ? 0u : 1u) + (data.examples.size() == (first ? 2u : 1u) ? 1u : 0u));
    if (third) CHECK(data.counts.dropped == 0);
    if (!first) continue;
    const Example& made = data.examples[0];
    CHECK(made.tokens.size() == kept);
    CHECK(std::equal(made.tokens.begin(), made.tokens.end(), whole.tokens.begin()));
    CHECK(learnt(made).find('|') == (second ? learnt(made).find('|') : std::string::npos));
    CHECK((made.answers.size() == 2) == second);
    if (kept < whole.tokens.size()) CHECK(data.counts.cut_tokens >= whole.tokens.size() - kept);
  }
  CHECK(read(scratch, lines).counts.cut == 0);
  CHECK(error_in(R"({"prompt": "a b c d e f g h", "completion": "i"})", {.max_tokens = 3}) ==
        "[dataset] F: expected at least one example, got none; of 1 the answer lies behind the first 3 tokens");
}

TEST_CASE("a line that holds no example is an error that names it, whatever it holds") {
  const std::string good = "{\"text\": \"a\"}\n";
  CHECK(error_in(good + "{\"text\": }\n").starts_with("[dataset] F:2: not valid JSON at byte 10"));
  CHECK(error_in(good + "\n\n[1]\n") == "[dataset] F:4: expected a JSON object, got an array");
  CHECK(error_in(R"({"instruction": "a"})") == "[dataset] F:1: field 'output' is missing");
  CHECK(error_in(R"({"instruction": "a", "output": ""})") ==
        "[dataset] F:1: field 'output': expected text, which is what there is to learn, got ''");
  CHECK(error_in(R"({"instruction": 3, "output": "x"})") ==
        "[dataset] F:1: field 'instruction': expected a string, got 3");
  CHECK(error_in(R"({"prompt": "a"})") == "[dataset] F:1: field 'completion' is missing");
  CHECK(error_in(R"({"completion": "a"})") == "[dataset] F:1: field 'prompt' is missing");
  CHECK(
      error_in(R"({"question": "a", "answer": "b"})") ==
      "[dataset] F:1: expected the fields messages, or instruction and output, or prompt and completion, or text, got "
      "answer, question");
  CHECK(error_in("{}").ends_with("or text, got none"));
  CHECK(error_in(R"({"messages": [{"role": "user", "content": "a"}]})") ==
        "[dataset] F:1: field 'messages': expected an answer: a message of the assistant, got an array");
  CHECK(error_in(R"({"messages": [{"role": "tool", "content": "a"}]})") ==
        "[dataset] F:1: messages[0]: role: expected 'system', 'user' or 'assistant', got 'tool'");
  CHECK(error_in(R"({"messages": [{"role": "user"}]})") == "[dataset] F:1: messages[0]: field 'content' is missing");
  CHECK(error_in(std::string(70, '[')).starts_with("[dataset] F:1: nested deeper than 64 levels"));
  CHECK(error_in("{\"text\": \"\xff\"}").starts_with("[dataset] F:1: not valid JSON at byte 11"));
  CHECK(error_in(std::string("{\"text\": \"a\0\"}", 14)).starts_with("[dataset] F:1: not valid JSON at byte 12"));
  CHECK(error_in(good + "{\"text\": \"" + std::string(200, 'a') + "\"}\n", {.max_line_bytes = 100}) ==
        "[dataset] F:2: expected a line of at most 100 bytes, got a longer one");
  CHECK(error_in("") == "[dataset] F: expected at least one example, got none");
  CHECK(error_in("\n \n") == "[dataset] F: expected at least one example, got none");
  CHECK(
      error_in("{}\n{}", {.skip_bad = true})
          .starts_with("[dataset] F: expected at least one example, got none; 2 lines are bad, the first: [dataset] "));
  CHECK(error_in(good, {.max_tokens = 1}) == "[dataset] max_tokens: expected at least 2, got 1");
  CHECK(error_in(good, {.chat_template = ChatTemplate::v3}).starts_with("[chat] template v3: expected a tokenizer"));
  const test::Scratch scratch;
  CHECK(error_of([&] { read_dataset(scratch.path("none"), tokenizer()); }) ==
        "[dataset] " + scratch.path("none") + ": cannot open: No such file or directory");
  CHECK(error_of([&] { read_dataset(scratch.path(""), tokenizer()); }) ==
        "[dataset] " + scratch.path("") + ": cannot read: Is a directory");
}

TEST_CASE("bad lines are skipped and counted where that is asked for, and the rest is read, in any pieces") {
  const test::Scratch scratch;
  std::string lines;
  std::size_t good = 0;
  for (std::size_t i = 0; i < 3000; ++i) {  // more than one buffer of the reader
    if (i % 7 == 3) {
      lines += i % 2 == 0 ? "{\"text\": 5}\n" : "{\"text\": \"" + std::string(3000, 'x') + "\"}\n";
    } else {
      lines += "{\"text\": \"number " + std::to_string(i) + "\"}\n";
      ++good;
    }
  }
  lines.pop_back();  // the last line has no newline
  const Dataset data = read(scratch, lines, {.skip_bad = true, .max_line_bytes = 2000});
  CHECK(data.counts.lines == 3000);
  CHECK(data.counts.bad == 3000 - good);
  CHECK(data.counts.first_bad.find("d.jsonl:4: expected a line of at most 2000 bytes") != std::string::npos);
  REQUIRE(data.examples.size() == good);
  CHECK(tokenizer().decode(data.examples.back().tokens) == "number 2998");
}

TEST_CASE("a split takes its fraction by the seed, and loses nothing") {
  std::vector<Example> examples;
  for (TokenId i = 0; i < 100; ++i) examples.push_back({{1, i}, 1, {}});
  const auto ids = [](const std::vector<Example>& list) {
    std::vector<TokenId> out;
    for (const Example& e : list) out.push_back(e.tokens[1]);
    return out;
  };
  const DatasetSplit split = split_dataset(examples, 0.1, 7);
  CHECK(split.validation.size() == 10);
  CHECK(split.train.size() == 90);
  std::vector<TokenId> all = ids(split.train);
  CHECK(std::is_sorted(all.begin(), all.end()));
  for (const TokenId id : ids(split.validation)) all.push_back(id);
  std::sort(all.begin(), all.end());
  CHECK(all == ids(examples));
  CHECK(ids(split_dataset(examples, 0.1, 7).validation) == ids(split.validation));
  CHECK(ids(split_dataset(examples, 0.1, 8).validation) != ids(split.validation));

  CHECK(split_dataset(examples, 0.0, 1).validation.empty());
  CHECK(split_dataset({examples[0], examples[1]}, 0.01, 1).validation.size() == 1);
  CHECK(split_dataset({examples[0], examples[1]}, 0.99, 1).train.size() == 1);
  CHECK(error_of([&] { split_dataset(examples, 1.0, 1); }).starts_with("[dataset] the fraction for validation"));
  CHECK(error_of([&] { split_dataset({examples[0]}, 0.5, 1); }) ==
        "[dataset] examples to split: expected at least two, got 1");
}

TEST_CASE("batches go through all examples each epoch, each time in another order, and any can be asked for") {
  Batches batches(10, 4, 5);
  CHECK(batches.per_epoch() == 3);
  std::vector<std::vector<std::size_t>> epochs;
  std::vector<std::vector<std::size_t>> seen;
  for (std::uint64_t n = 0; n < 9; ++n) {
    const auto batch = batches.at(n);
    CHECK(batch.size() == (n % 3 == 2 ? 2 : 4));
    seen.emplace_back(batch.begin(), batch.end());
    if (n % 3 == 0) epochs.emplace_back();
    epochs.back().insert(epochs.back().end(), batch.begin(), batch.end());
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
  for (auto& epoch : epochs) {
    std::sort(epoch.begin(), epoch.end());
    for (std::size_t i = 0; i < 10; ++i) CHECK(epoch[i] == i);
  }
  Batches again(10, 4, 5);
  for (const std::uint64_t n : {7u, 0u, 4u, 8u}) {
    const auto batch = again.at(n);
    CHECK(std::vector<std::size_t>(batch.begin(), batch.end()) == seen[n]);
  }
  CHECK(error_of([] { Batches(0, 4, 5); }) == "[fit] examples to learn from: expected at least one, got none");
  CHECK(error_of([] { Batches(3, 0, 5); }) == "[fit] batch x accumulation: expected at least one example, got none");
}
