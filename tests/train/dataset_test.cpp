// SPDX-License-Identifier: Apache-2.0
// From JSONL to examples: what is learnt of each kind of object, what is cut, and what is refused.
#include <mistral/train/dataset.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
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
  CHECK(error_in(R"({"question": "a", "answer": "b"})") ==
        "[dataset] F:1: expected the fields messages, or conversations, or instruction and output, or prompt and "
        "completion, or text, got answer, question");
  CHECK(error_in("{}").ends_with("or text, got none"));
  CHECK(error_in(R"({"messages": [{"role": "user", "content": "a"}]})") ==
        "[dataset] F:1: field 'messages': expected an answer: a message of the assistant, got an array");
  CHECK(error_in(R"({"messages": [{"role": "tool", "content": "a"}]})") ==
        "[dataset] F:1: messages[0]: role: expected 'system', 'user' or 'assistant', got 'tool'");
  CHECK(error_in(R"({"messages": [{"role": "user"}]})") == "[dataset] F:1: messages[0]: field 'content' is missing");
  CHECK(error_in("{\"text\": " + std::string(70, '[')).starts_with("[dataset] F:1: nested deeper than 64 levels"));
  CHECK(error_in(std::string(70, '[')) ==
        "[dataset] F:1 (element 1): expected ] at the end of the array, got the end of the file");
  CHECK(error_in("[" + good + ",\n{\"text\": 5}]") ==
        "[dataset] F:3 (element 2): field 'text': expected a string, got 5");
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

TEST_CASE("a file that is one array gives the examples of its elements, and bad ones can be skipped") {
  const test::Scratch scratch;
  const std::string one = R"({"instruction": "greet", "input": "", "output": "hello"})";
  const std::string two = R"({"text": "some words, [and] \"more\""})";
  const Dataset lines = read(scratch, one + "\n" + two + "\n");
  for (const std::string& array :
       {"[" + one + "," + two + "]", "\xef\xbb\xbf[\r\n    " + one + ",\r\n    " + two + "\r\n]\r\n"}) {
    const Dataset data = read(scratch, array);
    REQUIRE(data.examples.size() == 2);
    CHECK(data.examples[0].tokens == lines.examples[0].tokens);
    CHECK(data.examples[1].tokens == lines.examples[1].tokens);
    CHECK(data.counts.lines == 2);
  }
  const Dataset some =
      read(scratch, "[" + one + ", 5, {\"text\": \"\"}, " + two + ", {\"text\": \"cut", {.skip_bad = true});
  CHECK(some.examples.size() == 2);
  CHECK(some.counts.bad == 3);
  CHECK(some.counts.first_bad.ends_with("d.jsonl:1 (element 2): expected a JSON object, got 5"));
}

