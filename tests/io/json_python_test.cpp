// SPDX-License-Identifier: Apache-2.0
// JSON as Python reads and writes it: what is expected here was printed by Python 3.11's json.
#include <mistral/io/json/python.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <string_view>

#include <mistral/io/json/json.hpp>

#include "../support/scratch.hpp"

namespace {

using mistral::JsonDialect;
using mistral::parse_json;
using mistral::test::error_of;

std::optional<std::string> again(std::string_view text) { return mistral::python_json(text, "test", "a"); }

}  // namespace

TEST_CASE("numbers are written as Python's repr has them") {
  const auto check = [](std::string_view text, std::string_view written) {
    CAPTURE(text);
    CHECK(again(text) == written);
  };
  check("22.50", "22.5");
  check("7.0", "7.0");
  check("1e5", "100000.0");
  check("1E-7", "1e-07");
  check("1e15", "1000000000000000.0");
  check("1e16", "1e+16");
  check("1.5e300", "1.5e+300");
  check("0.0001", "0.0001");
  check("0.00001", "1e-05");
  check("-0.0", "-0.0");
  check("-0", "0");
  check("5e-324", "5e-324");
  check("1e-400", "0.0");
  check("1.7976931348623157e308", "1.7976931348623157e+308");
  check("9007199254740993.0", "9007199254740992.0");
  check("9007199254740993", "9007199254740993");
  check("18446744073709551615", "18446744073709551615");
  check("100000000000000000000", "100000000000000000000");
  check("-100000000000000000000", "-100000000000000000000");
  check("1e400", "Infinity");
  check("-1e400", "-Infinity");
  check("NaN", "NaN");
  check("[Infinity,-Infinity]", "[Infinity, -Infinity]");
  const std::string digits(4300, '9');
  check(digits, digits);
  CHECK(error_of([&] { again(digits + "9"); }) == "[test] a: holds a whole number of more than 4300 digits");
}

TEST_CASE("texts keep what is beyond ASCII, and escape quotes, backslashes and controls") {
  CHECK(again(R"("\u00e9 \ud83d\ude00 \/ \" \\ \b\f\n\r\t \u0001 \u001f \u007f")") ==
        "\"\xc3\xa9 \xf0\x9f\x98\x80 / \\\" \\\\ \\b\\f\\n\\r\\t \\u0001 \\u001f \x7f\"");
  CHECK(again("\"\xe2\x80\xa8\"") == "\"\xe2\x80\xa8\"");
}

TEST_CASE("fields stand in the order in which they came, one that comes twice in its first place with its last value") {
  CHECK(again(R"( { "z":1,"a" :[ ],"m":{},"b":[1,{"y":null,"x":true}] } )") ==
        R"({"z": 1, "a": [], "m": {}, "b": [1, {"y": null, "x": true}]})");
  CHECK(again(R"({"b":1,"a":2,"b":3,"c":4,"a":5,"b":6})") == R"({"b": 6, "a": 5, "c": 4})");
  CHECK(again(R"({"a":1,"a":{"a":1,"a":[2]}})") == R"({"a": {"a": [2]}})");
  CHECK(again(R"({"":1,"":2})") == R"({"": 2})");
}

TEST_CASE("what Python holds for no JSON is none") {
  for (const std::string_view text :
       {"",         " ",       "not json",   "{bad",  "0012", "1.",  ".5",     "+1",
        "-",        "1e",      "0x1",        "nan",   "-NaN", "Inf", "True",   "None",
        "'a'",      "[1,]",    "{\"a\":1,}", "{1:2}", "1 2",  "\"a", "\"\n\"", "\xef\xbb\xbf{}",
        "\"\xff\"", "\"\\x\"", "[1"}) {
    CAPTURE(text);
    CHECK(again(text) == std::nullopt);
  }
  CHECK(error_of([] { again(R"("\ud800")"); }) == "[test] a: half a pair of UTF-16 at byte 2");
  const std::string deep = std::string(65, '[') + std::string(65, ']');
  CHECK(error_of([&] { again(deep); }) == "[test] a: nested deeper than 64 levels");
}

TEST_CASE("what is standard stays so: only Python's dialect takes more") {
  for (const std::string_view text : {"NaN", "-Infinity", "1e400", "{\"a\":1,\"a\":2}"}) {
    CAPTURE(text);
    CHECK(error_of([&] { parse_json(text, "test", "a"); }) != "no error");
    CHECK(error_of([&] { parse_json(text, "test", "a", JsonDialect::python); }) == "no error");
  }
}

TEST_CASE("an object gives a field's value as JSON, as it was written but for spaces and the spelling of numbers") {
  const std::string_view text = R"({"b":{"z":1,"a":[1E2,18446744073709551616]},"a":null})";
  const auto object = mistral::JsonObject::parse(std::as_bytes(std::span(text)), "test", "a");
  CHECK(object.json("b") == R"({"z": 1, "a": [100.0, 18446744073709551616]})");
  CHECK(object.json("a") == "null");
  CHECK(object.object("b").json("z") == "1");
  CHECK(error_of([&] { object.json("c"); }) == "[test] a: field 'c' is missing");
}
