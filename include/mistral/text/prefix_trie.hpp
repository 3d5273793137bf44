// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/utf8.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// A set of words that tells the longest one that a text starts with, in a time that depends on that word alone. A node
/// stands for a byte and for those behind it that all words have in common: there are at most two nodes a word.
class PrefixTrie {
 public:
  PrefixTrie() { nodes_.emplace_back(); }

  /// `words` need not outlive the trie. None may be empty.
  explicit PrefixTrie(std::vector<std::string_view> words) {
    std::sort(words.begin(), words.end());
    // Level by level: a node owns a range of the sorted words, all equal up to the node's depth.
    struct Range {
      std::size_t first, last, depth;
    };
    std::vector<Range> ranges{{0, words.size(), 0}};
    nodes_.emplace_back();
    for (std::size_t n = 0; n < ranges.size(); ++n) {
      auto [first, last, depth] = ranges[n];
      if (first < last && words[first].size() == depth) {
        nodes_[n].is_word = true;
        ++first;
      }
      nodes_[n].first_child = static_cast<std::uint32_t>(nodes_.size());
      while (first < last) {
        const unsigned char label = byte_at(words[first], depth);
        std::size_t end = first + 1;
        while (end < last && byte_at(words[end], depth) == label) ++end;
        // what the first and the last of sorted words have in common, all of them have
        const std::string_view low = words[first], high = words[end - 1];
        std::size_t common = depth + 1;
        while (common < low.size() && common < high.size() && low[common] == high[common]) ++common;
        nodes_.push_back({.rest_begin = rests_.size(), .rest_size = common - depth - 1, .label = label});
        rests_ += low.substr(depth + 1, common - depth - 1);
        ranges.push_back({first, end, common});
        if (n == 0) starts_[label] = true;
        first = end;
      }
      nodes_[n].children = static_cast<std::uint16_t>(nodes_.size() - nodes_[n].first_child);
    }
  }

  bool empty() const noexcept { return nodes_.size() == 1; }

  /// Whether some word starts with this byte.
  bool starts_with(unsigned char byte) const noexcept { return starts_[byte]; }

  /// The length of the longest word that `text` starts with, or 0.
  std::size_t match(std::string_view text) const noexcept {
    std::size_t longest = 0;
    const Node* node = nodes_.data();
    for (std::size_t i = 0; i < text.size();) {
      const Node* const first = nodes_.data() + node->first_child;
      const Node* const last = first + node->children;
      node =
          std::lower_bound(first, last, byte_at(text, i), [](const Node& n, unsigned char b) { return n.label < b; });
      if (node == last || node->label != byte_at(text, i)) break;
      const auto rest = std::string_view(rests_).substr(node->rest_begin, node->rest_size);
      if (!text.substr(i + 1).starts_with(rest)) break;
      i += 1 + rest.size();
      if (node->is_word) longest = i;
    }
    return longest;
  }

 private:
  struct Node {
    std::size_t rest_begin = 0;  // the bytes behind the label that all words of the node have: their place in rests_
    std::size_t rest_size = 0;
    std::uint32_t first_child = 0;
    std::uint16_t children = 0;
    unsigned char label = 0;
    bool is_word = false;
  };

  std::string rests_;
  std::vector<Node> nodes_;
  std::array<bool, 256> starts_{};
};

}}}  // namespace mistral::detail