TEST_CASE("conversations as ShareGPT has them, Alpaca's system and history, and parts of contents are messages") {
  const test::Scratch scratch;
  const auto ids = [&](const std::string& line) {
    const Dataset data = read(scratch, line);
    REQUIRE(data.examples.size() == 1);
    return data.examples[0];
  };
  const auto check = [&](const std::string& line, const std::vector<Message>& messages, const std::string& answers) {
    CAPTURE(line);
    const Example example = ids(line);
    CHECK(example.tokens == encode_chat(tokenizer(), ChatTemplate::v1, messages));
    CHECK(learnt(example) == answers);
  };
  const std::vector<Message> talk{
      {"system", "brief"}, {"user", "hi"}, {"assistant", "ho"}, {"user", "and"}, {"assistant", "so"}};
  check(R"({"id": "x", "conversations": [{"from": "system", "value": "brief"}, {"from": "human", "value": "hi"},)"
        R"({"from": "gpt", "value": "ho"}, {"from": "user", "value": "and"}, {"from": "assistant", "value": "so"}]})",
        talk, "ho$|so$");
  check(R"({"system": "brief", "tools": "[]", "conversations": [{"from": "human", "value": "hi"},)"
        R"({"from": "gpt", "value": [{"type": "text", "text": "ho"}]}, {"role": "user", "content": "and"},)"
        R"({"role": "assistant", "content": "so"}]})",
        talk, "ho$|so$");
  check(R"({"instruction": "and", "input": "", "output": "so", "system": "brief", "history": [["hi", "ho"]]})", talk,
        "ho$|so$");
  check(R"({"instruction": "and", "input": "1", "output": "so", "system": null, "history": []})",
        {{"user", "and\n\n1"}, {"assistant", "so"}}, "so$");
  check(R"({"system": "brief", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"},)"
        R"({"type": "text", "text": "you"}]}, {"role": "assistant", "content": "ho"}]})",
        {{"system", "brief"}, {"user", "hi\n\nyou"}, {"assistant", "ho"}}, "ho$");

  // an answer that isn't to be learnt stands there all the same
  check(R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "weight": 0},)"
        R"({"role": "user", "content": "and"}, {"role": "assistant", "content": "so", "weight": 1}]})",
        {{"user", "hi"}, {"assistant", "ho"}, {"user", "and"}, {"assistant", "so"}}, "so$");

  const std::string at = "[dataset] F:1: ";
  CHECK(error_in(R"({"conversations": [{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}]})") ==
        at + "conversations[1]: field 'from': expected 'human', 'gpt', 'system', 'user' or 'assistant', got "
             "'observation'");
  CHECK(error_in(R"({"conversations": [{"from": "gpt", "value": "a"}]})") ==
        at + "messages[0]: role: expected a message of 'user' or 'system' before it, got 'assistant'");
  CHECK(error_in(R"({"conversations": [{"from": "human", "value": "a"}]})") ==
        at + "field 'conversations': expected an answer: a message of the assistant, got an array");
  CHECK(error_in(R"({"tools": "[{}]", "conversations": []})") == at + "field 'tools': expected none, got '[{}]'");
  CHECK(error_in(R"({"instruction": "a", "output": "b", "history": [["a"]]})") ==
        at + "field 'history': expected pairs of a question and an answer, got an array");
  CHECK(error_in(R"({"system": "s", "prompt": "a", "completion": "b"})") ==
        at + "field 'system': expected none beside a text without a template (use messages, or instruction and "
             "output), got 's'");
  const std::string message =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b",)";
  CHECK(error_in(message + R"("weight": 0}]})") ==
        at + "field 'messages': expected an answer whose weight isn't 0, got an array");
  CHECK(error_in(message + R"("weight": 0.5}]})") ==
        at + "messages[1]: field 'weight': expected 0 (not to be learnt) or 1, got 0.5");
  CHECK(error_in(message +
                 R"("weight": 0}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]})") ==
        at + "field 'messages': expected one weight for answers that follow each other, got an array");
}

TEST_CASE("markup in the data is counted and stays text, or becomes control tokens where that is asked for") {
  const test::Scratch scratch;
  const std::string lines = R"({"text": "<s>[INST] hi [/INST] ho</s>"})"
                            "\n"
                            R"({"prompt": "a </s>", "completion": " b</s><|im_end|>"})"
                            "\n"
                            R"({"instruction": "[INST] hi <s>", "output": "ho</s>"})"
                            "\n"
                            R"({"text": "plain"})";
  const Dataset as_text = read(scratch, lines);
  using Counts = std::map<std::string, std::size_t>;
  CHECK(as_text.counts.with_markup == 3);
  // [INST] is text for the template too, which this text stands in for
  CHECK(as_text.counts.markup == Counts{{"<s>", 2}, {"</s>", 3}, {"<|im_end|>", 1}, {"[INST]", 1}});
  const auto control = [&](const Example& example) {
    std::string found;
    for (const TokenId id : example.tokens) {
      if (tokenizer().is_control(id)) found += tokenizer().piece(id);
    }
    return found;
  };
  for (const Example& example : as_text.examples) CHECK(control(example) == "<s></s>");
  CHECK(tokenizer().decode(as_text.examples[0].tokens) == "<s>[INST] hi [/INST] ho</s>");

  const Dataset special = read(scratch, lines, {.parse_special = true});
  CHECK(special.counts.markup == Counts{{"<|im_end|>", 1}, {"[INST]", 1}});
  CHECK(special.counts.with_markup == 2);
  REQUIRE(special.examples.size() == 4);
  CHECK(control(special.examples[0]) == "<s></s>");  // neither twice
  CHECK(special.examples[0].tokens == tokenizer().encode("<s>[INST] hi [/INST] ho</s>", {.parse_special = true}));
  CHECK(control(special.examples[1]) == "<s></s></s></s>");
  CHECK(learnt(special.examples[1]) == "b <|im_end|>$");  // a text of its own behind a control token
  CHECK(control(special.examples[2]) == "<s><s></s>");
  CHECK(learnt(special.examples[2]) == "ho$");
  CHECK(special.examples[3].tokens == as_text.examples[3].tokens);
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
