// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/chat.hpp>
#include <mistral/generate/session.hpp>

#include "../../examples/tool/configs.hpp"
#include "../support/scratch.hpp"
#include "../text/model_builder.hpp"

using namespace mistral;

namespace {

using Model = Transformer<tool::breeze, F32>;
using Ids = std::vector<TokenId>;

const std::string folder = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

// The model's own tokenizer; for v3 with control pieces in place of its last two.
Tokenizer tokenizer_for(ChatTemplate chat_template) {
  const std::string file = test::file_content(folder + "/tokenizer.model");
  SentencePieceModel model = parse_sentencepiece_model(test::bytes_of(file), "breeze");
  if (chat_template == ChatTemplate::v3) {
    model.pieces[model.pieces.size() - 2] = {"[INST]", 0.0f, PieceType::control};
    model.pieces[model.pieces.size() - 1] = {"[/INST]", 0.0f, PieceType::control};
  }
  return Tokenizer(model, "breeze");
}

// Bans all but the pieces of whole words: texts of them are encoded as they were made, as those of a model that was
// taught to answer mostly are. Breeze wasn't, and begins its answers with a newline and no space in front of it.
struct OnlyWords {
  const Tokenizer& tokenizer;
  bool wanted;

  void logits(std::span<float> all) const {
    for (std::size_t i = 0; wanted && i < all.size(); ++i) {
      const std::string_view piece = tokenizer.piece(static_cast<TokenId>(i));
      if (!piece.starts_with("\xe2\x96\x81") || piece.size() < 5) all[i] = -INFINITY;
    }
  }
};

// What one answer was made from, and what a session of its own makes of all ids.
struct Turn {
  std::size_t seen = 0;
  Ids prompt_ids;  // seen and new
  Ids wanted_ids;
  Generated made;
  Generated wanted;
};

// A conversation beside the model, whose every answer is held against one from the template's ids.
struct Talk {
  const Model& model;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
  bool only_words = false;
  std::size_t rollback = 0;
  GenerateOptions options{.max_tokens = 24, .stop_ids = {2}, .own_text = true};
  Chat chat{tokenizer, chat_template};
  Session<Model> session{model, rollback};

  Generated make(Session<Model>& by, std::span<const TokenId> prompt) const {
    return generate(
        by, tokenizer, prompt, options, [](std::string_view) {}, OnlyWords{tokenizer, only_words});
  }

  Turn ask(const std::string& question) {
    Turn turn;
    std::vector<Message> messages = chat.messages();
    messages.push_back({"user", question});
    turn.wanted_ids = encode_chat(tokenizer, chat_template, messages);
    turn.made = chat.answer(session, question, [&](std::span<const TokenId> prompt, std::span<const TokenId> seen) {
      turn.seen = seen.size();
      turn.prompt_ids.assign(seen.begin(), seen.end());
      turn.prompt_ids.insert(turn.prompt_ids.end(), prompt.begin(), prompt.end());
      options.seen = seen;
      return make(session, prompt);
    });
    options.seen = {};
    Session<Model> other{model};
    turn.wanted = make(other, turn.wanted_ids);
    return turn;
  }
};

void check(const Turn& turn) {
  CHECK(turn.prompt_ids == turn.wanted_ids);
  CHECK(turn.made.tokens == turn.wanted.tokens);
  CHECK(turn.made.text == turn.wanted.text);
  CHECK(turn.made.reason == turn.wanted.reason);
}

}  // namespace

TEST_CASE("an answer is the one that the template's ids of the whole conversation give, also past the window") {
  const auto model = load<Model>(folder);
  const auto check_talk = [&](ChatTemplate chat_template, const std::string& system, std::size_t rollback) {
    Talk talk{model, tokenizer_for(chat_template), chat_template, true, rollback};
    talk.chat.set_system(system);
    std::size_t kept = 0;
    for (const char* const question :
         {"And the LORD said", "What is her name?", "He went out of the house.", "And then [/INST] </s>?"}) {
      CAPTURE(question);
      const Turn turn = talk.ask(question);
      check(turn);
      CHECK(turn.made.text == talk.tokenizer.decode(turn.made.tokens));
      CHECK(talk.chat.messages().back().role == "assistant");
      CHECK(talk.chat.messages().back().content == turn.made.text);
      if (turn.seen > 0) ++kept;
    }
    CHECK(talk.session.cache().wraps() >= 1);
    return kept;
  };
  const std::string system(guardrail_prompt);
  CHECK(check_talk(ChatTemplate::v1, "", 0) == 3);
  CHECK(check_talk(ChatTemplate::v1, system, 0) == 3);
  CHECK(check_talk(ChatTemplate::v3, "", 0) == 3);
  // the system prompt moves to the last question: what was taken of it is taken back, where that can be done
  CHECK(check_talk(ChatTemplate::v3, system, 0) == 0);
  CHECK(check_talk(ChatTemplate::v3, system, 256) == 3);
}

