// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/json/json.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../support/scratch.hpp"

namespace {

using mistral::JsonObject;
using mistral::test::error_of;

JsonObject parsed(std::string_view text) { return JsonObject::parse(std::as_bytes(std::span(text)), "test", "a.json"); }

std::string parsing(std::string_view text) {
  return error_of([&] { parsed(text); });
}

}  // namespace

TEST_CASE("fields come with their types") {
  const JsonObject json = parsed(
      R"({"i": -3, "n": 7, "r": 1e-5, "b": true, "s": "a\u00e9", "none": null, "a": [1, 2], "t": ["x"], "o": {"i": 4}})");
  CHECK(json.integer("i", -5, 5) == -3);
  CHECK(json.number("r") == 1e-5);
  CHECK(json.number("i") == -3.0);
  CHECK(json.number("n") == 7.0);
  CHECK(json.boolean("b"));
  CHECK(json.string("s") == "a\xc3\xa9");
  CHECK(json.has("i"));
  CHECK(!json.has("none"));
  CHECK(!json.has("absent"));
  CHECK(json.integers("a", 0, 2) == std::vector<std::int64_t>{1, 2});
  CHECK(json.strings("t") == std::vector<std::string>{"x"});
  CHECK(json.object("o").integer("i", 4, 4) == 4);
  CHECK(json.object("o").names() == std::vector<std::string>{"i"});
  CHECK(parsed("{}").names().empty());
}

TEST_CASE("an array of objects gives each, and its errors say which it is") {
  const JsonObject json = parsed(R"({"a": [{"s": "x"}, {"s": 3}], "none": [], "mixed": [{}, 3]})");
  const std::vector<JsonObject> all = json.objects("a");
  REQUIRE(all.size() == 2);
  CHECK(all[0].string("s") == "x");
  CHECK(error_of([&] { all[1].string("s"); }) == "[test] a.json: a[1]: field 's': expected a string, got 3");
  CHECK(json.objects("none").empty());
  CHECK(error_of([&] { json.objects("mixed"); }) ==
        "[test] a.json: field 'mixed': expected an array of objects, got 3");
  CHECK(error_of([&] { json.objects("absent"); }) == "[test] a.json: field 'absent' is missing");
}

TEST_CASE("an object outlives the one that it came from") {
  const JsonObject inner = parsed(R"({"o": {"s": "text"}})").object("o");
  CHECK(inner.string("s") == "text");
}

TEST_CASE("a field that is missing or of another type is named with what was found") {
  const JsonObject json =
      parsed(R"({"s": "text", "i": 3, "big": 18446744073709551615, "r": 1.5, "none": null, "a": [1, "x"], "o": {}})");
  const auto integer = [&](const char* name) { return error_of([&] { json.integer(name, 0, 2); }); };
  CHECK(integer("absent") == "[test] a.json: field 'absent' is missing");
  CHECK(integer("s") == "[test] a.json: field 's': expected an integer from 0 to 2, got 'text'");
  CHECK(integer("i") == "[test] a.json: field 'i': expected an integer from 0 to 2, got 3");
  CHECK(integer("big") == "[test] a.json: field 'big': expected an integer from 0 to 2, got 18446744073709551615");
  CHECK(integer("r") == "[test] a.json: field 'r': expected an integer from 0 to 2, got 1.5");
  CHECK(integer("none") == "[test] a.json: field 'none': expected an integer from 0 to 2, got null");
  CHECK(integer("o") == "[test] a.json: field 'o': expected an integer from 0 to 2, got an object");
  CHECK(error_of([&] { json.integers("a", 0, 2); }) ==
        "[test] a.json: field 'a': expected an integer from 0 to 2, got 'x'");
  CHECK(error_of([&] { json.integers("i", 0, 2); }) ==
        "[test] a.json: field 'i': expected an array of integers, got 3");
  CHECK(error_of([&] { json.number("s"); }) == "[test] a.json: field 's': expected a number, got 'text'");
  CHECK(error_of([&] { json.boolean("i"); }) == "[test] a.json: field 'i': expected true or false, got 3");
  CHECK(error_of([&] { json.string("a"); }) == "[test] a.json: field 'a': expected a string, got an array");
  CHECK(error_of([&] { json.strings("a"); }) == "[test] a.json: field 'a': expected an array of strings, got 1");
  CHECK(error_of([&] { json.object("i"); }) == "[test] a.json: field 'i': expected an object, got 3");
  CHECK(error_of([&] { json.object("o").string("x"); }) == "[test] a.json: field 'o': field 'x' is missing");
}

