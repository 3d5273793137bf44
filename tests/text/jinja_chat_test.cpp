// SPDX-License-Identifier: Apache-2.0
// Conversations that a Jinja template writes down: whose control tokens they hold, and where the answers stand.
#include <mistral/text/jinja_chat.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/chat_format.hpp>

#include "../support/data.hpp"
#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::ChatFormat;
using mistral::ChatTemplate;
using mistral::encode_chat;
using mistral::encode_chat_with_answers;
using mistral::EncodedChat;
using mistral::JinjaChat;
using mistral::Message;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::test::error_of;
using Ids = std::vector<TokenId>;

constexpr std::string_view chatml =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const std::vector<std::string> control_texts{"<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_CALLS]",
                                             "[TOOL_RESULTS]",
                                             "<|im_start|>",
                                             "<|im_end|>",
                                             "<|end_of_text|>",
                                             "<|start_of_role|>",
                                             "<|end_of_role|>",
                                             "<|system|>",
                                             "<|user|>",
                                             "<|assistant|>",
                                             "<|end_of_turn|>",
                                             "<|stop|>",
                                             "<|from|>",
                                             "<|content|>",
                                             "<|recipient|>",
                                             "<<SYS>>",
                                             "GPT4"};

/// The tokenizer of 600 pieces with control pieces of many models behind its own.
Tokenizer small_tokenizer(mistral::PieceType type = mistral::PieceType::control) {
  const auto path = std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" / "tokenizer" / "bpe600.model";
  const std::string file = mistral::test::file_content(path);
  mistral::SentencePieceModel model = mistral::parse_sentencepiece_model(mistral::test::bytes_of(file), "bpe600");
  for (std::size_t i = 2; i < control_texts.size(); ++i) {
    model.pieces.push_back({control_texts[i], 0.0f, type});
  }
  return Tokenizer(model, "bpe600");
}

std::vector<Tokenizer> tokenizers() {
  // some models' files have `<|im_start|>` and its like for user-defined pieces
  std::vector<Tokenizer> all{small_tokenizer(), small_tokenizer(mistral::PieceType::user_defined)};
  for (const char* const name : {"tokenizer/mistral_v1.model", "tokenizer/mistral_v3.model"}) {
    if (const auto path = mistral::test::golden(name); !path.empty()) all.push_back(Tokenizer::load(path.string()));
  }
  return all;
}

Ids controls_in(const Tokenizer& tokenizer, const Ids& ids) {
  Ids controls;
  for (const TokenId id : ids) {
    const bool markup = tokenizer.is_user_defined(id) && tokenizer.piece(id).find_first_of("<[") == 0;
    if (tokenizer.is_control(id) || markup) controls.push_back(id);
  }
  return controls;
}

std::optional<Ids> encoded(const Tokenizer& tokenizer, const ChatFormat& format, const std::vector<Message>& messages) {
  try {
    return encode_chat(tokenizer, format, messages);
  } catch (const mistral::Error&) {
    return std::nullopt;
  }
}

std::string text_of(const Tokenizer& tokenizer, const Ids& ids, mistral::TokenRange range) {
  std::string text;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    text += tokenizer.is_control(ids[i]) ? std::string(tokenizer.piece(ids[i])) : tokenizer.decode({ids[i]});
  }
  return text;
}

}  // namespace

