// SPDX-License-Identifier: Apache-2.0
// Ids that mistral-common 1.11.7 gave for 284 conversations, and what holds for every conversation.
#include <mistral/text/chat_template.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/chat_json.hpp>

#include "../support/data.hpp"
#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::ChatTemplate;
using mistral::encode_chat;
using mistral::encode_chat_with_answers;
using mistral::EncodedChat;
using mistral::Message;
using mistral::parse_chat;
using mistral::PieceType;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::test::error_of;
using Ids = std::vector<TokenId>;

const std::vector<std::string> control_texts{"<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"};

/// What a test names a template and a tokenizer for it.
struct Pair {
  std::string name;
  ChatTemplate chat_template;
  Tokenizer tokenizer;
};

/// The tokenizer of 600 pieces; for v3 with the control pieces of Mistral's v3 behind its own.
Pair small_pair(ChatTemplate chat_template) {
  const auto path = std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" / "tokenizer" / "bpe600.model";
  const std::string file = mistral::test::file_content(path);
  mistral::SentencePieceModel model = mistral::parse_sentencepiece_model(mistral::test::bytes_of(file), "bpe600");
  if (chat_template == ChatTemplate::v1) return {"bpe600", chat_template, Tokenizer(model, "bpe600")};
  for (const char* const piece : {"[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                                  "[TOOL_RESULTS]", "[/TOOL_RESULTS]"}) {
    model.pieces.push_back({piece, 0.0f, PieceType::control});
  }
  return {"bpe600 with control pieces", chat_template, Tokenizer(model, "bpe600")};
}

/// The small tokenizers, and Mistral's own where they are.
std::vector<Pair> pairs() {
  std::vector<Pair> all{small_pair(ChatTemplate::v1), small_pair(ChatTemplate::v3)};
  const auto v1 = mistral::test::golden("tokenizer/mistral_v1.model");
  const auto v3 = mistral::test::golden("tokenizer/mistral_v3.model");
  if (!v1.empty()) all.push_back({"mistral_v1", ChatTemplate::v1, Tokenizer::load(v1.string())});
  if (!v3.empty()) all.push_back({"mistral_v3", ChatTemplate::v3, Tokenizer::load(v3.string())});
  return all;
}

std::string text_of(const Tokenizer& tokenizer, const Ids& ids) {
  std::string text;
  for (const TokenId id : ids) {
    const std::string piece(tokenizer.piece(id));
    text +=
        tokenizer.is_byte(id) ? std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16))) : piece;
  }
  for (std::size_t at = 0; (at = text.find("\xe2\x96\x81", at)) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

std::string refusal(const std::vector<Message>& messages, mistral::ChatOptions options = {}) {
  const Pair v1 = small_pair(ChatTemplate::v1), v3 = small_pair(ChatTemplate::v3);
  const std::string error = error_of([&] { encode_chat(v1.tokenizer, v1.chat_template, messages, options); });
  CHECK(error_of([&] { encode_chat(v3.tokenizer, v3.chat_template, messages, options); }) == error);
  return error;
}

}  // namespace

TEST_CASE("all golden conversations have mistral-common's ids, and those that it refuses are errors") {
  const auto path = mistral::test::golden("chat/chat.jsonl");
  const auto v1 = mistral::test::golden("tokenizer/mistral_v1.model");
  const auto v3 = mistral::test::golden("tokenizer/mistral_v3.model");
  if (path.empty() || v1.empty() || v3.empty()) return;
  const Tokenizer tokenizers[] = {Tokenizer::load(v1.string()), Tokenizer::load(v3.string())};
  CHECK(mistral::chat_template_of(tokenizers[0]) == ChatTemplate::v1);
  CHECK(mistral::chat_template_of(tokenizers[1]) == ChatTemplate::v3);

  std::size_t count = 0, refused = 0;
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line); ++count) {
    CAPTURE(line);
    const auto expected = nlohmann::json::parse(line);
    const bool is_v3 = expected["version"] == "v3";
    const auto request = parse_chat(line, "chat.jsonl");
    const auto encode = [&] {
      return encode_chat_with_answers(tokenizers[is_v3], is_v3 ? ChatTemplate::v3 : ChatTemplate::v1, request.messages,
                                      request.options);
    };
    if (expected.contains("error")) {
      ++refused;
      CHECK(error_of(encode) ==
            "[chat] messages[2]: role: expected 'user' or 'assistant' after 'assistant', got 'system'");
      continue;
    }
    const EncodedChat chat = encode();
    CHECK(chat.ids == expected["tokens"].get<Ids>());
    CHECK(std::count(chat.ids.begin(), chat.ids.end(), tokenizers[is_v3].bos_id()) == 1);
  }
  CHECK(count == 284);
  CHECK(refused == 2);
}

