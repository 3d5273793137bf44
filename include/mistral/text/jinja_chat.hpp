// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/chat_format.hpp>
#include <mistral/text/jinja/json_text.hpp>
#include <mistral/text/jinja/template.hpp>
#include <mistral/text/message.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

/// The bytes that the template wrote, range by range.
inline std::vector<TextRange> own_ranges(const jinja::Text& text) {
  std::vector<TextRange> own;
  std::size_t begin = 0;
  for (const jinja::Text::Run& run : text.runs()) {
    const bool goes_on = !own.empty() && own.back().end == begin;  // one of both in a `generation` block
    if (run.mark.origin == 0 && goes_on) {
      own.back().end = run.end;
    } else if (run.mark.origin == 0) {
      own.push_back({begin, run.end});
    }
    begin = run.end;
  }
  return own;
}

/// Where a rendered text is to be cut so that no user-defined piece that is markup by its looks, `<|im_start|>` or
/// `[TOOL]`, comes out of bytes that aren't all the template's: behind the first byte of each.
inline std::vector<std::size_t> markup_cuts(const Tokenizer& tokenizer, std::string_view text,
                                            const std::vector<TextRange>& own) {
  const auto is_own = [&](std::size_t begin, std::size_t end) {
    const auto range = std::upper_bound(own.begin(), own.end(), begin,
                                        [](std::size_t place, const TextRange& r) { return place < r.end; });
    return range != own.end() && range->begin <= begin && end <= range->end;
  };
  std::vector<std::size_t> cuts;
  for (std::size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!tokenizer.is_user_defined(id)) continue;
    const std::string_view piece = tokenizer.piece(id);
    const bool markup = piece.size() > 2 && ((piece.front() == '<' && piece.back() == '>') ||
                                             (piece.front() == '[' && piece.back() == ']'));
    for (std::size_t at = 0; markup && (at = text.find(piece, at)) != std::string_view::npos; ++at) {
      if (!is_own(at, at + piece.size())) cuts.push_back(at + 1);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  return cuts;
}

}  // namespace detail

