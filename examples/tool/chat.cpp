// SPDX-License-Identifier: Apache-2.0
// mistral chat: a conversation, a line of standard input after the other.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/utf8.hpp>
#include <mistral/generate/chat.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/text/chat_json.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "endings.hpp"
#include "generation.hpp"
#include "load.hpp"
#include "model_files.hpp"

namespace mistral::tool {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view help =
    "/reset          forget what was said, but for the system prompt\n"
    "/system [TEXT]  another system prompt from here on, or none\n"
    "/save FILE      save the conversation, as a line that mistral tokenize --chat reads\n"
    "/load FILE      go on from one that was saved\n"
    "/help           say this\n"
    "/exit           end, as the end of the input does\n"
    "A line that ends in \\ goes on in the next. A message that begins with / is written with two.\n";

volatile std::sig_atomic_t interrupted = 0;

// While it lives, Ctrl-C ends the answer rather than the program, and a second one the program.
class InterruptsAnswer {
 public:
  explicit InterruptsAnswer(bool wanted) : wanted_(wanted) {
    interrupted = 0;
    if (!wanted_) return;
    std::signal(SIGINT, [](int) {
      interrupted = 1;
      std::signal(SIGINT, end_by);  // a second one doesn't wait for the next token
    });
  }
  InterruptsAnswer(const InterruptsAnswer&) = delete;
  InterruptsAnswer& operator=(const InterruptsAnswer&) = delete;
  ~InterruptsAnswer() {
    if (wanted_) std::signal(SIGINT, end_by);
  }

 private:
  bool wanted_;
};

// With U+FFFD for bytes that belong to no character, which no JSON could save.
std::string well_formed(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = detail::utf8_character(text);
    out += length > 0 ? text.substr(0, length) : detail::replacement_character;
    text.remove_prefix(length > 0 ? length : 1);
  }
  return out;
}

// A line as it was meant: without the CR of a CR LF, and without the byte order mark of a file's first.
std::string_view line_in(std::string_view line, bool first) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (first && line.starts_with(byte_order_mark)) line.remove_prefix(byte_order_mark.size());
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// The next message or command: a line, and those behind it that it goes on in.
std::optional<std::string> read_message(bool first) {
  std::string message;
  for (std::string line; read_line(line); first = false) {
    message += line_in(line, first);
    if (message.size() > max_prompt_bytes) {
      throw Error("chat", "standard input", "a message of at most 16 MiB", "a longer one");
    }
    if (!message.ends_with('\\')) return message;
    message.back() = '\n';
  }
  if (message.empty()) return std::nullopt;
  return message;
}

class Talk {
 public:
  Talk(const ChatArguments& arguments, const ModelInfo& info, Tokenizer tokenizer)
      : arguments_(arguments),
        info_(info),
        tokenizer_(std::move(tokenizer)),
        chat_(tokenizer_, chat_format(arguments.chat_template, tokenizer_)) {
    options_.sampling = arguments.sampling;
    options_.sampling.seed = arguments.seed ? *arguments.seed : random_seed();
    options_.max_tokens = arguments.max_tokens;
    options_.own_text = true;
    options_.stop_ids.assign(tokenizer_.eos_ids().begin(), tokenizer_.eos_ids().end());
    options_.stop_ids.insert(options_.stop_ids.end(), arguments.stop_ids.begin(), arguments.stop_ids.end());
    set_system(well_formed(arguments.system));
    if (!arguments.load.empty()) load(arguments.load);
  }

  // Until the input ends. What goes wrong ends it only where nobody is there to be told.
  void run(AnySession& session) {
    if (at_terminal_) note("Ctrl-C ends an answer, /help says what else there is.\n");
    std::size_t blank = 0;  // messages in a row, which nobody types for ever
    for (bool first = true;; first = false) {
      if (at_terminal_) note("> ");
      const std::optional<std::string> message = read_message(first);
      if (!message) break;
      blank = message->find_first_not_of(" \t\r\n") == std::string::npos ? blank + 1 : 0;
      if (blank == 1'000'000) throw Error("chat", "standard input", "a message within 1000000 lines", "none");
      try {
        if (!take(session, well_formed(*message))) return;
      } catch (const Error& error) {
        if (!at_terminal_) throw;
        note("mistral: error: " + printable(error.what(), 4000) + "\n");
      }
    }
    if (at_terminal_) note("\n");
  }