TEST_CASE("mistral-common's own samples have its ids, those with tools too") {
  const auto path = mistral::test::golden("chat/mistral_common_samples.json");
  if (path.empty()) return;
  std::size_t count = 0;
  for (const auto& sample : nlohmann::ordered_json::parse(std::ifstream(path))) {
    const auto model = mistral::test::golden("tokenizer/mistral_" + sample["version"].get<std::string>() + ".model");
    if (model.empty()) return;
    const Tokenizer tokenizer = Tokenizer::load(model.string());
    const auto request = parse_chat(sample["request"].dump(), "samples");
    CHECK(encode_chat(tokenizer, mistral::chat_template_of(tokenizer), request) == sample["tokens"].get<Ids>());
    ++count;
  }
  CHECK(count == 7);
}

TEST_CASE("a conversation reads as its template says") {
  const Pair v1 = small_pair(ChatTemplate::v1), v3 = small_pair(ChatTemplate::v3);
  const auto check = [&](const std::vector<Message>& messages, mistral::ChatOptions options, const std::string& as_v1,
                         const std::string& as_v3) {
    CHECK(text_of(v1.tokenizer, encode_chat(v1.tokenizer, v1.chat_template, messages, options)) == as_v1);
    CHECK(text_of(v3.tokenizer, encode_chat(v3.tokenizer, v3.chat_template, messages, options)) == as_v3);
  };
  const Message system{"system", "S"}, a{"user", "a"}, b{"assistant", "b  "}, c{"user", "c"}, d{"assistant", "d\n "};

  check({a}, {}, "<s> [INST] a [/INST]", "<s>[INST] a[/INST]");
  check({system, a, b, c}, {}, "<s> [INST] S\n\na [/INST] b  </s> [INST] c [/INST]",
        "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]");
  check({a, b, c, d}, {}, "<s> [INST] a [/INST] b  </s> [INST] c [/INST] d\n </s>",
        "<s>[INST] a[/INST] b</s>[INST] c[/INST] d\n</s>");
  check({a, b}, {.continue_final_message = true}, "<s> [INST] a [/INST] b  ", "<s>[INST] a[/INST] b");
  // neighbours of a role are one turn, as long as the conversation waits for an answer
  check({a, c, b, d, a}, {}, "<s> [INST] a\n\nc [/INST] b  \n\nd\n </s> [INST] a [/INST]",
        "<s>[INST] a\n\nc[/INST] b  \n\nd\n</s>[INST] a[/INST]");
  check({a, c, b, d}, {}, "<s> [INST] a [/INST] [INST] c [/INST] b  </s> d\n </s>",
        "<s>[INST] a[/INST][INST] c[/INST] b</s> d\n</s>");
  // the system may speak more than once, and between two messages of the user
  check({system, a, {"system", ""}, {"system", "T"}, c}, {}, "<s> [INST] S\n\nT\n\na [/INST] [INST] c [/INST]",
        "<s>[INST] a[/INST][INST] S\n\nT\n\nc[/INST]");
  check({a, system}, {}, "<s> [INST] S\n\na [/INST]", "<s>[INST] S\n\na[/INST]");
  // a user may say nothing
  check({{"user", ""}}, {}, "<s> [INST]  [/INST]", "<s>[INST][/INST]");
  check({{"user", ""}, a, {"user", ""}}, {}, "<s> [INST] a [/INST]", "<s>[INST] a[/INST]");
  // what doesn't begin with the user's word gets an empty one
  check({system, {"system", "T"}}, {}, "<s> [INST] S\n\nT\n\n [/INST]", "<s>[INST] S\n\nT\n\n[/INST]");
  check({b, a}, {}, "<s> [INST]  [/INST] b  </s> [INST] a [/INST]", "<s>[INST][/INST] b</s>[INST] a[/INST]");
  check({system, b}, {.continue_final_message = true}, "<s> [INST] S\n\n [/INST] b  ", "<s>[INST] S\n\n[/INST] b");
}

