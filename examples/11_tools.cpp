// SPDX-License-Identifier: Apache-2.0
// Calls a function for the model, and gives it the result:  11_tools [CHECKPOINT], the folder of
// examples/own_model/breeze
//
// Mistral 7B Instruct v0.3 is trained for that: name its type and its folder, and leave out what is marked with
// (small). The small model that comes with the library isn't, and its tokenizer has no pieces to mark calls with: it
// borrows the places of seven letters, and a tape has it say a call that was written down beforehand. All else is what
// any model needs.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/io/json/json.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/model.hpp>

inline constexpr mistral::ModelConfig breeze{.dim = 128,
                                             .n_layers = 4,
                                             .head_dim = 32,
                                             .hidden_dim = 384,
                                             .n_heads = 4,
                                             .n_kv_heads = 2,
                                             .window_size = 64,
                                             .context_len = 1024,
                                             .vocab_size = 2048};
using Model = mistral::Transformer<breeze, mistral::F32>;

// (small) A tokenizer with the control pieces of Mistral's v3 in the places of its last pieces.
mistral::Tokenizer with_tool_pieces(const std::string& path) {
  mistral::SentencePieceModel model = mistral::read_sentencepiece_model(path);
  std::size_t place = model.pieces.size();
  for (const char* const piece : {"[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                                  "[TOOL_RESULTS]", "[/TOOL_RESULTS]"}) {
    model.pieces[--place] = {piece, 0.0f, mistral::PieceType::control};
  }
  return mistral::Tokenizer(model, path);
}

// (small) Leaves one token to choose at each step, those of a text that is given, and then all.
class Says {
 public:
  explicit Says(std::vector<mistral::TokenId> tokens) : tokens_(std::move(tokens)) {}

  void logits(std::span<float> logits) {
    if (next_ == tokens_.size()) return;
    std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
    logits[static_cast<std::size_t>(tokens_[next_++])] = 0.0f;
  }

 private:
  std::vector<mistral::TokenId> tokens_;
  std::size_t next_ = 0;
};

// Shows an answer as it comes: its text, and each call once it is complete.
class Printer {
 public:
  explicit Printer(const mistral::Tokenizer& tokenizer) : reader_(tokenizer) {}

  void token(mistral::TokenId token) {
    const mistral::AnswerPiece piece = reader_.feed(token);
    std::printf("%s", piece.text.c_str());
    for (const mistral::ToolCall& call : piece.calls)
      std::printf("%s(%s)\n", call.name.c_str(), call.arguments.c_str());
  }

  void operator()(std::string_view) {}  // what generate makes of the tokens, calls and all

 private:
  mistral::AnswerReader reader_;
};

// The function that the model may call. What goes wrong is for the model to know too.
std::string call_function(const mistral::ToolCall& call) try {
  if (call.name != "add") return R"({"error": "there is no such function"})";
  const auto arguments = mistral::JsonObject::parse(std::as_bytes(std::span(call.arguments)), "add", "arguments");
  mistral::JsonWriter result;
  result.begin_object().field("sum", arguments.number("a") + arguments.number("b")).end_object();
  return result.text();
} catch (const mistral::Error& error) {
  mistral::JsonWriter result;
  result.begin_object().field("error", error.what()).end_object();
  return result.text();
}

int main(int argc, char** argv) try {
  const std::string checkpoint = argc > 1 ? argv[1] : "examples/own_model/breeze";
  const Model model = mistral::load<Model>(checkpoint);
  const mistral::Tokenizer tokenizer = with_tool_pieces(checkpoint + "/tokenizer.model");

  mistral::Session<Model, float> session(model, 512);  // a turn can be taken back, though the window has wrapped
  mistral::Chat chat(tokenizer, mistral::ChatTemplate::v3);
  chat.set_tools({{"add", "Adds two numbers",
                   R"({"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                       "required": ["a", "b"]})"}});

  std::vector<mistral::TokenId> script = tokenizer.encode(R"([{"name": "add", "arguments": {"a": 17, "b": 25.5}}])");
  script.insert(script.begin(), *tokenizer.find("[TOOL_CALLS]"));
  script.push_back(tokenizer.eos_id());
  Says says(script);
  mistral::GenerateOptions options{.max_tokens = 96, .stop_ids = {tokenizer.eos_id()}, .own_text = true};
  const auto run = [&](std::span<const mistral::TokenId> prompt, std::span<const mistral::TokenId> seen) {
    options.seen = seen;
    return mistral::generate(session, tokenizer, prompt, options, Printer(tokenizer), says);
  };

  std::vector<mistral::Message> next{{"user", "What is 17 plus 25.5?"}};
  for (int turn = 0; turn < 4 && !next.empty(); ++turn) {
    chat.answer(session, std::exchange(next, {}), run);
    if (!chat.call_error().empty()) std::printf("\n(no call: %s)\n", chat.call_error().c_str());
    for (const mistral::ToolCall& call : chat.messages().back().tool_calls) {
      const std::string result = call_function(call);
      std::printf("gives %s\n", result.c_str());
      next.push_back({.role = "tool", .content = result, .tool_call_id = call.id, .name = call.name});
    }
    options.max_tokens = 16;
  }
  std::printf("\n");
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
