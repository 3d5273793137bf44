// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/json/writer.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/io/json/parser.hpp>

#include "../support/death.hpp"
#include "../support/german_locale.hpp"
#include "../support/json_oracle.hpp"
#include "../support/rounds.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::JsonStyle;
using mistral::JsonWriter;
using mistral::Random;
using mistral::test::error_of;

/// A random document as nlohmann-json holds it.
class Documents {
 public:
  explicit Documents(std::uint64_t seed) : random_(seed) {}

  nlohmann::json next(int depth = 0) {
    const std::uint64_t kind = below(depth < 4 ? 9 : 6);
    if (kind == 0) return nullptr;
    if (kind == 1) return below(2) == 0;
    if (kind == 2) return static_cast<std::int64_t>(random_.next() >> below(64));
    if (kind == 3) return static_cast<std::uint64_t>(random_.next());
    if (kind == 4) return real();
    if (kind == 5) return text();
    const std::uint64_t count = below(5);
    if (kind == 6) {
      nlohmann::json array = nlohmann::json::array();
      for (std::uint64_t i = 0; i < count; ++i) array.push_back(next(depth + 1));
      return array;
    }
    nlohmann::json object = nlohmann::json::object();
    for (std::uint64_t i = 0; i < count; ++i) object[text()] = next(depth + 1);
    return object;
  }

 private:
  std::uint64_t below(std::uint64_t end) { return random_.next() % end; }

  double real() {
    for (;;) {
      const auto x = std::bit_cast<double>(random_.next());
      if (std::isfinite(x)) return below(2) == 0 ? x : static_cast<double>(static_cast<std::int64_t>(below(1000))) / 8;
    }
  }

  std::string text() {
    constexpr std::array<std::string_view, 12> parts{
        "a", "\"", "\\", "/", "\n", "\x01", "\x1f", "\x7f", "\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x98\x80", "key"};
    std::string text;
    for (std::uint64_t i = below(6); i > 0; --i) text += parts[static_cast<std::size_t>(below(parts.size()))];
    if (below(8) == 0) text += '\0';
    return text;
  }

  Random random_;
};

void write(JsonWriter& json, const nlohmann::json& value) {
  using Type = nlohmann::json::value_t;
  switch (value.type()) {
    case Type::object:
      json.begin_object();
      for (const auto& [name, field] : value.items()) write(json.name(name), field);
      json.end_object();
      break;
    case Type::array:
      json.begin_array();
      for (const nlohmann::json& element : value) write(json, element);
      json.end_array();
      break;
    case Type::string:
      json.value(value.get_ref<const std::string&>());
      break;
    case Type::boolean:
      json.value(value.get<bool>());
      break;
    case Type::number_integer:
      json.value(value.get<std::int64_t>());
      break;
    case Type::number_unsigned:
      json.value(value.get<std::uint64_t>());
      break;
    case Type::number_float:
      json.value(value.get<double>());
      break;
    default:
      json.value(nullptr);
  }
}

std::string written(const nlohmann::json& value, JsonStyle style) {
  JsonWriter json(style);
  write(json, value);
  return json.text();
}

/// How many of a number of random documents another reader, and ours, read as they were.
int round_trips(int count) {
  Documents documents(7);
  int good = 0;
  for (int i = 0; i < count; ++i) {
    const nlohmann::json value = documents.next();
    const bool lines = i % 2 == 0;
    const std::string text = written(value, lines ? JsonStyle::lines : JsonStyle::compact);
    CAPTURE(text);
    const nlohmann::json theirs = nlohmann::json::parse(text, nullptr, false);
    CHECK(theirs == value);
    const mistral::JsonDocument ours = mistral::parse_json(text, "test", "a.json");
    CHECK(mistral::test::same_json(ours, ours.root, theirs));
    if (theirs == value) ++good;
  }
  return good;
}

template <class T>
std::string number(T x) {
  return JsonWriter().value(x).text();
}

}  // namespace

