// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/text/tokenizer_rules.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Throws Error for a field of another name than these: it may change what the file means.
inline void check_fields(const JsonObject& json, std::initializer_list<std::string_view> known) {
  for (const std::string& name : json.names()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw json.unexpected(name, "nothing, for this field is not known");
    }
  }
}

/// Reads the steps of a tokenizer.json that stand around its model: normalizer, pre_tokenizer, post_processor and
/// decoder. A step that is not supported is an Error that names it.
class TokenizerJsonSteps {
 public:
  /// Reads into `rules`; ids must be below `size`.
  TokenizerJsonSteps(TokenizerRules& rules, std::size_t size) : rules_(rules), size_(size) {}

  void read(const JsonObject& file) {
    for (const JsonObject& step : steps_of(file, "normalizer", "normalizers")) normalizer(step);
    for (const JsonObject& step : steps_of(file, "pre_tokenizer", "pretokenizers")) pre_tokenizer(step);
    for (const JsonObject& step : steps_of(file, "post_processor", "processors")) post_processor(step);
    if (!file.has("decoder")) throw file.unexpected("decoder", "a decoder");
    for (const JsonObject& step : steps_of(file, "decoder", "decoders")) decoder(step);
    if (rules_.metaspace && rules_.metaspace->prepend == Metaspace::Prepend::first) {
      for (const TextStep& step : rules_.normalizer) {
        if (step.kind == TextStep::Kind::prepend) {
          throw file.unexpected("pre_tokenizer", "no Metaspace with 'first' behind a normalizer that prepends");
        }
      }
    }
  }

 private:
  static constexpr std::size_t most_steps = 16;
  static constexpr std::size_t most_bytes = 1024;  // of a text in a step
  static constexpr std::size_t most_growth = 4096;
  static constexpr int most_levels = 8;

  /// The steps of a field: none where it is null, those of a Sequence, or the one that it is.
  std::vector<JsonObject> steps_of(const JsonObject& json, const std::string& name, const std::string& list) const {
    std::vector<JsonObject> steps;
    if (json.has(name)) add_steps(json.object(name), list, steps, 0);
    if (steps.size() > most_steps) throw json.unexpected(name, "at most " + std::to_string(most_steps) + " steps");
    return steps;
  }

  void add_steps(const JsonObject& step, const std::string& list, std::vector<JsonObject>& steps, int level) const {
    if (step.string("type") != "Sequence") {
      steps.push_back(step);
      return;
    }
    if (level == most_levels) throw step.unexpected("type", "fewer Sequences in each other");
    check_fields(step, {"type", list});
    for (const JsonObject& each : step.objects(list)) add_steps(each, list, steps, level + 1);
  }

  static std::string short_text(const JsonObject& json, const std::string& name) {
    std::string text = json.string(name);
    if (text.size() > most_bytes) throw json.unexpected(name, "at most " + std::to_string(most_bytes) + " bytes");
    return text;
  }

  static std::string character(const JsonObject& json, const std::string& name) {
    std::string text = json.string(name);
    if (text.empty() || text.size() != utf8_length(byte_at(text, 0))) throw json.unexpected(name, "one character");
    return text;
  }

  /// {"type": "Replace", "pattern": {"String": " "}, "content": "_"}
  TextStep replace(const JsonObject& json) {
    check_fields(json, {"type", "pattern", "content"});
    const JsonObject pattern = json.object("pattern");
    check_fields(pattern, {"String"});
    TextStep step{
        .kind = TextStep::Kind::replace, .from = short_text(pattern, "String"), .to = short_text(json, "content")};
    if (step.from.empty()) throw pattern.unexpected("String", "text");
    growth_ *= (std::max)(std::size_t{1}, (step.to.size() + step.from.size() - 1) / step.from.size());
    if (growth_ > most_growth) throw json.unexpected("content", "texts that all steps make less long");
    return step;
  }

  void normalizer(const JsonObject& json) {
    const std::string& type = json.string("type");
    if (type == "Prepend") {
      check_fields(json, {"type", "prepend"});
      rules_.normalizer.push_back({.kind = TextStep::Kind::prepend, .to = short_text(json, "prepend")});
    } else if (type == "Replace") {
      rules_.normalizer.push_back(replace(json));
    } else {
      throw json.unexpected("type", "a normalizer that is supported: Prepend, Replace or a Sequence of them");
    }
  }

