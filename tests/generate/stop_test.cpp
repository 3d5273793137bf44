// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/random.hpp>
#include <mistral/generate/stop.hpp>

using mistral::Random;
using mistral::StopStrings;

namespace {

struct Outcome {
  std::string shown;
  std::string matched;
  bool stopped = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// The definition, by trying every end and every string in the whole text.
Outcome search(const std::vector<std::string>& strings, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::string> longest;
    for (const std::string& s : strings) {
      const bool ends_here = s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0;
      if (ends_here && (!longest || s.size() > longest->size())) longest = s;
    }
    if (longest) return {text.substr(0, end - longest->size()), *longest, true};
  }
  return {text, "", false};
}

std::size_t below(Random& random, std::size_t n) { return static_cast<std::size_t>(random.next() % n); }

std::string letters(Random& random, std::size_t length, std::size_t alphabet) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) text += static_cast<char>('a' + below(random, alphabet));
  return text;
}

}  // namespace

TEST_CASE("text before a stop string is shown, the string and the rest are not") {
  StopStrings stop({"</s>", "\n\n"});
  CHECK(stop.push("Hello") == "Hello");
  CHECK(stop.push(" world<") == " world");
  CHECK_FALSE(stop.stopped());
  CHECK(stop.push("/s") == "");
  CHECK(stop.push("> and more") == "");
  CHECK(stop.stopped());
  CHECK(stop.matched() == "</s>");
  CHECK(stop.push("\n\nignored") == "");
  CHECK(stop.flush() == "");
  CHECK(stop.stopped());
}

TEST_CASE("what was held back is shown as soon as it can't be a stop string any more") {
  StopStrings stop({"aab"});
  CHECK(stop.push("a") == "");
  CHECK(stop.push("a") == "");
  CHECK(stop.push("a") == "a");  // "aa" still waits
  CHECK(stop.push("c") == "aac");
  CHECK(stop.push("xa") == "x");
  CHECK(stop.flush() == "a");
  CHECK(stop.push("ab") == "ab");  // a new text: the flushed "a" is no part of it
  CHECK_FALSE(stop.stopped());
}

TEST_CASE("the match that ends first counts, and the longest of those that end there") {
  StopStrings inner({"abcd", "bc"});
  CHECK(inner.push("xabcd") == "xa");
  CHECK(inner.matched() == "bc");
  StopStrings longest({"c", "bc", "abc"});
  CHECK(longest.push("xabcd") == "x");
  CHECK(longest.matched() == "abc");
}

TEST_CASE("no stop strings, no stop; an empty one is an error; reset starts again") {
  StopStrings none;
  CHECK(none.push("any text") == "any text");
  CHECK(none.push(std::string_view("\0\xff", 2)) == std::string("\0\xff", 2));
  CHECK_FALSE(none.stopped());
  CHECK(none.matched().empty());
  CHECK_THROWS_WITH_AS(StopStrings({"a", ""}), "[stop] strings[1]: expected text, got nothing", mistral::Error);

  StopStrings stop({"ab"});
  CHECK(stop.push("xab") == "x");
  stop.reset();
  CHECK_FALSE(stop.stopped());
  CHECK(stop.push("b") == "b");
  CHECK(stop.push("a") == "");
  stop.reset();
  CHECK(stop.push("b") == "b");
}

TEST_CASE(
    "whatever the pieces, a stream shows what a search of the whole text shows, and holds back no more than it must") {
  Random random{11};
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::size_t alphabet = 1 + below(random, 3);
    std::vector<std::string> strings(below(random, 4));
    for (std::string& s : strings) s = letters(random, 1 + below(random, 6), alphabet);
    const std::string text = letters(random, below(random, 30), alphabet);
    const Outcome expected = search(strings, text);

    StopStrings stop(strings);
    Outcome outcome;
    std::string given;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = below(random, 5);  // empty pieces too
      const std::string piece = text.substr(at, length);
      outcome.shown += stop.push(piece);
      given += piece;
      at += length;
      if (stop.stopped()) continue;
      // Held back: the longest end of what was given that is a beginning of a string.
      std::size_t held = 0;
      for (const std::string& s : strings) {
        for (std::size_t n = 1; n < s.size() && n <= given.size(); ++n) {
          if (n > held && given.compare(given.size() - n, n, s, 0, n) == 0) held = n;
        }
      }
      REQUIRE(outcome.shown == given.substr(0, given.size() - held));
    }
    outcome.shown += stop.flush();
    outcome.stopped = stop.stopped();
    outcome.matched = stop.matched();
    stopped += outcome.stopped;
    CAPTURE(text);
    REQUIRE(outcome == expected);
  }
  CHECK(stopped > 5000);
  CHECK(stopped < 19000);
}

TEST_CASE("a long stop string that repeats itself costs time in proportion to the text") {
  const std::size_t length = 200000;  // a search that starts over at each mismatch would compare 2e10 bytes
  StopStrings stop({std::string(length, 'a') + 'b'});
  std::string shown;
  for (int i = 0; i < 8; ++i) shown += stop.push(std::string(length / 2, 'a'));
  CHECK(shown == std::string(3 * length, 'a'));
  CHECK(stop.push("b").empty());
  CHECK(stop.stopped());
}