 private:
  // false where the conversation is to end
  bool take(AnySession& session, std::string message) {
    if (message.find_first_not_of(" \t\r\n") == std::string::npos) return true;
    if (message.starts_with("//")) {
      message.erase(0, 1);
    } else if (message.starts_with('/')) {
      return obey(message);
    }
    answer(session, std::move(message));
    return true;
  }

  bool obey(const std::string& line) {
    std::string name = line.substr(0, line.find_first_of(" \t"));
    const std::size_t name_end = name.size();
    const std::size_t begin = line.find_first_not_of(" \t", name_end);
    const std::string rest = begin == std::string::npos ? "" : line.substr(begin);
    // what other programs call them
    if (name == "/quit" || name == "/bye") name = "/exit";
    if (name == "/clear") name = "/reset";
    if (name == "/?") name = "/help";
    const auto file = [&]() -> const std::string& {
      if (rest.empty()) throw Error("chat", name, "a file", "none");
      if (rest == "-") throw Error("chat", name, "a file, for messages come and go by standard input and output", "-");
      return rest;
    };
    if (name == "/exit") return false;
    if (name == "/reset") {
      chat_.reset();
    } else if (name == "/system") {
      set_system(rest);
    } else if (name == "/save") {
      save(file());
    } else if (name == "/load") {
      load(file());
    } else if (name == "/help") {
      note(help);
    } else {
      throw Error("chat", "the command", "/reset, /system, /save, /load, /help or /exit", printable(name, 40));
    }
    return true;
  }

  void set_system(std::string text) {
    if (!arguments_.guardrail || text.starts_with(guardrail_prompt)) return chat_.set_system(std::move(text));
    std::string guarded(guardrail_prompt);
    detail::append_paragraph(guarded, text);
    chat_.set_system(std::move(guarded));
  }

  void save(const std::string& path) const {
    const std::string reason = why_not_output(path, sources_of(arguments_.model));
    if (!reason.empty()) throw Error("chat", printable(path, 900) + ": cannot save: " + reason);
    AtomicFile file(path, "chat");
    file.write(with_escapes(chat_json({.messages = chat_.messages()})) + "\n");
    file.commit();
  }

  void load(const std::string& path) {
    ChatRequest request = parse_chat(read_all(path, "chat"), printable(path, 900));
    if (request.options.continue_final_message) {
      throw Error("chat", printable(path, 900) + ": field 'continue_final_message'", "false", "true");
    }
    if (!request.tools.empty()) {
      throw Error("chat",
                  printable(path, 900) + ": field 'tools' (mistral generate --chat answers a request with tools)",
                  "none", "some");
    }
    chat_.set_messages(std::move(request.messages));
    if (arguments_.guardrail) set_system(chat_.system());
  }

  // Without a window: has the question fit into the context, or says what can be done. Returns how many turns the model
  // isn't shown any more.
  std::size_t make_room(const std::string& question) {
    if (info_.config.window_size != 0) return 0;
    const std::size_t context = info_.config.context_len;
    if (arguments_.context_shift) {
      const std::size_t turns = chat_.make_room(question, context, arguments_.max_tokens);
      if (turns > 0) {
        note("mistral: the context of " + std::to_string(context) + " tokens is full: the oldest " +
             (turns == 1 ? "turn is" : std::to_string(turns) + " turns are") + " left out from here on" +
             (chat_.system().empty() ? "\n" : ", the system prompt stays\n"));
      }
      return turns;
    }
    const std::size_t tokens = chat_.prompt_tokens(question);
    if (tokens <= context) return 0;
    Chat alone = chat_;
    alone.reset();
    alone.make_room(question, context, 0);  // throws for a question that no reset would help
    throw Error("chat", "begin anew by /reset, or start with --context-shift, which leaves out the oldest turns",
                "a conversation of at most the " + std::to_string(context) +
                    " tokens of the context of a model without a window",
                std::to_string(tokens));
  }

