// SPDX-License-Identifier: Apache-2.0
// Data sets whose conversations a Jinja template writes down.
#include <mistral/train/dataset.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include <mistral/text/jinja_chat.hpp>

#include "../support/scratch.hpp"

namespace {

using mistral::Example;
using mistral::JinjaChat;
using mistral::Message;
using mistral::Tokenizer;

constexpr const char* turns =
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|> {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}";

}  // namespace

TEST_CASE("the loss covers a Jinja template's answers, behind the ids that generate would send") {
  const mistral::test::Scratch scratch;
  const auto path = std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" / "tokenizer" / "bpe600.model";
  const Tokenizer tokenizer = Tokenizer::load(path.string());
  const mistral::ChatFormat format = JinjaChat::format(turns, "turns");
  mistral::DatasetOptions options;
  options.chat_template = format;
  const std::string file = scratch.write(
      "d.jsonl",
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}, )"
      R"({"role": "user", "content": "</s>"}, {"role": "assistant", "content": "d"}]})"
      "\n");
  mistral::DatasetReader reader(file, tokenizer, options);
  const auto example = reader.next();
  REQUIRE(example.has_value());
  const std::vector<Message> asked{{"user", "a"}, {"assistant", "b"}, {"user", "</s>"}};
  const auto prompt = encode_chat(tokenizer, format, asked);
  REQUIRE(example->tokens.size() > prompt.size());
  CHECK(std::equal(prompt.begin(), prompt.end(), example->tokens.begin()));
  CHECK(example->tokens.back() == tokenizer.eos_id());
  CHECK(mistral::target_count(*example) == example->tokens.size() - prompt.size());
  CHECK(!reader.next().has_value());
}