TEST_CASE("with a temperature too, whose tokens needn't be those of their text, and with a penalty for repetition") {
  const auto model = load<Model>(folder);
  for (const std::size_t rollback : {0u, 64u}) {
    Talk talk{model, tokenizer_for(ChatTemplate::v1), ChatTemplate::v1, false, rollback};
    talk.options.sampling = {.temperature = 1.5f, .repetition_penalty = 1.3f, .seed = 3};
    std::size_t kept = 0;
    for (int i = 0; i < 8; ++i) {
      const Turn turn = talk.ask("And he said");
      check(turn);
      if (turn.seen > 0) ++kept;
    }
    CHECK((rollback == 0 ? kept < 7 : kept == 7));  // else the test shows less than it says
  }
}

TEST_CASE("what changes a conversation behind a session's back is seen, and its next answer is right") {
  const auto model = load<Model>(folder);
  Talk talk{model, tokenizer_for(ChatTemplate::v1), ChatTemplate::v1};
  check(talk.ask("She was"));
  talk.chat.set_system("Be brief.");
  CHECK(talk.chat.system() == "Be brief.");
  check(talk.ask("He was"));
  const std::vector<Message> saved = talk.chat.messages();
  CHECK(saved.size() == 5);
  check(talk.ask("They were"));
  talk.chat.set_messages(saved);
  check(talk.ask("We were"));
  talk.session.clear();  // somebody else used it
  check(talk.ask("It was"));
  talk.chat.reset();
  CHECK(talk.chat.messages() == std::vector<Message>{{"system", "Be brief."}});
  check(talk.ask("I am"));
  talk.chat.set_system("");
  CHECK(talk.chat.messages().size() == 2);

  // a listener that throws: the question wasn't asked
  const std::vector<Message> before = talk.chat.messages();
  const auto listener = [](std::string_view) { throw std::runtime_error("no paper"); };
  CHECK_THROWS_WITH(talk.chat.answer(talk.session, "You are", talk.options, listener), "no paper");
  CHECK(talk.chat.messages() == before);
  check(talk.ask("You are"));

  // an answer of nothing is none, and the next question is joined to the one that it was for
  talk.options.max_tokens = 0;
  talk.ask("Nothing");
  CHECK(talk.chat.messages().back() == Message{"user", "Nothing"});
  talk.options.max_tokens = 24;
  check(talk.ask("More"));
}

TEST_CASE("a conversation that no question can follow is refused, and the one that was goes on") {
  const Tokenizer tokenizer = tokenizer_for(ChatTemplate::v1);
  Chat chat{tokenizer, ChatTemplate::v1};
  chat.set_messages({{"system", "Be brief."}, {"user", "Hi"}});
  const auto refused = [&](std::vector<Message> messages) {
    const std::vector<Message> before = chat.messages();
    const std::string error = test::error_of([&] { chat.set_messages(std::move(messages)); });
    CHECK(chat.messages() == before);
    return error;
  };
  CHECK(refused({{"user", "Hi"}, {"assistant", "Hi"}, {"system", "x"}}) ==
        "[chat] messages[2]: role: expected 'user' or 'assistant' after 'assistant', got 'system'");
  CHECK(refused({{"user", "Hi"}, {"robot", "Hi"}}) ==
        "[chat] messages[1]: role: expected 'system', 'user' or 'assistant', got 'robot'");
  CHECK(refused({{"user", "Hi"}, {"assistant", ""}}) ==
        "[chat] messages[1] of role 'assistant': content: expected text, got none");
  chat.set_messages({});
  CHECK(chat.messages().empty());
  CHECK(test::error_of([&] {
          Chat{tokenizer, ChatTemplate::v3};
        }) == "[chat] template v3: expected a tokenizer with the control piece [INST], got one without");
}

namespace {

constexpr ModelConfig short_context = [] {
  ModelConfig config = tool::breeze;
  config.window_size = 0;
  config.context_len = 200;
  return config;
}();
using ShortModel = Transformer<short_context, F32>;

std::string question_of(int i) { return "And the king said unto them, " + std::to_string(i); }

}  // namespace