  void answer(AnySession& session, std::string question) {
    const std::size_t left_out = make_room(question);
    const InterruptsAnswer interrupts(at_terminal_);
    const auto on_text = [&](std::string_view text) {
      if (!arguments_.json) print(text);
      return interrupted == 0;
    };
    nlohmann::ordered_json json;
    std::size_t prompt_tokens = 0;
    const Clock::time_point begin = Clock::now();
    std::optional<Clock::time_point> prefilled;
    const auto on_logits = [&](std::span<float>) {
      if (!prefilled) prefilled = Clock::now();
    };
    const auto run = [&](std::span<const TokenId> prompt, std::span<const TokenId> seen) {
      prompt_tokens = prompt.size();
      json = {{"seen", seen.size()}, {"prompt_tokens", std::vector<TokenId>(prompt.begin(), prompt.end())}};
      options_.seen = seen;
      if (arguments_.settings) {
        options_.max_tokens = arguments_.settings->max_tokens(seen.size() + prompt.size(), arguments_.max_tokens);
      }
      return generate(session, tokenizer_, prompt, options_, on_text, LogitsHook{on_logits});
    };
    const Generated made = chat_.answer(session, std::move(question), run);
    ++options_.sampling.seed;  // each answer has random numbers of its own
    json["tokens"] = made.tokens;
    json["text"] = made.text;
    json["stop_reason"] = name_of(made.reason);
    json["position"] = session.position();
    if (arguments_.context_shift) json["left_out_turns"] = left_out;
    print(arguments_.json ? json_text(json) : "\n");
    if (arguments_.verbose) {
      note(described(prompt_tokens, made, begin, prefilled.value_or(begin), session.position()));
    } else if (at_terminal_ && made.reason != StopReason::stop_id) {
      const bool full = made.reason == StopReason::context && !arguments_.context_shift;
      note(std::string("(ended by: ") + name_of(made.reason) +
           (full ? "; /reset begins anew, --context-shift leaves out the oldest turns)\n" : ")\n"));
    }
  }

  static std::string described(std::size_t prompt_tokens, const Generated& made, Clock::time_point begin,
                               Clock::time_point prefilled, std::int64_t position) {
    const std::chrono::duration<double> prefill = prefilled - begin, decode = Clock::now() - prefilled;
    char text[256];
    std::snprintf(text, sizeof text,
                  "prefill: %zu tokens in %.3f s; answer: %zu tokens in %.3f s, %.1f tokens/s; position %lld; "
                  "ended by: %s\n",
                  prompt_tokens, prefill.count(), made.tokens.size(), decode.count(),
                  static_cast<double>(made.tokens.size()) / decode.count(), static_cast<long long>(position),
                  name_of(made.reason));
    return text;
  }

  const ChatArguments& arguments_;
  const ModelInfo& info_;
  Tokenizer tokenizer_;
  Chat chat_;
  GenerateOptions options_;
  bool at_terminal_ = ::isatty(STDIN_FILENO) == 1;
};

}  // namespace

void run_chat(const ChatArguments& arguments) {
  // All that can be wrong is looked at before the weights, which take long, are.
  const AnyModelType& type = model_type(arguments.model);
  Talk talk(arguments, type.info(), load_tokenizer(arguments.model, type.info()));
  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> model = load_model(arguments.model, type);
  // enough for most questions and answers; without a window, all can be taken back anyway
  const std::size_t rollback = std::min<std::size_t>(512, type.info().config.window_size);
  const std::unique_ptr<AnySession> session = model->session(rollback);
  talk.run(*session);
}

}  // namespace mistral::tool
