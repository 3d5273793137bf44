// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/random.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/text/check_conversation.hpp>
#include <mistral/text/message.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Returns an id for a call, nine of a-z, A-Z and 0-9: the next that the generator gives, the same with every compiler.
inline std::string new_tool_call_id(Random& random) {
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::string id;
  while (id.size() < 9) {
    const std::uint64_t bits = random.next() >> 58;  // 0 to 63
    if (bits < letters.size()) id += letters[static_cast<std::size_t>(bits)];
  }
  return id;
}

/// The outcome of a piece of an answer.
struct AnswerPiece {
  std::string text{};             ///< that may be shown now
  std::vector<ToolCall> calls{};  ///< that are complete now, each with an id
};

/// Reads an answer as it comes: text is passed on, and `[TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]` becomes
/// calls, each as soon as it is complete. However the answer is cut into pieces, the texts joined and the calls are the
/// same. What can't be read as calls is text, and error() says why; no byte of an answer is lost.
///
///     AnswerReader reader{tokenizer, seed};
///     for (...) handle(reader.feed(token));
///     handle(reader.finish());
///     if (!reader.error().empty()) ...
class AnswerReader {
 public:
  /// Reads tokens: calls begin at the control id [TOOL_CALLS], and text that only looks like it stays text.
  ///   seed  of the ids of calls to which the model gives none of its own, or one that was there before
  explicit AnswerReader(const Tokenizer& tokenizer, std::uint64_t seed = 0)
      : random_(seed), decoder_(tokenizer), tokenizer_(tokenizer) {
    const auto id = tokenizer.find(marker);
    if (id && tokenizer.is_control(*id)) marker_id_ = *id;
  }

  /// Reads text in which the marker stands as text, as from a program that shows control pieces.
  explicit AnswerReader(std::uint64_t seed = 0) : random_(seed) {}

  /// Takes the next token. Throws Error where it is out of the tokenizer's range, with all as it was. Needs a reader of
  /// tokens.
  AnswerPiece feed(TokenId token) {
    AnswerPiece piece;
    if (token == marker_id_ && state_ == State::text) {
      std::string text;
      decoder_->flush(text);
      piece.text += text;
      begin_calls();
    } else {
      take(decoder_->feed(token), piece);
    }
    return piece;
  }

  /// Takes more text. Needs a reader of text.
  AnswerPiece push(std::string_view text) {
    AnswerPiece piece;
    if (state_ != State::text) {
      take(text, piece);
      return piece;
    }
    held_ += text;
    if (const std::size_t at = held_.find(marker); at != std::string::npos) {
      const std::string rest = held_.substr(at + marker.size());
      piece.text.assign(held_, 0, at);
      held_.clear();
      begin_calls();
      take(rest, piece);
      return piece;
    }
    std::size_t waiting = (std::min)(held_.size(), marker.size() - 1);
    while (!marker.starts_with(std::string_view(held_).substr(held_.size() - waiting))) --waiting;
    piece.text.assign(held_, 0, held_.size() - waiting);
    held_.erase(0, held_.size() - waiting);
    return piece;
  }

  /// Takes the end of the answer: gives what was held back, and calls that were cut off as text. Another answer needs
  /// another reader.
  AnswerPiece finish() {
    AnswerPiece piece;
    if (decoder_) take(decoder_->flush(), piece);
    if (state_ == State::before || state_ == State::between || state_ == State::call) {
      fail("the answer ends in the middle of its calls", piece);
    }
    piece.text += held_;
    held_.clear();
    return piece;
  }

  /// Whether calls have begun.
  bool in_calls() const noexcept { return state_ != State::text; }

  /// Why some of the answer's calls could not be read; empty where there is nothing to say.
  const std::string& error() const noexcept { return error_; }

 private:
  static constexpr std::string_view marker = "[TOOL_CALLS]";

  enum class State {
    text,     // no calls yet
    before,   // behind the marker, before [
    between,  // before a call, or behind one
    call,     // in a call, whose text is held_
    behind,   // behind ]
    broken    // the rest is text
  };

  void begin_calls() {
    state_ = State::before;
    raw_ = std::string(marker);
  }

  void take(std::string_view text, AnswerPiece& piece) {
    while (!text.empty()) {
      if (state_ == State::text || state_ == State::behind || state_ == State::broken) {
        piece.text += text;
        return;
      }
      const char c = text.front();
      text.remove_prefix(1);
      raw_ += c;
      step(c, piece);
    }
  }