TEST_CASE("what is not JSON is refused with its place") {
  CHECK(parsing("") == "[test] a.json: not valid JSON at byte 1 (line 1, column 1)");
  CHECK(parsing("{\"a\": 1,\n }") == "[test] a.json: not valid JSON at byte 11 (line 2, column 2)");
  CHECK(parsing("{\"a\": 1} x") == "[test] a.json: not valid JSON at byte 10 (line 1, column 10)");
  CHECK(parsing("{\"a\": NaN}") == "[test] a.json: not valid JSON at byte 7 (line 1, column 7)");
  CHECK(parsing("{\"a\": \"\xff\"}") == "[test] a.json: not valid JSON at byte 8 (line 1, column 8)");
  CHECK(parsing(std::string_view("{}\0", 3)) == "[test] a.json: not valid JSON at byte 3 (line 1, column 3)");
  CHECK(parsing("{\"a\": 1e999}") == "[test] a.json: holds a number that is too large");
  CHECK(parsing("[1]") == "[test] a.json: expected a JSON object, got an array");
  CHECK(parsing("3") == "[test] a.json: expected a JSON object, got 3");
}

TEST_CASE("a field that is there twice is refused, in the object that has it twice") {
  CHECK(parsing(R"({"a": 1, "b": 2, "a": 1})") == "[test] a.json: the field 'a' is there twice");
  CHECK(parsing(R"({"o": {"a": 1, "a": 1}})") == "[test] a.json: the field 'a' is there twice");
  CHECK(parsing(R"({"a\n": 1, "a\u000a": 2})") == "[test] a.json: the field 'a\\x0a' is there twice");
  CHECK(parsing(R"({"a": {"a": 1}, "b": {"a": 1}, "c": [{"a": 1}, {"a": 1}]})") == "no error");
}

TEST_CASE("nesting and numbers of values have an end") {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']') + "}";
  };
  CHECK(parsing(nested(63)) == "no error");
  CHECK(parsing(nested(64)) == "[test] a.json: nested deeper than 64 levels");
  CHECK(parsing(std::string(10'000'000, '[')) == "[test] a.json: nested deeper than 64 levels");
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"a\":";
  CHECK(parsing(objects) == "[test] a.json: nested deeper than 64 levels");

  std::string many = "{\"a\":[0";
  for (int i = 0; i < 1'000'000; ++i) many += ",0";
  CHECK(parsing(many + "]}") == "[test] a.json: more than 1000000 values");
}

TEST_CASE("a whole number that was written with a fraction of nothing is an integer, and no other is") {
  const JsonObject json = parsed(
      R"({"one": 1.0, "e": 2e3, "minus": -4.0, "zero": -0.0, "a": [1.0, 2], "half": 1.5, "large": 1e300, "odd": 9007199254740994.0})");
  CHECK(json.integer("one", 0, 2) == 1);
  CHECK(json.integer("e", 0, 5000) == 2000);
  CHECK(json.integer("minus", -5, 5) == -4);
  CHECK(json.integer("zero", 0, 2) == 0);
  CHECK(json.integers("a", 0, 2) == std::vector<std::int64_t>{1, 2});
  const auto refused = [&](const char* name) { return error_of([&] { json.integer(name, 0, INT64_MAX); }); };
  CHECK(refused("half").ends_with("got 1.5"));
  CHECK(refused("large").ends_with("got 1e+300"));
  CHECK(refused("odd").find("expected an integer") != std::string::npos);  // a double may not be what was written
  CHECK(error_of([&] { json.integer("e", 0, 10); }).ends_with("expected an integer from 0 to 10, got 2000"));
}

TEST_CASE("a reader of large files may allow more values, and asks whether an array begins with a string") {
  std::string text = R"({"strings": ["a", 1], "lists": [["a"]], "empty": [], "other": 1, "ones": [1)";
  for (std::size_t i = 1; i < JsonObject::max_values; ++i) text += ",1";
  text += "]}";
  const auto parse_it = [&](std::size_t most) {
    return JsonObject::parse(std::as_bytes(std::span(text)), "config", "f", most);
  };
  CHECK_THROWS_WITH_AS(parse_it(JsonObject::max_values), "[config] f: more than 1000000 values", mistral::Error);
  const JsonObject json = parse_it(2 * JsonObject::max_values);
  CHECK(json.holds_strings("strings"));
  for (const char* const name : {"lists", "empty", "other", "ones", "missing"}) CHECK_FALSE(json.holds_strings(name));
}

TEST_CASE("arrays of arrays of strings come row by row") {
  const JsonObject json = parsed(R"({"pairs": [["a", "b"], []], "flat": ["a"], "mixed": [["a", 3]]})");
  CHECK(json.string_lists("pairs") == std::vector<std::vector<std::string>>{{"a", "b"}, {}});
  CHECK(json.is_array("flat"));
  CHECK(!json.is_array("absent"));
  CHECK(error_of([&] { json.string_lists("flat"); }) ==
        "[test] a.json: field 'flat': expected an array of arrays of strings, got 'a'");
  CHECK(error_of([&] { json.string_lists("mixed"); }) ==
        "[test] a.json: field 'mixed': expected an array of arrays of strings, got 3");
}
