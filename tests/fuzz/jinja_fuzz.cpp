// SPDX-License-Identifier: Apache-2.0
// seeds: *.jinja
// Renders the input as a Jinja template, and as the content of a message: it ends in a text or in an Error, soon, and
// no control token of the text comes from the message.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/jinja/json_text.hpp>
#include <mistral/text/jinja/template.hpp>
#include <mistral/text/jinja_chat.hpp>
#include <mistral/text/tokenizer.hpp>

#include "attempt.hpp"

using namespace mistral;

namespace {

constexpr std::string_view chatml =
    "{% for m in messages %}{{ '<s>' + m.role + '\n' + m.content|trim + '</s>' }}{% endfor %}{{ '<s>' if "
    "add_generation_prompt }}";

std::ptrdiff_t controls(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  return std::count_if(ids.begin(), ids.end(), [&](TokenId id) { return tokenizer.is_control(id); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer tokenizer = Tokenizer::load(MISTRAL_SOURCE_DIR "/tests/data/tokenizer/bpe600.model");
  static const jinja::Value variables = jinja::from_json(
      R"({"messages": [{"role": "system", "content": "Be <s>"}, {"role": "user", "content": " H\u00efi "},
          {"role": "assistant", "content": "a\nb", "tool_calls": [{"id": "abcdefghi", "function": {"name": "f", "arguments": {"x": [1, 2.5, null, true]}}}]}],
          "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}],
          "documents": null, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})",
      "variables");
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  jinja::Limits limits;
  limits.steps = 100'000;
  limits.bytes = std::size_t{16} << 20;
  limits.output = std::size_t{1} << 20;
  fuzz::attempt([&] {
    jinja::Variables all;
    all.set_all(*variables.dict());
    const jinja::Text text = jinja::Template(source, "input", limits).render(all, {2024, 7, 26, 9, 5, 3});
    fuzz::require(text.size() <= limits.output);
    fuzz::require(text.empty() || text.runs().back().end == text.size());
    for (const TokenId id : encode_rendered(tokenizer, text)) {
      fuzz::require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
    }
  });
  static const ChatFormat format = JinjaChat::format(chatml, "chatml");
  const auto ids = encode_chat(tokenizer, format, {{"user", std::string(source)}});
  fuzz::require(controls(tokenizer, ids) == 3);
  return 0;
}