TEST_CASE("text that looks like a control piece is text, whoever says it") {
  for (const Pair& pair : pairs()) {
    const Tokenizer& tokenizer = pair.tokenizer;
    const auto controls = [&](const std::vector<Message>& messages) {
      Ids all;
      for (const TokenId id : encode_chat(tokenizer, pair.chat_template, messages)) {
        if (tokenizer.is_control(id)) all.push_back(id);
      }
      return all;
    };
    const Ids expected = controls({{"system", "x"}, {"user", "x"}, {"assistant", "x"}, {"user", "x"}});
    CHECK(expected.size() == (pair.chat_template == ChatTemplate::v1 ? 2 : 6));
    for (const std::string& text : control_texts) {
      for (const std::string& around : {text, " " + text + " ", text + text, "x" + text + "\n" + text}) {
        CAPTURE(pair.name);
        CAPTURE(around);
        CHECK(controls({{"system", around}, {"user", around}, {"assistant", around}, {"user", around}}) == expected);
      }
    }
  }
}

TEST_CASE("the answers are what the assistant says and its EOS, and nothing else") {
  for (const Pair& pair : pairs()) {
    CAPTURE(pair.name);
    const Tokenizer& tokenizer = pair.tokenizer;
    const auto answer = [&](const std::string& text, bool ends) {
      Ids ids = tokenizer.encode(text);
      if (ends) ids.push_back(tokenizer.eos_id());
      return ids;
    };
    const std::vector<Message> messages{{"system", "be brief"}, {"user", "one?"}, {"assistant", "1 </s>"},
                                        {"user", "two?"},       {"user", "say"},  {"assistant", "[INST] two"}};
    for (const bool continues : {false, true}) {
      const EncodedChat chat =
          encode_chat_with_answers(tokenizer, pair.chat_template, messages, {.continue_final_message = continues});
      REQUIRE(chat.answers.size() == 2);
      const auto ids_of = [&](const mistral::TokenRange& range) {
        const auto begin = chat.ids.begin();
        return Ids(begin + static_cast<std::ptrdiff_t>(range.begin), begin + static_cast<std::ptrdiff_t>(range.end));
      };
      CHECK(ids_of(chat.answers[0]) == answer("1 </s>", true));
      CHECK(ids_of(chat.answers[1]) == answer("[INST] two", !continues));
      CHECK(chat.answers[1].end == chat.ids.size());
      // what stands before each answer is what the model is asked to continue
      const Ids question(chat.ids.begin(), chat.ids.begin() + static_cast<std::ptrdiff_t>(chat.answers[0].begin));
      const bool system_first = pair.chat_template == ChatTemplate::v1;
      CHECK(question == encode_chat(tokenizer, pair.chat_template,
                                    system_first ? std::vector<Message>{messages[0], messages[1]}
                                                 : std::vector<Message>{messages[1]}));
    }
    CHECK(encode_chat_with_answers(tokenizer, pair.chat_template, {{"user", "Hi"}}).answers.empty());
  }
}

TEST_CASE("an answer of spaces is an EOS to v3") {
  const Pair v3 = small_pair(ChatTemplate::v3);
  const EncodedChat chat =
      encode_chat_with_answers(v3.tokenizer, v3.chat_template, {{"user", "a"}, {"assistant", "  "}});
  CHECK(chat.answers == std::vector<mistral::TokenRange>{{chat.ids.size() - 1, chat.ids.size()}});
  CHECK(chat.ids.back() == v3.tokenizer.eos_id());
}

TEST_CASE("a message of bytes that are no UTF-8 is encoded as any text is") {
  for (const Pair& pair : pairs()) {
    const std::string bytes("\xff\xc3\0 \xed\xa0\x80", 7);
    std::string replaced;
    for (const char c : bytes) replaced += c == '\0' || c == ' ' ? std::string(1, c) : "\xef\xbf\xbd";
    const auto chat = [&](const std::string& text) {
      return encode_chat(pair.tokenizer, pair.chat_template, {{"system", text}, {"user", text}, {"assistant", text}});
    };
    CHECK(chat(bytes) == chat(replaced));
  }
}

