// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The words that chat templates mark turns with.
inline constexpr std::string_view markup_words[] = {"<s>",
                                                    "</s>",
                                                    "[INST]",
                                                    "[/INST]",
                                                    "<<SYS>>",
                                                    "<</SYS>>",
                                                    "[SYSTEM_PROMPT]",
                                                    "[/SYSTEM_PROMPT]",
                                                    "[AVAILABLE_TOOLS]",
                                                    "[/AVAILABLE_TOOLS]",
                                                    "[TOOL_CALLS]",
                                                    "[TOOL_RESULTS]",
                                                    "[/TOOL_RESULTS]",
                                                    "<|im_start|>",
                                                    "<|im_end|>",
                                                    "<|endoftext|>",
                                                    "<|system|>",
                                                    "<|user|>",
                                                    "<|assistant|>",
                                                    "<|end|>",
                                                    "<|begin_of_text|>",
                                                    "<|start_header_id|>",
                                                    "<|end_header_id|>",
                                                    "<|eot_id|>",
                                                    "<start_of_turn>",
                                                    "<end_of_turn>"};

/// Whether a token that was added to a vocabulary marks turns by its looks: one of the above, or `<|...|>`. Fine-tunes
/// forget to say so of theirs; llama.cpp's converter goes by the looks too.
inline bool looks_like_markup(std::string_view text) noexcept {
  if (text.size() >= 4 && text.starts_with("<|") && text.ends_with("|>")) return true;
  return std::find(std::begin(markup_words), std::end(markup_words), text) != std::end(markup_words);
}

}}}  // namespace mistral::detail
