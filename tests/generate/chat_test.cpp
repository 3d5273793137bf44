#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/chat.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/io/load.hpp>

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
  CHECK(refused({{"assistant", "Hi"}}) ==
        "[chat] messages[0]: role: expected a message of 'user' before the first of 'assistant', got 'assistant'");
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
