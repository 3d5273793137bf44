// SPDX-License-Identifier: Apache-2.0
#include <mistral/core/printable.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <random>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>

#include "../support/clean_message.hpp"
#include "../support/rounds.hpp"

using mistral::printable;
using mistral::printable_lines;

TEST_CASE("what can be read is shown as it is") {
  const std::string text = "plain text, 'quotes' \\ \xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80 \xE2\x96\x81";
  CHECK(printable(text) == text);
  CHECK(printable_lines("two\tcolumns\n" + text) == "two\tcolumns\n" + text);
  CHECK(printable("").empty());
}

TEST_CASE("what drives a terminal, turns text round, ends a line or hides is shown as an escape") {
  CHECK(printable(std::string("\0\t\n\r\x1b[2J\x7f", 9)) == "\\x00\\x09\\x0a\\x0d\\x1b[2J\\x7f");
  CHECK(printable("\xC2\x9B"
                  "31m") == "\\u009b31m");  // CSI, as terminals with 8-bit controls have it
  CHECK(printable("\xC2\x80\xC2\x85\xC2\x9F") == "\\u0080\\u0085\\u009f");
  CHECK(printable("\xE2\x80\xAEkcatta\xE2\x80\xA8line") == "\\u202ekcatta\\u2028line");
  CHECK(printable("\xE2\x80\xA9\xE2\x80\xAA\xE2\x81\xA6\xE2\x81\xA9") == "\\u2029\\u202a\\u2066\\u2069");
  CHECK(printable("\xD8\x9C\xE2\x80\x8E\xE2\x80\x8F") == "\\u061c\\u200e\\u200f");  // marks of direction
  CHECK(printable("a\xE2\x80\x8B\xE2\x80\x8D"
                  "b\xEF\xBB\xBF\xC2\xAD") == "a\\u200b\\u200db\\ufeff\\u00ad");        // no width at all
  CHECK(printable("\xE3\x85\xA4\xEF\xB7\x90\xEF\xBF\xBF") == "\\u3164\\ufdd0\\uffff");  // a filler, two noncharacters
  CHECK(printable("\xF3\xA0\x81\x81\xF0\x9F\xBF\xBE") == "\\U000e0041\\U0001fffe");     // a tag, a noncharacter
}

TEST_CASE("bytes that belong to no character are shown as escapes") {
  CHECK(printable("a\x9B\xFF\xC3") == "a\\x9b\\xff\\xc3");
  CHECK(printable("\xC0\x9B\xED\xA0\x80") == "\\xc0\\x9b\\xed\\xa0\\x80");  // an overlong form, a surrogate
}

TEST_CASE("a text that is cut ends between two characters") {
  CHECK(printable("abc", 3) == "abc");
  CHECK(printable("abcd", 3) == "abc...");
  CHECK(printable("ab\xC3\xA9", 4) == "ab\xC3\xA9");
  CHECK(printable("ab\xC3\xA9z", 3) == "ab...");
  CHECK(printable("ab\xC3\xA9z", 4) == "ab\xC3\xA9...");
}

TEST_CASE("lines for a terminal keep their newlines and tabs, and what joins letters and emoji") {
  CHECK(printable_lines("a\r\n\tb\x1b]0;title\x07") == "a\\x0d\n\tb\\x1b]0;title\\x07");
  CHECK(printable_lines("\xC2\x9B"
                        "2J\xE2\x80\xAE\xE2\x81\xA7") == "\\u009b2J\\u202e\\u2067");
  CHECK(printable_lines("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA6") ==
        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA6");
  CHECK(printable_lines("\xFE") == "\\xfe");
}

TEST_CASE("whatever is quoted, a message is one line that can be seen") {
  std::mt19937 random(3);
  for (int round = 0; round < mistral::test::rounds(3000); ++round) {
    std::string any;
    for (std::size_t n = random() % 30; n > 0; --n) {
      constexpr std::string_view leads = "\xC2\xD8\xE2\xE3\xEF\xF3\xFF";
      any += random() % 3 == 0 ? leads[random() % leads.size()] : static_cast<char>(random() % 256);
    }
    CAPTURE(any);
    CHECK(mistral::test::is_clean(printable(any)));
    CHECK(mistral::test::is_clean(printable(any, random() % 30)));
    CHECK(mistral::test::is_clean(mistral::Error(any, any).what()));
    CHECK(mistral::test::is_clean(mistral::Error("where", any, any, any).what()));
  }
}

TEST_CASE("an error says what it is told, without a limit") {
  const std::string path(5000, 'p');
  CHECK(std::string_view(mistral::Error("where", path, "x", "y\n").what()) ==
        "[where] " + path + ": expected x, got y\\x0a");
}