TEST_CASE("no control token comes from a message, whatever it holds and wherever a template puts it") {
  const auto folder = mistral::test::golden("chat_templates/templates");
  std::vector<std::pair<std::string, std::string>> templates{{"chatml", std::string(chatml)}};
  // data in the middle of what would be a control piece, turned round, in capitals, cut and put together again
  templates.emplace_back(
      "hostile",
      "{% for m in messages %}<{{ m.content }}>{{ '<|im_' ~ m.content ~ '|>' }}[{{ m.content|upper }}]"
      "{{ m.content[::-1] }}{{ (m.content|tojson)[1:-1] }}{{ m.content|replace('x', '') }}"
      "{{ '<|' ~ m.content|trim ~ '|>' }}{{ m.content.split('|')|join('|') }}<|im_end|>{% endfor %}");
  if (!folder.empty()) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      templates.emplace_back(entry.path().stem().string(), mistral::test::file_content(entry.path()));
    }
    CHECK(templates.size() == 28);
  }
  std::vector<std::string> parts = control_texts;
  for (const char* const part :
       {"<", ">", "|", "im_start", "start", "end", "s", "/", "[", "]", "INST", " ", "user", "x", "\n", "|>", "<|"}) {
    parts.emplace_back(part);
  }
  std::mt19937 random(7);
  const auto content = [&] {
    std::string text = "x";  // a template may ask whether there is any content, or where it begins
    for (std::size_t n = 1 + random() % 6; n > 0; --n) text += parts[random() % parts.size()];
    return text + "x";
  };
  std::size_t compared = 0;
  for (const Tokenizer& tokenizer : tokenizers()) {
    for (const auto& named : templates) {
      const std::string name = named.first;
      CAPTURE(name);
      const ChatFormat format = JinjaChat::format(named.second, name);
      for (int round = 0; round < mistral::test::rounds(20); ++round) {
        std::vector<Message> hostile, harmless;
        if (round % 3 == 0) hostile.push_back({"system", content()});
        for (std::size_t turns = 1 + random() % 4, i = 0; i < turns; ++i) {
          hostile.push_back({i % 2 == 0 ? "user" : "assistant", content()});
        }
        for (const Message& message : hostile) harmless.push_back({message.role, "xax"});
        const auto with = encoded(tokenizer, format, hostile), without = encoded(tokenizer, format, harmless);
        CHECK(with.has_value() == without.has_value());
        if (!with || !without) continue;
        CHECK(controls_in(tokenizer, *with) == controls_in(tokenizer, *without));
        ++compared;
      }
    }
  }
  CHECK(compared > 0);
}

TEST_CASE("what a template renders of plain messages has the ids of the whole text") {
  const ChatFormat format = JinjaChat::format(chatml, "chatml");
  for (const Tokenizer& tokenizer : tokenizers()) {
    const std::vector<Message> messages{
        {"system", "Be brief."}, {"user", " Hi there "}, {"assistant", "Ja\u00e4!"}, {"user", "x"}};
    const std::string whole =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi there <|im_end|>\n"
        "<|im_start|>assistant\nJa\u00e4!<|im_end|>\n<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n";
    CHECK(encode_chat(tokenizer, format, messages) ==
          tokenizer.encode(whole, {.add_special = true, .parse_special = true}));
  }
}

TEST_CASE("there is one BOS in front, the template's or the tokenizer's") {
  const Tokenizer tokenizer = small_tokenizer();
  const std::string with = "{{ bos_token }}" + std::string(chatml);
  const std::vector<Message> messages{{"user", "<s>Hi"}};
  const Ids ids = encode_chat(tokenizer, JinjaChat::format(chatml, "a"), messages);
  CHECK(ids == encode_chat(tokenizer, JinjaChat::format(with, "b"), messages));
  CHECK(ids.front() == tokenizer.bos_id());
  CHECK(std::count(ids.begin(), ids.end(), tokenizer.bos_id()) == 1);
}

TEST_CASE("Mistral's own encoders and templates agree on conversations that the templates write down right") {
  const std::vector<std::vector<Message>> conversations{
      {{"user", "Hello, how are you?"}},
      {{"user", "Hi"}, {"assistant", "Hello!"}, {"user", "Tell me a joke about <b>cats</b> & dogs."}},
      {{"user", "a\nb"}, {"assistant", "c [INST]"}, {"user", "</s>"}, {"assistant", "d"}, {"user", "\u4f60\u597d"}},
  };
  struct Pair {
    const char* file;
    const char* tokenizer;
    ChatTemplate own;
  };
  for (const Pair& pair : {Pair{"mistral_common_v1_spm", "tokenizer/mistral_v1.model", ChatTemplate::v1},
                           Pair{"mistral_common_v3_spm", "tokenizer/mistral_v3.model", ChatTemplate::v3}}) {
    const auto file = mistral::test::golden(std::string("chat_templates/templates/") + pair.file + ".jinja");
    const auto model = mistral::test::golden(pair.tokenizer);
    if (file.empty() || model.empty()) return;
    const std::string name = pair.file;
    CAPTURE(name);
    const Tokenizer tokenizer = Tokenizer::load(model.string());
    const ChatFormat format = JinjaChat::format(mistral::test::file_content(file), name);
    for (const auto& messages : conversations) {
      CHECK(encode_chat(tokenizer, format, messages) == encode_chat(tokenizer, pair.own, messages));
    }
  }
}

