// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/json/parser.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/core/random.hpp>

#include "../support/json_oracle.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::JsonDocument;
using mistral::JsonValue;
using mistral::parse_json;
using mistral::Random;
using mistral::test::error_of;
using mistral::test::JsonOracle;
using mistral::test::same_json;

std::string parsing(std::string_view text) {
  return error_of([&] { parse_json(text, "test", "a.json"); });
}

/// What is refused at the byte `place`, counted from 1, of a text of one line.
std::string refused_at(std::size_t place) {
  const std::string at = std::to_string(place);
  return "[test] a.json: not valid JSON at byte " + at + " (line 1, column " + at + ")";
}

/// Whether nlohmann-json and we agree on a text; `accepted` is told what we think of it.
bool agrees(std::string_view text, bool& accepted) {
  const JsonOracle oracle = JsonOracle::read(text);
  std::optional<JsonDocument> ours;
  try {
    ours = parse_json(text, "test", "a.json");
  } catch (const mistral::Error&) {
  }
  accepted = ours.has_value();
  if (accepted != oracle.accepts()) return false;
  return !accepted || same_json(*ours, ours->root, oracle.value);
}

bool agrees(std::string_view text) {
  bool accepted = false;
  return agrees(text, accepted);
}

std::string in_quotes(std::string_view inside) { return std::string("\"").append(inside).append("\""); }