  // Takes a character of the calls, which is in raw_ already.
  void step(char c, AnswerPiece& piece) {
    const bool space = c == ' ' || c == '\n' || c == '\r' || c == '\t';
    if (state_ == State::call) {
      held_ += c;
      if (in_string_) {
        in_string_ = escaped_ || c != '"';
        escaped_ = !escaped_ && c == '\\';
      } else if (c == '"') {
        in_string_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if ((c == '}' || c == ']') && --depth_ == 0) {
        end_call(piece);
      }
    } else if (space) {
      return;
    } else if (state_ == State::before) {
      if (c != '[') return fail("expected [ behind [TOOL_CALLS]", piece);
      state_ = State::between;
      first_ = true;
      comma_ = false;
    } else if (c == '{' && (first_ || comma_)) {
      state_ = State::call;
      held_ = "{";
      depth_ = 1;
      in_string_ = escaped_ = false;
    } else if (c == ',' && !first_ && !comma_) {
      comma_ = true;
    } else if (c == ']' && !comma_) {
      state_ = State::behind;
      raw_.clear();
    } else {
      fail(first_ || comma_ ? "expected { where a call begins" : "expected a comma or ] behind a call", piece);
    }
  }

  void end_call(AnswerPiece& piece) {
    try {
      piece.calls.push_back(call_in(held_));
    } catch (const Error& error) {
      held_.clear();
      return fail(error.what(), piece);
    }
    held_.clear();
    raw_.clear();  // is known to be calls
    state_ = State::between;
    first_ = comma_ = false;
  }

  ToolCall call_in(const std::string& text) {
    const JsonObject json = JsonObject::parse(std::as_bytes(std::span(text)), "tool calls", "a call");
    ToolCall call{.name = json.string("name")};
    if (!detail::is_function_name(call.name)) throw json.unexpected("name", detail::function_name_rule);
    if (json.is_string("arguments")) {
      call.arguments = json.string("arguments");
    } else if (json.has("arguments")) {
      if (!json.is_object("arguments")) throw json.unexpected("arguments", "an object");
      call.arguments = json.json("arguments");
    }
    if (json.is_string("id") && detail::is_call_id(json.string("id"))) call.id = json.string("id");
    while (call.id.empty() || std::find(known_.begin(), known_.end(), call.id) != known_.end()) {
      call.id = new_tool_call_id(random_);
    }
    known_.push_back(call.id);
    return call;
  }

  // The calls end here: what of them was not given out yet is text.
  void fail(std::string_view what, AnswerPiece& piece) {
    error_ = what;
    piece.text += raw_;
    raw_.clear();
    held_.clear();
    state_ = State::broken;
  }

  Random random_;
  std::optional<StreamDecoder> decoder_;
  std::optional<Tokenizer> tokenizer_;
  TokenId marker_id_ = -1;
  State state_ = State::text;
  std::string held_;                // before calls, what may be the marker's beginning; in a call, its text
  std::string raw_;                 // of the calls, what was not given out yet
  std::vector<std::string> known_;  // ids of calls of this answer
  std::string error_;
  std::size_t depth_ = 0;
  bool in_string_ = false, escaped_ = false;
  bool first_ = true, comma_ = false;  // no call yet in the array; a comma has come
};

/// Returns the ids that an answer begins with which keeps to a request's tool choice: none where it may begin as the
/// model likes, [TOOL_CALLS] where a call is required, and where one is named what stands before its arguments too.
/// They belong behind the prompt's ids, and to the answer: an AnswerReader is to be fed them. Throws Error `[chat]
/// tool_choice: ...` for a required call without tools, one of a tool that the request hasn't, or a tokenizer without
/// [TOOL_CALLS].
inline std::vector<TokenId> forced_answer(const Tokenizer& tokenizer, const ChatRequest& request) {
  if (request.tool_choice != ToolChoice::required && request.tool_choice != ToolChoice::named) return {};
  if (request.tools.empty()) throw Error("chat", "tool_choice", "tools to choose from", "none");
  const auto begin = tokenizer.find("[TOOL_CALLS]");
  if (!begin || !tokenizer.is_control(*begin)) {
    throw Error("chat", "tool_choice", "a tokenizer with the control piece [TOOL_CALLS]", "one without");
  }
  std::vector<TokenId> ids{*begin};
  if (request.tool_choice == ToolChoice::required) return ids;
  const bool known = std::any_of(request.tools.begin(), request.tools.end(),
                                 [&](const Tool& tool) { return tool.name == request.forced_tool; });
  if (!known) {
    throw Error("chat", "tool_choice", "the name of one of the tools", "'" + printable(request.forced_tool, 64) + "'");
  }
  const std::vector<TokenId> name = tokenizer.encode("[{\"name\": \"" + request.forced_tool + "\", \"arguments\":");
  ids.insert(ids.end(), name.begin(), name.end());
  return ids;
}

}}  // namespace mistral