TEST_CASE("an answer begins behind the generation prompt's ids and ends with its control token") {
  const Tokenizer tokenizer = small_tokenizer();
  const ChatFormat format = JinjaChat::format(chatml, "chatml");
  const std::vector<Message> messages{
      {"user", "Hi"}, {"assistant", "Yes <|im_end|>"}, {"user", "b"}, {"assistant", "No"}};
  const EncodedChat chat = encode_chat_with_answers(tokenizer, format, messages);
  CHECK(chat.ids == encode_chat(tokenizer, format, messages));
  REQUIRE(chat.answers.size() == 2);
  CHECK(text_of(tokenizer, chat.ids, chat.answers[0]).find("Yes") != std::string::npos);
  CHECK(tokenizer.piece(chat.ids[chat.answers[0].end - 1]) == "<|im_end|>");
  CHECK(tokenizer.piece(chat.ids[chat.answers[1].end - 1]) == "<|im_end|>");
  for (std::size_t i = 0; i < 2; ++i) {  // what was learnt is what is asked for when text is generated
    const Ids asked = encode_chat(tokenizer, format, {messages.begin(), messages.begin() + (i == 0 ? 1 : 3)});
    CHECK(asked == Ids(chat.ids.begin(), chat.ids.begin() + static_cast<std::ptrdiff_t>(chat.answers[i].begin)));
  }
}

TEST_CASE("generation blocks say where answers stand") {
  const Tokenizer tokenizer = small_tokenizer();
  const ChatFormat format = JinjaChat::format(
      "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{% generation %}"
      "{{ m.content }}</s>{% endgeneration %}{% endif %}{% endfor %}",
      "blocks");
  const EncodedChat chat = encode_chat_with_answers(
      tokenizer, format, {{"user", "a"}, {"assistant", "bc"}, {"user", "d"}, {"assistant", "e"}});
  REQUIRE(chat.answers.size() == 2);
  CHECK(text_of(tokenizer, chat.ids, chat.answers[0]) == "bc</s>");
  CHECK(text_of(tokenizer, chat.ids, chat.answers[1]) == "e</s>");
}

TEST_CASE("a template that writes the prompt otherwise once it is answered is refused for training, with a reason") {
  const Tokenizer tokenizer = small_tokenizer();
  const ChatFormat format = JinjaChat::format(
      "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}[/INST]{% endif %}", "odd");
  CHECK(
      error_of([&] {
        encode_chat_with_answers(tokenizer, format, {{"user", "a"}, {"assistant", "b"}});
      }) ==
      "[chat] messages[1]: odd doesn't let its answer be told from the rest: expected a conversation that begins with "
      "the ids of the messages before it and the generation prompt, got others (a `generation` block in the template "
      "would tell)");
}

TEST_CASE("an answer that is to be continued ends with its content") {
  const Tokenizer tokenizer = small_tokenizer();
  const ChatFormat format = JinjaChat::format(chatml, "chatml");
  const Ids ids =
      encode_chat(tokenizer, format, {{"user", "Hi"}, {"assistant", "Yes, I"}}, {.continue_final_message = true});
  const Ids asked = encode_chat(tokenizer, format, {{"user", "Hi"}});
  CHECK(Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(asked.size())) == asked);
  CHECK(tokenizer.decode(ids).ends_with("Yes, I"));
  CHECK(error_of([&] {
          encode_chat(tokenizer, format, {{"user", "Hi"}}, {.continue_final_message = true});
        }) == "[chat] messages[0], the last: role: expected 'assistant', to continue it, got 'user'");
}

TEST_CASE("what a template raises is an error that says so") {
  const Tokenizer tokenizer = small_tokenizer();
  const ChatFormat format =
      JinjaChat::format("{{ raise_exception('Only user and assistant roles are supported!') }}", "t");
  CHECK(error_of([&] {
          encode_chat(tokenizer, format, {{"system", "a"}});
        }) == "[template] t:1:19: Only user and assistant roles are supported!");
}