/// Random texts, mostly JSON: every rule of the grammar, and the numbers and characters at its edges.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed) {}

  std::string document() {
    std::string text = one_in(20) ? "\xef\xbb\xbf" : "";
    value(text, 0);
    space(text);
    return text;
  }

  /// A few bytes changed, lost, doubled, or replaced with what means something in JSON.
  std::string mutated(std::string text) {
    for (std::size_t changes = 1 + below(3); changes-- > 0;) {
      const std::size_t at = below(text.size() + 1);
      const std::size_t length = below(4);
      switch (below(6)) {
        case 0:
          text.insert(at, 1, static_cast<char>(below(256)));
          break;
        case 1:
          text.erase(at, length);
          break;
        case 2:
          text.insert(at, text.substr(below(text.size() + 1), length));
          break;
        case 3:
          if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
          break;
        case 4:
          text.insert(at, 1, pick("{}[]\",:\\/+-.eE0123456789utfnabd \t\n\r\v\f"));
          break;
        default:
          text.resize(at);
      }
    }
    return text;
  }

 private:
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_.next() % n); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  char pick(std::string_view characters) { return characters[below(characters.size())]; }

  void space(std::string& text) {
    while (one_in(5)) text += pick(" \t\n\r");
  }

  void value(std::string& text, int depth) {
    space(text);
    switch (below(depth < 5 ? 9 : 7)) {
      case 0:
        text += one_in(2) ? "null" : one_in(2) ? "true" : "false";
        break;
      case 1:
      case 2:
        string(text);
        break;
      case 3:
      case 4:
      case 5:
      case 6:
        number(text);
        break;
      case 7:
        text += '[';
        for (std::size_t i = 0, n = below(5); i < n; ++i) {
          if (i > 0) text += ',';
          value(text, depth + 1);
          space(text);
        }
        text += ']';
        break;
      default:
        text += '{';
        for (std::size_t i = 0, n = below(5); i < n; ++i) {
          if (i > 0) text += ',';
          space(text);
          string(text);
          space(text);
          text += ':';
          value(text, depth + 1);
          space(text);
        }
        text += '}';
    }
  }

  void digits(std::string& text, std::size_t most) {
    for (std::size_t n = 1 + below(most); n-- > 0;) text += pick("0123456789");
  }

  void number(std::string& text) {
    static constexpr std::string_view edges[] = {"9223372036854775807",
                                                 "9223372036854775808",
                                                 "-9223372036854775808",
                                                 "-9223372036854775809",
                                                 "18446744073709551615",
                                                 "18446744073709551616",
                                                 "-0",
                                                 "0e99999999999999999999",
                                                 "-0.0",
                                                 "1.7976931348623157e308",
                                                 "1.7976931348623159e308",
                                                 "4.9406564584124654e-324",
                                                 "2.4703282292062327e-324",
                                                 "2.4703282292062328e-324",
                                                 "2.2250738585072011e-308",
                                                 "9007199254740993",
                                                 "9007199254740993.0"};
    if (one_in(4)) {
      text += edges[below(std::size(edges))];
      return;
    }
    if (one_in(3)) text += '-';
    if (one_in(4)) {
      text += '0';
    } else {
      text += pick("123456789");
      if (!one_in(3)) digits(text, one_in(20) ? 400 : 20);
    }
    if (one_in(2)) {
      text += '.';
      if (one_in(8)) text.append(below(330), '0');
      digits(text, one_in(20) ? 900 : 20);
    }
    if (one_in(2)) {
      text += pick("eE");
      if (one_in(2)) text += pick("+-");
      digits(text, one_in(10) ? 25 : 3);
    }
  }

  void string(std::string& text) {
    text += '"';
    for (std::size_t n = below(6); n-- > 0;) {
      switch (below(6)) {
        case 0:
          text.append("\\").append(1, pick("\"\\/bfnrt"));
          break;
        case 1:
          unit(text, below(0x10000));
          break;
        case 2:
          unit(text, 0xd800 + below(0x400));
          unit(text, 0xdc00 + below(0x400));
          break;
        case 3:
          utf8(text);
          break;
        default:
          text += pick("abc 0\x7f{}[]:,");
      }
    }
    text += '"';
  }

  void unit(std::string& text, std::size_t code) {
    text += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) {
      text += one_in(2) ? "0123456789abcdef"[code >> shift & 15] : "0123456789ABCDEF"[code >> shift & 15];
    }
  }

  void utf8(std::string& text) {  // the first and last characters of each row of Unicode's table 3-7
    static constexpr std::string_view characters[] = {
        "\xc2\x80",         "\xdf\xbf",         "\xe0\xa0\x80",     "\xe0\xbf\xbf",
        "\xe1\x80\x80",     "\xec\xbf\xbf",     "\xed\x80\x80",     "\xed\x9f\xbf",
        "\xee\x80\x80",     "\xef\xbf\xbf",     "\xf0\x90\x80\x80", "\xf0\xbf\xbf\xbf",
        "\xf1\x80\x80\x80", "\xf3\xbf\xbf\xbf", "\xf4\x80\x80\x80", "\xf4\x8f\xbf\xbf"};
    text += characters[below(std::size(characters))];
  }

  Random random_;
};

}  // namespace

