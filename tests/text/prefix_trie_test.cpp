// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/prefix_trie.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "../support/rounds.hpp"

using mistral::detail::PrefixTrie;

TEST_CASE("a trie finds the longest word that a text starts with") {
  std::mt19937 random(2);
  const auto word = [&](std::size_t longest) {
    std::string text;
    for (std::size_t n = 1 + random() % longest; n > 0; --n) text += "ab\xff"[random() % 3];
    return text;
  };
  for (int round = 0; round < mistral::test::rounds(300); ++round) {
    std::set<std::string> words;
    const std::string common = round % 3 == 0 ? word(40) : "";  // what all words begin with
    for (std::size_t n = random() % 20; n > 0; --n) words.insert(common + word(6));
    const PrefixTrie trie(std::vector<std::string_view>(words.begin(), words.end()));
    CHECK(trie.empty() == words.empty());
    for (int i = 0; i < 20; ++i) {
      const std::string text = (i % 4 == 0 ? "" : common.substr(0, random() % 50)) + word(9);
      std::size_t longest = 0;
      bool starts = false;
      for (const std::string& w : words) {
        if (text.starts_with(w)) longest = std::max(longest, w.size());
        starts = starts || w[0] == text[0];
      }
      CHECK(trie.match(text) == longest);
      CHECK(trie.starts_with(static_cast<unsigned char>(text[0])) == starts);
    }
  }
}

TEST_CASE("a trie without words matches nothing") {
  CHECK(PrefixTrie().empty());
  CHECK(PrefixTrie().match("abc") == 0);
  CHECK(PrefixTrie().match("") == 0);
}
