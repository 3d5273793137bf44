// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Ends a stream of text where one of a few strings turns up, however the text is cut into pieces.
///
/// The match that ends first counts; of several that end there, the longest. The text before it is given out, the match
/// and what follows are not. Text that could be the beginning of a match is held back, and no more than that. Strings
/// are compared byte by byte.
class StopStrings {
 public:
  StopStrings() = default;

  /// Throws Error where one of `strings` is empty. None at all: nothing ever stops.
  explicit StopStrings(std::vector<std::string> strings) {
    patterns_.reserve(strings.size());
    for (std::string& text : strings) {
      if (text.empty()) throw Error("stop", "strings[" + std::to_string(patterns_.size()) + "]", "text", "nothing");
      patterns_.emplace_back(std::move(text));
    }
  }

  /// Takes the next piece of text and gives what may be shown now. Gives nothing once a string was met. Where there is
  /// no memory, it hasn't taken the piece.
  std::string push(std::string_view text) {
    if (stopped()) return {};
    if (patterns_.empty()) return std::string(text);
    std::string shown;
    shown.reserve(held_.size() + text.size());
    held_.reserve(held_.size() + text.size());  // from here on nothing throws
    for (std::size_t i = 0; i < text.size(); ++i) {
      std::size_t longest = 0;
      for (std::size_t j = 0; j < patterns_.size(); ++j) {
        Pattern& pattern = patterns_[j];
        if (pattern.advance(text[i]) && pattern.text.size() > longest) {
          longest = pattern.text.size();
          matched_ = j;
        }
      }
      if (longest == 0) continue;
      held_.append(text.substr(0, i + 1));
      held_.resize(held_.size() - longest);
      shown.swap(held_);
      held_.clear();
      return shown;
    }
    // A pattern has met the longest suffix that is a beginning of it: the longest of these must wait.
    std::size_t waiting = 0;
    for (const Pattern& pattern : patterns_) waiting = waiting < pattern.met ? pattern.met : waiting;
    held_.append(text);
    const std::size_t ready = held_.size() - waiting;
    shown.assign(held_, 0, ready);
    held_.erase(0, ready);
    return shown;
  }

  /// The text is over: gives what was still held back. What is pushed then is a new text, unless a string was met.
  std::string flush() {
    for (Pattern& pattern : patterns_) pattern.met = 0;
    return std::exchange(held_, {});
  }

  /// Whether one of the strings was met.
  bool stopped() const noexcept { return matched_ != none; }

  /// The string that was met, empty before. Valid as long as this object is.
  std::string_view matched() const noexcept { return stopped() ? patterns_[matched_].text : std::string_view{}; }

  /// Back to the beginning, for another text.
  void reset() noexcept {
    for (Pattern& pattern : patterns_) pattern.met = 0;
    held_.clear();
    matched_ = none;
  }

 private:
  static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

  // A string and how much of it the text's end has met, kept as Knuth, Morris and Pratt do ("Fast pattern matching in
  // strings", 1977): the work is linear in the text even where the strings are long and repeat themselves.
  struct Pattern {
    std::string text;
    std::vector<std::size_t> border;  // border[n - 1]: the longest beginning of the first n bytes that also ends them
    std::size_t met = 0;

    explicit Pattern(std::string pattern) : text(std::move(pattern)), border(text.size()) {
      for (std::size_t i = 1, length = 0; i < text.size(); ++i) {
        while (length > 0 && text[i] != text[length]) length = border[length - 1];
        if (text[i] == text[length]) ++length;
        border[i] = length;
      }
    }

    // Takes one byte; true where it completes the string. Nothing may follow that.
    bool advance(char byte) noexcept {
      while (met > 0 && text[met] != byte) met = border[met - 1];
      if (text[met] == byte) ++met;
      return met == text.size();
    }
  };

  std::vector<Pattern> patterns_;
  std::string held_;
  std::size_t matched_ = none;
};

}}  // namespace mistral