TEST_CASE("a compact text has no white space, and one of lines a line for each field") {
  const auto write_all = [](JsonStyle style) {
    JsonWriter json(style);
    json.begin_object().field("name", "a\"\n\\").field("rank", 8).field("alpha", 0.5f).field("none", nullptr);
    json.field("yes", true).name("targets").values(std::vector<std::string>{"q_proj", "v_proj"});
    json.name("ranks").begin_object().field("a", 1).field("b", 2).end_object().name("empty").begin_array().end_array();
    return json.end_object().text();
  };
  CHECK(write_all(JsonStyle::compact) ==
        R"({"name":"a\"\u000a\\","rank":8,"alpha":0.5,"none":null,"yes":true,"targets":["q_proj","v_proj"],)"
        R"("ranks":{"a":1,"b":2},"empty":[]})");
  CHECK(write_all(JsonStyle::lines) ==
        "{\n  \"name\": \"a\\\"\\u000a\\\\\",\n  \"rank\": 8,\n  \"alpha\": 0.5,\n  \"none\": null,\n  \"yes\": true,\n"
        "  \"targets\": [\"q_proj\", \"v_proj\"],\n  \"ranks\": {\"a\": 1, \"b\": 2},\n  \"empty\": []\n}\n");
  CHECK(JsonWriter().begin_object().end_object().text() == "{}");
  CHECK(JsonWriter(JsonStyle::lines).begin_object().end_object().text() == "{}\n");
  CHECK(JsonWriter().value("alone").text() == "\"alone\"");
}

TEST_CASE("random documents are read as they were written, by nlohmann-json and by this library") {
  const int count = mistral::test::rounds(5000);
  CHECK(round_trips(count) == count);
}

TEST_CASE("a text is the same where the locale has a decimal comma") {
  const mistral::test::GermanLocale locale;
  if (!locale) return;
  CHECK(number(1234567.5) == "1234567.5");
  CHECK(number(1e-5f) == "1e-05");
  CHECK(number(1000000) == "1000000");
  const int count = mistral::test::rounds(200);
  CHECK(round_trips(count) == count);
}

TEST_CASE("a number is the shortest text that reads as the same number of its type") {
  CHECK(number(0.1f) == "0.1");
  CHECK(number(0.1) == "0.1");
  CHECK(number(static_cast<double>(0.1f)) == "0.10000000149011612");
  CHECK(number(1e6f) == "1000000");
  CHECK(number(std::numeric_limits<double>::denorm_min()) == "5e-324");
  CHECK(number(std::numeric_limits<std::int64_t>::min()) == "-9223372036854775808");
  CHECK(number(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
  CHECK(number(std::int8_t{-7}) == "-7");
  Random random(3);
  for (int i = mistral::test::rounds(10000); i > 0; --i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
    if (!std::isfinite(x) || x == 0.0f) continue;
    CAPTURE(x);
    CHECK(nlohmann::json::parse(number(x)).get<float>() == x);
  }
}

TEST_CASE("what JSON can't hold is refused by name") {
  CHECK(error_of([] { JsonWriter().value(std::numeric_limits<float>::infinity()); }) ==
        "[json] a number to write: expected a finite one, got inf");
  CHECK(error_of([] { JsonWriter().value(-std::numeric_limits<double>::quiet_NaN()); }) ==
        "[json] a number to write: expected a finite one, got nan");
  // a byte that starts nothing, a character that is cut, an overlong form, half a pair of UTF-16
  for (const std::string_view bad : {"a\xff", "\xe2\x96", "\xc0\xaf", "\xed\xa0\x80"}) {
    CHECK(error_of([&] {
            JsonWriter().value(bad);
          }).starts_with("[json] a string to write: expected UTF-8, got the byte \\x"));
    CHECK(error_of([&] { JsonWriter().begin_object().name(bad); }).starts_with("[json] "));
  }
}

#ifndef NDEBUG
TEST_CASE("a text that doesn't nest is an assertion") {
  using mistral::test::assertion_of;
  const auto asserts = [](auto&& action) { return assertion_of(action).find("Assertion") != std::string::npos; };
  CHECK(asserts([] { JsonWriter().end_object(); }));
  CHECK(asserts([] { JsonWriter().begin_object().end_array(); }));
  CHECK(asserts([] { JsonWriter().begin_object().value(1); }));
  CHECK(asserts([] { JsonWriter().begin_array().name("a"); }));
  CHECK(asserts([] { JsonWriter().begin_object().name("a").name("b"); }));
  CHECK(asserts([] { JsonWriter().begin_object().name("a").end_object(); }));
  CHECK(asserts([] { JsonWriter().value(1).value(2); }));
  CHECK(asserts([] { JsonWriter().begin_array().text(); }));
  CHECK(!asserts([] { JsonWriter().begin_array().value(1).end_array().text(); }));
}
#endif