TEST_CASE(
    "without a window the oldest turns make room, and all goes on in the bits of a conversation that began later") {
  const auto model = load<ShortModel>(folder, {.allow_different_window = true});
  const GenerateOptions options{.max_tokens = 12, .stop_ids = {2}, .own_text = true};
  for (const ChatTemplate chat_template : {ChatTemplate::v1, ChatTemplate::v3}) {
    const Tokenizer tokenizer = tokenizer_for(chat_template);
    Chat chat{tokenizer, chat_template};
    chat.set_system("Be brief.");
    Session<ShortModel> session{model};
    std::size_t shifts = 0, forgotten = 0;
    for (int i = 0; i < 30; ++i) {
      CAPTURE(i);
      const std::size_t turns = chat.make_room(question_of(i), short_context.context_len, options.max_tokens);
      if (turns > 0) ++shifts;
      forgotten += 2 * turns;
      CHECK(chat.forgotten() == forgotten);
      CHECK(chat.prompt_tokens(question_of(i)) + options.max_tokens <= short_context.context_len);
      if (turns > 0)
        CHECK(chat.prompt_tokens(question_of(i)) + options.max_tokens <= short_context.context_len * 3 / 4);
      CHECK(chat.make_room(question_of(i), short_context.context_len, options.max_tokens) == 0);

      // what is left, as a conversation of its own
      std::vector<Message> left = chat.messages();
      CHECK(left.size() == 1 + 2 * static_cast<std::size_t>(i));  // nothing is lost of what was said
      left.erase(left.begin() + 1, left.begin() + 1 + static_cast<std::ptrdiff_t>(forgotten));
      CHECK(left.front() == Message{"system", "Be brief."});
      Chat fresh{tokenizer, chat_template};
      fresh.set_messages(left);
      Session<ShortModel> other{model};
      const Generated wanted = fresh.answer(other, question_of(i), options, [](std::string_view) {});
      const Generated made = chat.answer(session, question_of(i), options, [](std::string_view) {});
      CHECK(made.tokens == wanted.tokens);
      CHECK(made.text == wanted.text);
      REQUIRE(!made.text.empty());
      CHECK(session.position() == other.position());
      // both go on with the same bits
      Session<ShortModel> one = session.fork(), two = other.fork();
      const auto a = one.decode(100), b = two.decode(100);
      CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    }
    CHECK(shifts > 1);
    CHECK(shifts < 15);  // a quarter of the context is free after each
    chat.reset();
    CHECK(chat.forgotten() == 0);
    chat.set_messages({{"user", "a"}, {"assistant", "b"}});
    CHECK(chat.forgotten() == 0);
  }
}

TEST_CASE("a question that is too long by itself is refused, and one that leaves no room for an answer is taken") {
  const Tokenizer tokenizer = tokenizer_for(ChatTemplate::v1);
  Chat chat{tokenizer, ChatTemplate::v1};
  std::string words = "word";
  while (chat.prompt_tokens(words) < 90) words += " and";
  const std::size_t tokens = chat.prompt_tokens(words);
  CHECK(chat.make_room(words, tokens, 50) == 0);
  CHECK(test::error_of([&] { chat.make_room(words, tokens - 1, 50); }) ==
        "[chat] the question: expected at most the " + std::to_string(tokens - 1) + " tokens of the context, got " +
            std::to_string(tokens));
  chat.set_messages({{"user", "one"}, {"assistant", "two"}, {"user", words}, {"assistant", "three"}});
  CHECK(chat.make_room(words, tokens, 50) == 2);
  CHECK(chat.prompt_tokens(words) == tokens);
  CHECK(chat.forgotten() == 4);
  chat.set_messages({{"user", words}, {"assistant", "two"}, {"user", "one"}, {"assistant", "three"}});
  CHECK(chat.make_room("four", tokens, 10) == 1);  // the last turn stays
  CHECK(chat.forgotten() == 2);
  chat.set_system("Be brief.");
  CHECK(test::error_of([&] {
          chat.make_room(words, tokens, 50);
        }).starts_with("[chat] the question and the system prompt: expected at most the "));
  CHECK(chat.forgotten() == 2);
}