  static Metaspace metaspace(const JsonObject& json) {
    check_fields(json, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
    Metaspace step{.replacement = character(json, "replacement")};
    const bool says = json.has("prepend_scheme");
    if (says) {
      const std::string& scheme = json.string("prepend_scheme");
      if (scheme == "first") {
        step.prepend = Metaspace::Prepend::first;
      } else if (scheme == "never") {
        step.prepend = Metaspace::Prepend::never;
      } else if (scheme != "always") {
        throw json.unexpected("prepend_scheme", "'always', 'first' or 'never'");
      }
    }
    if (json.has("add_prefix_space")) {  // as older files say it
      const bool adds = json.boolean("add_prefix_space");
      if (says && !adds && step.prepend != Metaspace::Prepend::never) {
        throw json.unexpected("add_prefix_space", "what prepend_scheme says");
      }
      if (!adds) step.prepend = Metaspace::Prepend::never;
    }
    if (json.has("split")) step.split = json.boolean("split");
    if (json.has("str_rep") && json.string("str_rep") != step.replacement) {
      throw json.unexpected("str_rep", "what replacement says");
    }
    return step;
  }

  void pre_tokenizer(const JsonObject& json) {
    if (json.string("type") != "Metaspace") {
      throw json.unexpected("type", "a pre-tokenizer that is supported: Metaspace");
    }
    if (rules_.metaspace) throw json.unexpected("type", "one pre-tokenizer");
    rules_.metaspace = metaspace(json);
  }

  void post_processor(const JsonObject& json) {
    const std::string& type = json.string("type");
    if (type == "ByteLevel") return;  // it moves the places in the text that tokens come from
    if (type != "TemplateProcessing") {
      throw json.unexpected("type", "a post-processor that is supported: TemplateProcessing");
    }
    if (has_template_) throw json.unexpected("type", "one TemplateProcessing");
    has_template_ = true;
    check_fields(json, {"type", "single", "pair", "special_tokens"});
    const JsonObject special = json.object("special_tokens");
    bool behind = false;
    for (const JsonObject& piece : json.objects("single")) {
      check_fields(piece, {"SpecialToken", "Sequence"});
      if (piece.has("Sequence")) {
        const JsonObject sequence = piece.object("Sequence");
        if (behind || piece.has("SpecialToken")) throw piece.unexpected("Sequence", "one text in the template");
        if (sequence.string("id") != "A") throw sequence.unexpected("id", "'A', the text");
        behind = true;
        continue;
      }
      const std::string& name = piece.object("SpecialToken").string("id");
      const std::vector<std::int64_t> ids =
          special.object(name, "token").integers("ids", 0, static_cast<std::int64_t>(size_) - 1);
      std::vector<TokenId>& to = behind ? rules_.behind : rules_.before;
      for (const std::int64_t id : ids) to.push_back(static_cast<TokenId>(id));
    }
    if (!behind) throw json.unexpected("single", "a template with the text in it");
  }

  /// The order is that of all files there are: what is done to each token, then bytes become characters, then all are
  /// one text, and of that the beginning is cut off.
  void decoder(const JsonObject& json) {
    const std::string& type = json.string("type");
    const auto check_order = [&](bool right) {
      if (!right) throw json.unexpected("type", "a decoder in the order Replace, ByteFallback, Fuse, Strip");
    };
    if (type == "Replace") {
      check_order(!rules_.decode_bytes && !fused_);
      rules_.decoder.push_back(replace(json));
    } else if (type == "Metaspace") {
      check_order(rules_.decoder.empty() && !rules_.decode_bytes && !fused_);
      const Metaspace step = metaspace(json);
      const bool drops = step.prepend != Metaspace::Prepend::never;
      rules_.decoder.push_back(
          {.kind = drops ? TextStep::Kind::metaspace : TextStep::Kind::replace, .from = step.replacement, .to = " "});
    } else if (type == "ByteFallback") {
      check_fields(json, {"type"});
      check_order(!rules_.decode_bytes && !fused_);
      rules_.decode_bytes = true;
    } else if (type == "Fuse") {
      check_fields(json, {"type"});
      fused_ = true;
    } else if (type == "Strip") {
      check_fields(json, {"type", "content", "start", "stop"});
      json.integer("stop", 0, 0);
      TextStep step{.kind = TextStep::Kind::strip,
                    .from = character(json, "content"),
                    .count = static_cast<std::size_t>(json.integer("start", 0, INT32_MAX))};
      check_order(fused_ ? rules_.decoder_end.count == 0 : !rules_.decode_bytes);
      if (!fused_) {
        rules_.decoder.push_back(std::move(step));
      } else {
        rules_.decoder_end = std::move(step);
      }
    } else {
      throw json.unexpected("type", "a decoder that is supported: Replace, ByteFallback, Fuse, Strip or Metaspace");
    }
  }

  TokenizerRules& rules_;
  std::size_t size_;
  std::size_t growth_ = 1;
  bool has_template_ = false;
  bool fused_ = false;
};

}}}  // namespace mistral::detail