/// Returns the ids of a text that a Jinja template rendered: control pieces that the template wrote are control ids,
/// and what stands between two of them is one run of text, whoever wrote it. What data brought in is text, whatever it
/// looks like, and so is what looks like a control piece across the border of both. User-defined pieces such as
/// `<|im_start|>`, which some models' files have for control pieces, come from the template alone too: where data holds
/// one, the run is cut within it, which may put a space there.
inline std::vector<TokenId> encode_rendered(const Tokenizer& tokenizer, const jinja::Text& text) {
  const std::vector<TextRange> own = detail::own_ranges(text);
  const std::vector<std::size_t> cuts = detail::markup_cuts(tokenizer, text.bytes(), own);
  if (cuts.empty()) return tokenizer.encode_trusted(text.bytes(), own);
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const std::size_t begin = i == 0 ? 0 : cuts[i - 1], end = i == cuts.size() ? text.size() : cuts[i];
    const jinja::Text part = text.slice(begin, end);
    const std::vector<TokenId> more = tokenizer.encode_trusted(part.bytes(), detail::own_ranges(part));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

/// A conversation that a model's Jinja template writes down, as transformers' apply_chat_template does: the template
/// has `messages`, `add_generation_prompt`, `tools` and `documents` (none), and the special tokens as `bos_token`,
/// `eos_token`, `unk_token` and `pad_token`.
///
/// - There is one BOS in front: the template's, or else the tokenizer's, where that puts one in front of texts.
/// - A last message that is to be continued is the end of the text: what the template puts behind its content is left
///   out.
/// - Answers are what `generation` blocks hold, where the template has any. Otherwise an answer begins behind the ids
/// of
///   the messages before it with the generation prompt, and ends with the ids of the messages up to it, less white
///   space behind a control token; an Error says where these aren't the beginning of the whole, since what was learnt
///   would then not be what is asked for when text is generated.
class JinjaChat final : public ChatWriter {
 public:
  /// Goes by a template.
  explicit JinjaChat(jinja::Template chat_template) : template_(std::move(chat_template)) {}

  /// Returns a format that goes by a template. Throws Error `[template] name:line:column: ...` for what is none.
  static ChatFormat format(std::string_view source, std::string_view name) {
    return std::shared_ptr<const ChatWriter>(std::make_shared<const JinjaChat>(jinja::Template(source, name)));
  }

  /// Has `strftime_now` write this moment from now on, and not the clock's.
  void set_clock(const jinja::Moment& moment) { clock_ = moment; }

  /// Returns the ids of a conversation. Throws Error for no messages, and what the template has against them.
  std::vector<TokenId> encode(const Tokenizer& tokenizer, const ChatRequest& request) const override {
    return ids_of(tokenizer, rendered(tokenizer, request), request.options);
  }

  /// Returns the ids of a conversation, and where in them the answers stand. Throws what encode does, and Error where
  /// an answer can't be told from the rest.
  EncodedChat encode_with_answers(const Tokenizer& tokenizer, const ChatRequest& request) const override {
    const jinja::Text text = rendered(tokenizer, request);
    EncodedChat chat{ids_of(tokenizer, text, request.options), {}};
    if (template_.has_generation()) {
      chat.answers = generated(tokenizer, text, chat.ids, request.options);
    } else {
      for (std::size_t i = 0; i < request.messages.size(); ++i) {
        if (request.messages[i].role == "assistant") chat.answers.push_back(answer(tokenizer, request, i, chat.ids));
      }
    }
    return chat;
  }

  /// Returns the text that the template makes of a conversation, with what an answer follows where `prompts` says so.
  jinja::Text render(const Tokenizer& tokenizer, const ChatRequest& request, bool prompts) const {
    std::vector<jinja::Value> list, tools;
    jinja::Budget budget(jinja::Limits{.steps = UINT64_MAX, .bytes = SIZE_MAX, .output = SIZE_MAX});
    for (std::size_t i = 0; i < request.messages.size(); ++i) {
      list.push_back(message_value(budget, request.messages[i], content_mark(i)));
    }
    for (const Tool& tool : request.tools) tools.push_back(tool_value(budget, tool));
    jinja::Variables variables;
    variables.set("messages", jinja::make_list(budget, std::move(list)));
    variables.set("tools",
                  tools.empty() ? jinja::Value(jinja::Value::NoneType{}) : jinja::make_list(budget, std::move(tools)));
    variables.set("documents", jinja::Value::NoneType{});
    variables.set("add_generation_prompt", prompts);
    const auto special = [&](std::string_view name, TokenId id) {
      if (id >= 0) variables.set(name, jinja::own_text(tokenizer.piece(id)));
    };
    special("bos_token", tokenizer.bos_id());
    special("eos_token", tokenizer.eos_id());
    special("unk_token", tokenizer.unk_id());
    special("pad_token", tokenizer.pad_id());
    return template_.render(variables, clock_ ? *clock_ : jinja::Moment::now());
  }

 private:
  // Tells the messages' contents apart, and from all other data.
  static jinja::Mark content_mark(std::size_t message) noexcept {
    return {static_cast<std::uint32_t>((std::min<std::size_t>)(message, UINT32_MAX - 2) + 2), false};
  }

  // JSON as a value; what isn't, as the text that it is.
  static jinja::Value json_value(const std::string& json) {
    try {
      return jinja::from_json(json, "a tool");
    } catch (const Error&) {
      return jinja::data_text(json);
    }
  }

  static jinja::Value function_value(jinja::Budget& budget, std::vector<std::pair<jinja::Value, jinja::Value>> items,
                                     std::string_view id = {}) {
    std::vector<std::pair<jinja::Value, jinja::Value>> outer;
    if (!id.empty()) outer.emplace_back(jinja::own_text("id"), jinja::data_text(id));
    outer.emplace_back(jinja::own_text("type"), jinja::data_text("function"));
    outer.emplace_back(jinja::own_text("function"), jinja::make_dict(budget, std::move(items)));
    return jinja::make_dict(budget, std::move(outer));
  }

  static jinja::Value tool_value(jinja::Budget& budget, const Tool& tool) {
    return function_value(budget, {{jinja::own_text("name"), jinja::data_text(tool.name)},
                                   {jinja::own_text("description"), jinja::data_text(tool.description)},
                                   {jinja::own_text("parameters"), json_value(tool.parameters)}});
  }

  static jinja::Value message_value(jinja::Budget& budget, const Message& message, jinja::Mark mark) {
    std::vector<std::pair<jinja::Value, jinja::Value>> items{
        {jinja::own_text("role"), jinja::data_text(message.role)},
        {jinja::own_text("content"), jinja::data_text(message.content, mark)}};
    if (!message.tool_calls.empty()) {
      std::vector<jinja::Value> calls;
      for (const ToolCall& call : message.tool_calls) {
        calls.push_back(function_value(budget,
                                       {{jinja::own_text("name"), jinja::data_text(call.name)},
                                        {jinja::own_text("arguments"), json_value(call.arguments)}},
                                       call.id));
      }
      items.emplace_back(jinja::own_text("tool_calls"), jinja::make_list(budget, std::move(calls)));
    }
    if (!message.tool_call_id.empty()) {
      items.emplace_back(jinja::own_text("tool_call_id"), jinja::data_text(message.tool_call_id));
    }
    if (!message.name.empty()) items.emplace_back(jinja::own_text("name"), jinja::data_text(message.name));
    return jinja::make_dict(budget, std::move(items));
  }

  jinja::Text rendered(const Tokenizer& tokenizer, const ChatRequest& request) const {
    const std::vector<Message>& messages = request.messages;
    if (messages.empty()) throw Error("chat", "messages", "at least one", "none");
    const bool answered = messages.back().role == "assistant";
    if (!request.options.continue_final_message) return render(tokenizer, request, !answered);
    if (!answered) {
      throw Error("chat", "messages[" + std::to_string(messages.size() - 1) + "], the last: role",
                  "'assistant', to continue it", "'" + printable(messages.back().role, 40) + "'");
    }
    const jinja::Text text = render(tokenizer, request, false);
    const jinja::Mark last = content_mark(messages.size() - 1);
    const auto& runs = text.runs();
    const auto found =
        std::find_if(runs.rbegin(), runs.rend(), [&](const auto& run) { return run.mark.origin == last.origin; });
    if (found == runs.rend()) {
      throw Error("chat", template_.name() + ": the text", "the content of the last message, which is to be continued",
                  "none of it");
    }
    return text.slice(0, found->end);
  }

  static std::vector<TokenId> ids_of(const Tokenizer& tokenizer, const jinja::Text& text, ChatOptions options) {
    const TextRange whole{0, text.size()};
    std::vector<TokenId> ids =
        options.parse_special ? tokenizer.encode_trusted(text.bytes(), {&whole, 1}) : encode_rendered(tokenizer, text);
    if (tokenizer.adds_bos() && (ids.empty() || ids.front() != tokenizer.bos_id()))
      ids.insert(ids.begin(), tokenizer.bos_id());
    if (ids.empty()) throw Error("chat", "the text of the template", "at least one token", "none");
    return ids;
  }

  static bool begins(const std::vector<TokenId>& whole, const std::vector<TokenId>& begin) {
    return begin.size() <= whole.size() && std::equal(begin.begin(), begin.end(), whole.begin());
  }

  // The answer that the `index`-th message is, in the ids of the whole conversation.
  TokenRange answer(const Tokenizer& tokenizer, const ChatRequest& request, std::size_t index,
                    const std::vector<TokenId>& whole) const {
    const ChatOptions options = request.options;
    const auto first = request.messages.begin();
    const auto part = [&](std::size_t count) {
      ChatRequest begin = request;
      begin.messages.assign(first, first + static_cast<std::ptrdiff_t>(count));
      return begin;
    };
    const auto fail = [&](const char* what) {
      throw Error("chat",
                  "messages[" + std::to_string(index) + "]: " + template_.name() +
                      " doesn't let its answer be told from the rest",
                  "a conversation that begins with the ids of " + std::string(what),
                  "others (a `generation` block in the template would tell)");
    };
    const std::vector<TokenId> prompt = ids_of(tokenizer, render(tokenizer, part(index), true), options);
    if (!begins(whole, prompt) || prompt.size() == whole.size())
      fail("the messages before it and the generation prompt");
    if (index + 1 == request.messages.size()) {
      return {prompt.size(), options.continue_final_message
                                 ? whole.size()
                                 : without_space(tokenizer, whole, prompt.size(), whole.size())};
    }
    const std::vector<TokenId> upto = ids_of(tokenizer, render(tokenizer, part(index + 1), false), options);
    const std::size_t end = without_space(tokenizer, upto, prompt.size(), upto.size());
    if (end <= prompt.size() || !begins(whole, {upto.begin(), upto.begin() + static_cast<std::ptrdiff_t>(end)}))
      fail("the messages up to it");
    return {prompt.size(), end};
  }

  // Behind the last control token of [begin, end), where nothing but white space follows it: the end, where there is
  // none.
  static std::size_t without_space(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, std::size_t begin,
                                   std::size_t end) {
    for (std::size_t at = end; at > begin; --at) {
      if (tokenizer.is_control(ids[at - 1])) return at;
      if (tokenizer.decode({ids[at - 1]}).find_first_not_of(" \t\r\n") != std::string::npos) break;
    }
    return end;
  }

  // What `generation` blocks hold, in ids.
  static std::vector<TokenRange> generated(const Tokenizer& tokenizer, const jinja::Text& text,
                                           const std::vector<TokenId>& whole, ChatOptions options) {
    // how many ids the text up to here has in common with the whole
    const auto tokens_before = [&](std::size_t end) {
      if (end == text.size()) return whole.size();
      const std::vector<TokenId> ids =
          end == 0 ? std::vector<TokenId>{} : ids_of(tokenizer, text.slice(0, end), options);
      return static_cast<std::size_t>(std::mismatch(ids.begin(), ids.end(), whole.begin(), whole.end()).first -
                                      ids.begin());
    };
    std::vector<TokenRange> answers;
    std::size_t begin = 0;
    bool inside = false;
    for (const jinja::Text::Run& run : text.runs()) {
      if (run.mark.answer && !inside) answers.push_back({tokens_before(begin), 0});
      if (!run.mark.answer && inside) answers.back().end = tokens_before(begin);
      inside = run.mark.answer;
      begin = run.end;
    }
    if (inside) answers.back().end = whole.size();
    std::erase_if(answers, [](const TokenRange& range) { return range.begin >= range.end; });
    return answers;
  }

  jinja::Template template_;
  std::optional<jinja::Moment> clock_;
};

}}  // namespace mistral