TEST_CASE(
    "a text that is stopped in its prompt is an error that leaves all as it was, and later ends with what it has") {
  const auto model = load<Model>(folder);
  const Tokenizer tokenizer = tokenizer_for(ChatTemplate::v1);
  Ids prompt =
      tokenizer.encode("And it came to pass, that the king said unto them, Go ye up into the house of the LORD");
  prompt.insert(prompt.begin(), tokenizer.bos_id());
  REQUIRE(prompt.size() > 16);
  const GenerateOptions options{.max_tokens = 20};
  Session<Model> other{model};
  const Generated whole = generate(other, tokenizer, prompt, options);
  REQUIRE(whole.tokens.size() == 20);

  std::atomic<bool> flag = false;
  Session<Model> session{model};
  session.stop_with(flag);
  struct Stop {
    std::atomic<bool>& flag;
    void residual(const Residual& x) const { flag = flag || x.layer == 1; }
  };
  CHECK_THROWS_AS(generate(
                      session, tokenizer, prompt, options, [](std::string_view) {}, Stop{flag}),
                  Cancelled);
  CHECK(session.position() == 0);
  for (const std::size_t lookup : {0u, 4u}) {
    CAPTURE(lookup);
    flag = false;
    session.clear();
    std::string shown;
    GenerateOptions with = options;
    with.lookup = lookup;
    Session<Model> drafting{model, 8};
    drafting.stop_with(flag);
    const Generated part = generate(drafting, tokenizer, prompt, with, [&](std::string_view piece) {
      shown += piece;
      flag = shown.size() > 8;
    });
    CHECK(part.reason == StopReason::cancelled);
    CHECK(part.tokens.size() < whole.tokens.size());
    CHECK(std::equal(part.tokens.begin(), part.tokens.end(), whole.tokens.begin()));
    CHECK(part.text == shown);
    CHECK(whole.text.starts_with(part.text));
    // the last token was only chosen: given now, the text goes on as if nothing had been
    drafting.stop_with({});
    const TokenId last = part.tokens.back();
    const auto rest =
        generate(drafting, tokenizer, std::span(&last, 1), {.max_tokens = options.max_tokens - part.tokens.size()});
    CHECK(std::equal(rest.tokens.begin(), rest.tokens.end(), whole.tokens.end() - std::ssize(rest.tokens)));
  }

  // a conversation keeps what its session has, and asks again
  Chat chat{tokenizer, ChatTemplate::v1}, expected{tokenizer, ChatTemplate::v1};
  Session<Model> asked{model}, undisturbed{model};
  const auto quiet = [](std::string_view) {};
  chat.answer(asked, "And the LORD said", options, quiet);
  expected.answer(undisturbed, "And the LORD said", options, quiet);
  const auto messages = chat.messages();
  const std::int64_t position = asked.position();
  flag = true;
  asked.stop_with(flag);
  CHECK_THROWS_AS(chat.answer(asked, "What is her name?", options, quiet), Cancelled);
  CHECK(chat.messages() == messages);
  CHECK(asked.position() > 0);
  CHECK(asked.position() <= position);
  flag = false;
  const Generated answer = chat.answer(asked, "What is her name?", options, quiet);
  CHECK(answer.tokens == expected.answer(undisturbed, "What is her name?", options, quiet).tokens);
  CHECK(asked.position() == undisturbed.position());
}

