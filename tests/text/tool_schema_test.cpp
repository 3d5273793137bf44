// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/tool_schema.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include <mistral/io/json/parser.hpp>

#include "../support/scratch.hpp"

namespace {

std::string checking(std::string_view schema) {
  return mistral::test::error_of([&] {
    const mistral::JsonDocument document = mistral::parse_json(schema, "test", "a");
    mistral::detail::ToolSchema(document, "p").check();
  });
}

}  // namespace

TEST_CASE("a schema of draft 7 is one, whatever keywords of other drafts stand in it") {
  for (const std::string_view schema :
       {R"({})",
        R"({"type": "object", "properties": {"a": {"type": ["integer", "null"], "minimum": -1.5}, "b": true}})",
        R"({"required": ["a", "b"], "additionalProperties": false, "minProperties": 2.0})", R"({"items": [{}, false]})",
        R"({"items": {"enum": [1, "a", null]}, "maxItems": 100000000000000000000})", R"({"foo": [], "$defs": 3})",
        R"({"dependencies": {"a": ["b"], "c": {}}, "default": [1], "const": {}})",
        R"({"anyOf": [{"not": {}}], "if": true, "then": {}, "multipleOf": 1e-9, "pattern": "("})"}) {
    CAPTURE(schema);
    CHECK(checking(schema) == "no error");
  }
}

TEST_CASE("a keyword whose value is of the wrong kind is an error that says where it stands") {
  const std::string draft = " (JSON Schema, draft 7), got ";
  const std::string types = "expected one of array, boolean, integer, null, number, object, string, or several";
  CHECK(checking("3") == "[chat] p: expected a schema, which is an object or a boolean" + draft + "3");
  CHECK(checking(R"({"type": "objekt"})") == "[chat] p.type: " + types + draft + "\"objekt\"");
  CHECK(checking(R"({"type": []})") == "[chat] p.type: " + types + draft + "[]");
  CHECK(checking(R"({"type": ["null", "null"]})") == "[chat] p.type: " + types + draft + R"(["null", "null"])");
  CHECK(checking(R"({"properties": [1]})") == "[chat] p.properties: expected an object of schemas" + draft + "[1]");
  CHECK(checking(R"({"properties": {"a": {"items": {"minLength": -1}}}})") ==
        "[chat] p.properties.a.items.minLength: expected a whole number from 0 on" + draft + "-1");
  CHECK(checking(R"({"minItems": 1.5})") == "[chat] p.minItems: expected a whole number from 0 on" + draft + "1.5");
  CHECK(checking(R"({"minItems": true})") == "[chat] p.minItems: expected a whole number from 0 on" + draft + "true");
  CHECK(checking(R"({"minimum": "1"})") == "[chat] p.minimum: expected a number" + draft + "\"1\"");
  CHECK(checking(R"({"multipleOf": 0})") == "[chat] p.multipleOf: expected a number above 0" + draft + "0");
  CHECK(checking(R"({"required": ["a", "a"]})") ==
        "[chat] p.required: expected an array of distinct strings" + draft + R"(["a", "a"])");
  CHECK(checking(R"({"required": [1]})") == "[chat] p.required: expected an array of distinct strings" + draft + "[1]");
  CHECK(checking(R"({"anyOf": []})") == "[chat] p.anyOf: expected an array of schemas" + draft + "[]");
  CHECK(checking(R"({"items": []})") == "[chat] p.items: expected an array of schemas" + draft + "[]");
  CHECK(checking(R"({"enum": {}})") == "[chat] p.enum: expected an array" + draft + "{}");
  CHECK(checking(R"({"title": 1})") == "[chat] p.title: expected a string" + draft + "1");
  CHECK(checking(R"({"uniqueItems": 1})") == "[chat] p.uniqueItems: expected true or false" + draft + "1");
  CHECK(checking(R"({"dependencies": {"a": ["b", "b"]}})") ==
        "[chat] p.dependencies.a: expected a schema, which is an object or a boolean" + draft + R"(["b", "b"])");
}