TEST_CASE("random texts mean what they mean to nlohmann-json, whole and damaged") {
  Generator generator(1);
  int whole = 0;
  int damaged = 0;
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = generator.document();
    bool accepted = false;
    CHECK_MESSAGE(agrees(text, accepted), text);
    whole += accepted;
    const std::string other = generator.mutated(text);
    CHECK_MESSAGE(agrees(other, accepted), other);
    damaged += accepted;
    refused += !accepted;
  }
  CHECK(whole > 10'000);  // the others hold half of a pair, a number that is too large, or a name twice
  CHECK(damaged > 2'000);
  CHECK(refused > 5'000);
}

TEST_CASE("bytes are UTF-8 where nlohmann-json takes them for it") {
  // the bytes at which a row of Unicode's table 3-7 begins or ends, and their neighbours
  constexpr std::string_view bytes(
      "\x01\x1f\x20\x22\x5c\x7f\x80\x81\x8f\x90\x91\x9f\xa0\xa1\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3"
      "\xf4\xf5\xff");
  for (const char a : bytes) {
    CHECK(agrees(in_quotes(std::string{a})));
    for (const char b : bytes) {
      CHECK(agrees(in_quotes(std::string{a, b})));
      for (const char c : bytes) CHECK(agrees(in_quotes(std::string{a, b, c})));
    }
  }
  for (const char a : {'\xf0', '\xf1', '\xf3', '\xf4', '\xf5'}) {
    for (const char b : bytes) {
      for (const char c : {'\x7f', '\x80', '\xbf', '\xc0'}) {
        for (const char d : {'\x7f', '\x80', '\xbf', '\xc0'}) CHECK(agrees(in_quotes(std::string{a, b, c, d})));
      }
    }
  }
}

TEST_CASE("numbers keep all that 64 bits or a double can hold") {
  const auto value = [](std::string_view text) { return parse_json(text, "test", "a.json").root; };
  CHECK(value("-9223372036854775808").integer == INT64_MIN);
  CHECK(value("9223372036854775807").integer == INT64_MAX);
  CHECK(value("9223372036854775808").natural == std::uint64_t{1} << 63);
  CHECK(value("18446744073709551615").natural == UINT64_MAX);
  CHECK(value("18446744073709551616").real == 0x1p64);
  CHECK(value("-9223372036854775809").real == -0x1p63);
  CHECK(value("-0").type == JsonValue::Type::integer);
  CHECK(value("1e2").type == JsonValue::Type::real);
  CHECK(value("9007199254740993.0").real == 9007199254740992.0);
  CHECK(value("1e-400").real == 0.0);
  CHECK(agrees("-1e-400"));
  CHECK(agrees("1e-99999999999999999999999"));
  CHECK(agrees("0e99999999999999999999999"));
  CHECK(agrees("0." + std::string(5000, '0') + "1e5001"));
  CHECK(agrees("0." + std::string(5000, '0') + "1e4000"));
  CHECK(agrees("0." + std::string(5000, '0') + "1e6000"));
  CHECK(agrees("1" + std::string(5000, '0') + "e-5000"));
  CHECK(agrees("1" + std::string(5000, '0') + "e-6000"));
  CHECK(agrees("1" + std::string(5000, '0') + "e-4000"));
  CHECK(agrees("1" + std::string(5000, '0')));
}

TEST_CASE("a number beyond a double is refused") {
  constexpr std::string_view too_large = "[test] a.json: holds a number that is too large";
  CHECK(parsing("1e309") == too_large);
  CHECK(parsing("-1e309") == too_large);
  CHECK(parsing("1e99999999999999999999999") == too_large);
  CHECK(parsing("0.0001e313") == too_large);
  CHECK(parsing("1" + std::string(309, '0')) == too_large);
}

TEST_CASE("what RFC 8259 does not know is refused at its first byte") {
  CHECK(parsing("[1,]") == refused_at(4));
  CHECK(parsing("[,1]") == refused_at(2));
  CHECK(parsing("[1 2]") == refused_at(4));
  CHECK(parsing("[1") == refused_at(3));
  CHECK(parsing("[1}") == refused_at(3));
  CHECK(parsing("{\"a\":1,}") == refused_at(8));
  CHECK(parsing("{\"a\" 1}") == refused_at(6));
  CHECK(parsing("{\"a\"}") == refused_at(5));
  CHECK(parsing("{\"a\":}") == refused_at(6));
  CHECK(parsing("{a:1}") == refused_at(2));
  CHECK(parsing("{'a':1}") == refused_at(2));
  CHECK(parsing("[1] // no") == refused_at(5));
  CHECK(parsing("/**/ 1") == refused_at(1));
  CHECK(parsing("1\v") == refused_at(2));
  CHECK(parsing("nul") == refused_at(4));
  CHECK(parsing("nulL") == refused_at(4));
  CHECK(parsing("truefalse") == refused_at(5));
  CHECK(parsing("Infinity") == refused_at(1));
  CHECK(parsing("-Infinity") == refused_at(2));
  CHECK(parsing("01") == refused_at(2));
  CHECK(parsing("-01") == refused_at(3));
  CHECK(parsing("+1") == refused_at(1));
  CHECK(parsing(".5") == refused_at(1));
  CHECK(parsing("5.") == refused_at(3));
  CHECK(parsing("5.e1") == refused_at(3));
  CHECK(parsing("1e") == refused_at(3));
  CHECK(parsing("1e+") == refused_at(4));
  CHECK(parsing("0x10") == refused_at(2));
  CHECK(parsing("\"a") == refused_at(3));
  CHECK(parsing("\"a\nb\"") == "[test] a.json: not valid JSON at byte 3 (line 1, column 3)");
  CHECK(parsing("\n\n \"a\tb\"") == "[test] a.json: not valid JSON at byte 6 (line 3, column 4)");
}

TEST_CASE("escapes are those of RFC 8259, and a half of a surrogate pair is refused where it begins") {
  const auto text = [](std::string_view inside) {
    const JsonDocument document = parse_json(in_quotes(inside), "test", "a.json");
    return document.text_of(document.root);
  };
  CHECK(text(R"(\"\\\/\b\f\n\r\t)") == "\"\\/\b\f\n\r\t");
  CHECK(text(R"(\u0041\u00e9\u20AC\ud83d\ude00\uD800\uDC00\udbff\udfff)") ==
        "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
  CHECK(text(R"(a\u0000b)") == std::string_view("a\0b", 3));
  CHECK(parsing(R"("\x")") == refused_at(3));
  CHECK(parsing(R"("\u00g0")") == refused_at(6));
  CHECK(parsing(R"("\u00)") == refused_at(6));
  CHECK(parsing(R"("ab\ud800")") == refused_at(4));
  CHECK(parsing(R"("ab\udc00\ud800")") == refused_at(4));
  CHECK(parsing(R"("\ud800\u0041")") == refused_at(2));
  CHECK(parsing(R"("\ud800\ud800")") == refused_at(2));
  CHECK(parsing(R"("\ud800\n")") == refused_at(2));
}

TEST_CASE("a byte order mark is passed over in front, and nowhere else") {
  CHECK(parsing("\xef\xbb\xbf{}") == "no error");
  CHECK(parsing("\xef\xbb\xbf \xef\xbb\xbf{}") == refused_at(5));
  CHECK(parsing("\xef\xbb{}") == refused_at(1));
  CHECK(parsing("\xef\xbb\xbf") == refused_at(4));
}

TEST_CASE("the limits hold to the value, and no further") {
  std::string many = "[0";
  for (std::size_t i = 2; i < JsonDocument::max_values; ++i) many += ",0";
  CHECK(parsing(many + "]") == "no error");
  CHECK(parsing(many + ",0]") == "[test] a.json: more than 1000000 values");
  const std::string deep(JsonDocument::max_depth, '[');
  CHECK(parsing(deep + std::string(JsonDocument::max_depth, ']')) == "no error");
  CHECK(parsing("[" + deep) == "[test] a.json: nested deeper than 64 levels");
}

TEST_CASE("fields are found by name among very many, and sorted by their bytes") {
  std::string text = "{\"\\u0000\":-1";
  for (int i = 199'999; i >= 0; --i) text += ",\"f" + std::to_string(i) + "\":" + std::to_string(i);
  const JsonDocument document = parse_json(text + ",\"\xc3\xa9\":-2}", "test", "a.json");
  const auto fields = document.children(document.root);
  REQUIRE(fields.size() == 200'002);
  CHECK(document.name_of(fields.front()) == std::string(1, '\0'));
  CHECK(document.name_of(fields.back()) == "\xc3\xa9");
  for (const int i : {0, 1, 99'999, 199'999}) {
    const JsonValue* const field = document.find(document.root, "f" + std::to_string(i));
    REQUIRE(field != nullptr);
    CHECK(field->integer == i);
  }
  CHECK(document.find(document.root, "f200000") == nullptr);
  CHECK(document.find(document.root, "") == nullptr);
}