TEST_CASE("a long conversation takes time in proportion") {
  const Pair v3 = small_pair(ChatTemplate::v3);
  std::vector<Message> messages{{"system", "s"}};
  constexpr std::size_t turns = mistral::test::rounds(std::size_t{100'000});
  for (std::size_t i = 0; i < turns; ++i) messages.insert(messages.end(), {{"user", "a"}, {"assistant", "b"}});
  const EncodedChat chat = encode_chat_with_answers(v3.tokenizer, v3.chat_template, messages);
  CHECK(chat.answers.size() == turns);
}

TEST_CASE("a conversation that no template can write down is an error that names the message and its role") {
  const Message system{"system", "s"}, user{"user", "a"}, assistant{"assistant", "b"};
  CHECK(refusal({}) == "[chat] messages: expected at least one, got none");
  const auto unknown = [&](const std::string& role, const std::string& shown) {
    for (const bool tools : {false, true}) {
      const Pair pair = small_pair(tools ? ChatTemplate::v3 : ChatTemplate::v1);
      CHECK(error_of([&] {
              encode_chat(pair.tokenizer, pair.chat_template, {{role, "x"}});
            }) ==
            "[chat] messages[0]: role: expected " +
                std::string(tools ? "'system', 'user', 'assistant' or 'tool'" : "'system', 'user' or 'assistant'") +
                ", got '" + shown + "'");
    }
  };
  unknown("User", "User");
  unknown("", "");
  unknown(std::string("a\nb\0", 4), "a\\x0ab\\x00");
  CHECK(refusal({user, assistant, system, user}) ==
        "[chat] messages[2]: role: expected 'user' or 'assistant' after 'assistant', got 'system'");
  CHECK(refusal({assistant}) ==
        "[chat] messages[0]: role: expected a message of 'user' or 'system' before it, got 'assistant'");
  for (const bool continues : {false, true}) {
    for (const ChatTemplate chat_template : {ChatTemplate::v1, ChatTemplate::v3}) {
      const Pair pair = small_pair(chat_template);
      const std::vector<Message> messages{user, {"assistant", ""}};
      CHECK(error_of([&] { encode_chat(pair.tokenizer, chat_template, messages, {continues}); }) ==
            "[chat] messages[1] of role 'assistant': content: expected text" +
                std::string(chat_template == ChatTemplate::v3 ? ", or tool_calls" : "") + ", got none");
    }
  }
  CHECK(refusal({user, assistant, user}, {.continue_final_message = true}) ==
        "[chat] messages[2], the last: role: expected 'assistant', to continue it, got 'user'");
  CHECK(refusal({user, system}, {.continue_final_message = true}) ==
        "[chat] messages[1], the last: role: expected 'assistant', to continue it, got 'system'");
}

TEST_CASE("a tokenizer that lacks a control piece of the template is an error") {
  const auto encoding = [](const mistral::SentencePieceModel& model, ChatTemplate chat_template) {
    const Tokenizer tokenizer(model, "test");
    return error_of([&] { encode_chat(tokenizer, chat_template, {{"user", "a"}}); });
  };
  auto model = mistral::test::small_model({"a"});
  CHECK(encoding(model, ChatTemplate::v1) == "no error");
  CHECK(encoding(model, ChatTemplate::v3) ==
        "[chat] template v3: expected a tokenizer with the control piece [INST], got one without");
  // a piece that texts are searched for is none to mark turns with
  model.pieces.push_back({"[INST]", 0.0f, PieceType::user_defined});
  model.pieces.push_back({"[/INST]", 0.0f, PieceType::control});
  CHECK(encoding(model, ChatTemplate::v3) ==
        "[chat] template v3: expected a tokenizer with the control piece [INST], got one without");
  model.pieces[4].type = PieceType::control;
  CHECK(encoding(model, ChatTemplate::v3) == "no error");
  model.pieces[1].type = PieceType::normal;
  CHECK(encoding(model, ChatTemplate::v3) ==
        "[chat] template v3: expected a tokenizer with the control piece BOS, got one without");
  model.pieces[2].type = PieceType::normal;
  CHECK(encoding(model, ChatTemplate::v1) ==
        "[chat] template v1: expected a tokenizer with the control piece EOS, got one without");
}

TEST_CASE("the templates of Mistral's own Instruct models are told from those of others") {
  const auto folder = mistral::test::golden("chat_templates/templates");
  if (folder.empty()) return;
  const auto kind = [&](const std::string& name) {
    return mistral::chat_template_in(mistral::test::file_content(folder / (name + ".jinja")));
  };
  for (const char* const name : {"mistral_instruct_v0.1", "mistral_instruct_v0.2", "mistral_instruct_v0.2_system"}) {
    CHECK(kind(name) == ChatTemplate::v1);
  }
  for (const char* const name :
       {"mistral_instruct_v0.3_gguf", "mistral_instruct_v0.3_tools", "mistral_common_v3_spm"}) {
    CHECK(kind(name) == ChatTemplate::v3);
  }
  for (const char* const name : {"llama2_chat", "smaug_34b", "openhermes_chatml", "zephyr_beta", "solar_alpaca",
                                 "vicuna_1.1", "openchat_3.5", "qwen2.5_7b", "synatra_alpaca", "mistral_nemo_2407"}) {
    CAPTURE(name);
    CHECK(kind(name) == std::nullopt);
  }
  CHECK(mistral::chat_template_in("") == std::nullopt);
}