namespace {

// The model's own tokenizer, with all control pieces of v3 in place of its last ones.
Tokenizer tools_tokenizer() {
  const std::string file = test::file_content(folder + "/tokenizer.model");
  SentencePieceModel model = parse_sentencepiece_model(test::bytes_of(file), "breeze");
  std::size_t at = model.pieces.size();
  for (const char* const piece : {"[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                                  "[TOOL_RESULTS]", "[/TOOL_RESULTS]"}) {
    model.pieces[--at] = {piece, 0.0f, PieceType::control};
  }
  return Tokenizer(model, "breeze");
}

// Leaves one token to choose at each step.
struct Says {
  Ids tokens;
  std::size_t next = 0;

  void logits(std::span<float> all) {
    if (next == tokens.size()) return;
    std::fill(all.begin(), all.end(), -INFINITY);
    all[static_cast<std::size_t>(tokens[next++])] = 0.0f;
  }
};

// What is shown of an answer as it comes, and the tokens of it.
struct Watcher {
  Ids* tokens;
  std::string* text;
  void token(TokenId id) const { tokens->push_back(id); }
  void operator()(std::string_view piece) const { *text += piece; }
};

}  // namespace

TEST_CASE("calls of an answer are in the conversation, and the model goes on behind their results") {
  const auto model = load<Model>(folder);
  const Tokenizer tokenizer = tools_tokenizer();
  Session<Model> session{model, 512};
  Chat chat{tokenizer, ChatTemplate::v3};
  const std::vector<Tool> tools{{"add", "Adds", R"({"type": "object"})"}};
  chat.set_tools(tools);
  CHECK(chat.tools() == tools);

  GenerateOptions options{.max_tokens = 240, .stop_ids = {tokenizer.eos_id()}, .own_text = true};
  Ids script, watched, given;
  std::string shown;
  const auto run = [&](std::span<const TokenId> prompt, std::span<const TokenId> seen) {
    given.assign(seen.begin(), seen.end());
    given.insert(given.end(), prompt.begin(), prompt.end());
    options.seen = seen;
    watched.clear();
    shown.clear();
    return generate(session, tokenizer, prompt, options, Watcher{&watched, &shown}, Says{script});
  };
  const auto say = [&](const std::string& calls) {
    script = tokenizer.encode(calls);
    script.insert(script.begin(), *tokenizer.find("[TOOL_CALLS]"));
    script.push_back(tokenizer.eos_id());
  };

  say(R"([{"name": "add", "arguments": {"a": 1}}, {"name": "add", "arguments": {"a": 2}, "id": "abcdef123"}])");
  const Message question{"user", "Add"};
  const Generated made = chat.answer(session, "Add", run);
  CHECK(watched == made.tokens);
  CHECK(shown == made.text);
  CHECK(made.reason == StopReason::stop_id);
  CHECK(chat.call_error() == "");
  REQUIRE(chat.messages().size() == 2);
  const Message called = chat.messages()[1];
  REQUIRE(called.tool_calls.size() == 2);
  CHECK(called.content == "");
  CHECK(called.tool_calls[0].arguments == R"({"a": 1})");
  CHECK(called.tool_calls[1].id == "abcdef123");
  CHECK(given == encode_chat(tokenizer, ChatTemplate::v3, ChatRequest{.messages = {question}, .tools = tools}));

  script.clear();
  options.max_tokens = 4;
  std::vector<Message> results;
  for (const ToolCall& call : called.tool_calls)
    results.push_back({.role = "tool", .content = "3", .tool_call_id = call.id});
  const std::vector<Message> all{question, called, results[0], results[1]};
  const Ids wanted = encode_chat(tokenizer, ChatTemplate::v3, ChatRequest{.messages = all, .tools = tools});
  CHECK(chat.prompt_tokens(results) == wanted.size());
  chat.answer(session, results, run);
  CHECK(given == wanted);
  CHECK(chat.messages().size() == 5);
  CHECK(chat.messages().back().role == "assistant");

  // what can't be read as calls is an answer of text, and that is said; the ids of calls go by the seed
  options.max_tokens = 240;
  say(R"([{"name": "add", )");
  chat.answer(session, "Again", run);
  CHECK(chat.call_error() == "the answer ends in the middle of its calls");
  CHECK(chat.messages().back().tool_calls.empty());
  CHECK(chat.messages().back().content == R"([{"name": "add", )");
  const auto id_by = [&](std::uint64_t seed) {
    chat.reset();
    session.clear();
    chat.set_call_seed(seed);
    say(R"([{"name": "add", "arguments": {}}])");
    chat.answer(session, "Add", run);
    return chat.messages().back().tool_calls.at(0).id;
  };
  CHECK(id_by(1) == id_by(1));
  CHECK(id_by(1) != id_by(2));

  // an answer that fails leaves the conversation as it was, results and all
  const std::vector<Message> before = chat.messages();
  const auto fails = [](std::span<const TokenId>, std::span<const TokenId>) -> Generated {
    throw std::runtime_error("no");
  };
  const std::vector<Message> result{{.role = "tool", .content = "3", .tool_call_id = before.back().tool_calls[0].id}};
  CHECK_THROWS_AS(chat.answer(session, result, fails), std::runtime_error);
  CHECK(chat.messages() == before);
  CHECK_THROWS_AS(chat.answer(session, std::vector<Message>{{.role = "tool", .content = "3"}}, run), Error);
  CHECK(chat.messages() == before);
}

TEST_CASE("tools that the template can't write down are refused, and the old ones stay") {
  Chat chat{tools_tokenizer(), ChatTemplate::v3};
  chat.set_tools({{"f"}});
  CHECK(test::error_of([&] { chat.set_tools({{"a b"}}); }) ==
        "[chat] tools[0]: name: expected 1 to 64 of a-z, A-Z, 0-9, _ and -, got 'a b'");
  CHECK(chat.tools() == std::vector<Tool>{{"f"}});
  Chat v1{tools_tokenizer(), ChatTemplate::v1};
  CHECK(test::error_of([&] { v1.set_tools({{"f"}}); }) ==
        "[chat] tools: expected none, for template v1 has no tools, got some");
}
