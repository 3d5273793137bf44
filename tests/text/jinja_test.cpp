// SPDX-License-Identifier: Apache-2.0
// What Jinja2, set up as Hugging Face's transformers does, made of 26 templates of real checkpoints and of 189
// templates of one feature each.
#include <mistral/text/jinja/template.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/io/json/parser.hpp>
#include <mistral/text/jinja/json_text.hpp>

#include "../support/data.hpp"
#include "model_builder.hpp"

namespace {

using namespace mistral;
using nlohmann::json;

/// The variables of a case, and its clock.
struct Context {
  jinja::Variables variables;
  jinja::Moment now;
};

Context context_of(const std::string& line) {
  const JsonDocument document = parse_json(line, "test", "the case");
  Context context;
  for (const char* const name : {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"}) {
    context.variables.set(name, jinja::from_json(document, *document.find(document.root, name)));
  }
  context.variables.set_all(*jinja::from_json(document, *document.find(document.root, "extra")).dict());
  context.now = jinja::Moment::parse(document.text_of(*document.find(document.root, "now"))).value();
  return context;
}

/// Holds a template's text, or its error, against what is expected of it.
bool agrees(const std::string& source, const Context& context, const json& expected) {
  try {
    const std::string text = jinja::Template(source).render(context.variables, context.now).bytes();
    if (!expected.contains("expected")) MESSAGE("rendered " << text);
    return expected.contains("expected") && text == expected["expected"].get<std::string>();
  } catch (const jinja::Raised& raised) {
    return expected.contains("error") && expected["error"]["type"] == "TemplateError" &&
           expected["error"]["message"] == raised.message();
  } catch (const Error& error) {
    if (!expected.contains("error")) MESSAGE(error.what());
    return expected.contains("error") && expected["error"]["type"] != "TemplateError";
  }
}

}  // namespace

TEST_CASE("templates of real checkpoints render all golden conversations as Jinja2 does") {
  const auto path = test::golden("chat_templates/cases.jsonl");
  if (path.empty()) return;
  std::map<std::string, std::string> sources;
  std::size_t count = 0, quirks = 0;
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line); ++count) {
    const json expected = json::parse(line);
    if (expected.contains("quirk")) {  // entities that markupsafe puts in, which surely nobody meant
      ++quirks;
      continue;
    }
    const std::string name = expected["template"];
    if (!sources.contains(name)) sources[name] = test::file_content(path.parent_path() / "templates" / name);
    const std::string id = expected["id"];
    CAPTURE(id);
    CHECK(agrees(sources[name], context_of(line), expected));
  }
  CHECK(count == 623);
  CHECK(quirks == 6);
  CHECK(sources.size() == 26);
}

TEST_CASE("each feature of the syntax does what it does in Jinja2") {
  const auto path = test::golden("chat_templates/syntax.jsonl");
  if (path.empty()) return;
  const Context context = context_of(test::file_content(path.parent_path() / "syntax_context.json"));
  std::size_t count = 0;
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line); ++count) {
    const json expected = json::parse(line);
    const std::string id = expected["id"], source = expected["template_text"];
    CAPTURE(id);
    CAPTURE(source);
    CHECK(agrees(source, context, expected));
  }
  CHECK(count == 189);
}

namespace {

/// Renders a template with variables that a JSON object holds; `error: ...` where it fails.
std::string made(const std::string& source, const std::string& variables = "{}", const jinja::Limits& limits = {}) {
  try {
    jinja::Variables all;
    all.set_all(*jinja::from_json(variables, "variables").dict());
    return jinja::Template(source, "t", limits).render(all, {2024, 7, 26, 9, 5, 3}).bytes();
  } catch (const Error& error) {
    return std::string("error: ") + error.what();
  }
}

/// A text fifty thousand times.
std::string repeated(std::string_view text) {
  std::string all;
  for (int i = 0; i < 50'000; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("a template loops, branches, and keeps white space as transformers sets it") {
  const std::string chat =
      R"({"messages": [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Yo"}]})";
  CHECK(made("{% for m in messages %}\n  {% if m.role == 'user' %}\nU:{{ m.content|trim }}\n  {% else %}\nA:{{ "
             "m['content'] }}\n"
             "  {% endif %}\n{% endfor %}\n",
             chat) == "U:Hi\nA:Yo\n");
  CHECK(made("  {{- 'a' -}}  b {#- c -#} d{% raw %} {{ x }} {% endraw %}") == "abd {{ x }} ");
  CHECK(made("{% for x in [1, 2, 3] if x > 1 %}{{ loop.index }}/{{ loop.length }} {% endfor %}") == "1/2 2/2 ");
  CHECK(made("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}") == "123");
  CHECK(made("{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i "
             "}}{% "
             "endfor %}") == "013");
}

TEST_CASE("what is set in a loop stays there, and a namespace carries it out") {
  CHECK(made("{% set n = 0 %}{% for i in [1, 2] %}{% set n = n + i %}{% endfor %}{{ n }}") == "0");
  CHECK(made("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}") ==
        "3");
  CHECK(made("{% if true %}{% set x = 1 %}{% endif %}{{ x }}") == "1");
  CHECK(made("{% macro f(a, b=a) %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ f(1) }}{% call f(2, b=3) "
             "%}!{% endcall %}") == "1123!");
}

TEST_CASE("values are written as Python writes them, and an object's keys keep their order") {
  CHECK(made("{{ v }}", R"({"v": {"b": [1, 2.5, null, true], "a": "it's"}})") ==
        R"({'b': [1, 2.5, None, True], 'a': "it's"})");
  CHECK(made("{{ v|tojson }}", R"({"v": {"b": [1, 2.0, null, true], "a": "é\n\""}})") ==
        R"({"b": [1, 2.0, null, true], "a": "é\n\""})");
  CHECK(made("{{ 1e16 }} {{ 1e15 }} {{ 0.1 + 0.2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** -1 }}") ==
        "1e+16 1000000000000000.0 0.30000000000000004 -4 2 3.5 0.5");
  CHECK(made("{{ 'Wörld'|length }}{{ 'Wörld'[1] }}{{ 'Wörld'[::-1] }}{{ 'straße é'|upper }}") == "5ödlröWSTRASSE É");
  CHECK(made("{{ strftime_now('%d %b %Y %H:%M') }}") == "26 Jul 2024 09:05");
}

TEST_CASE("what is wrong with a template is said with its line and column") {
  CHECK(made("a\n{{ 1 + 'a' }}") == "error: [template] t:2:6: unsupported operand type(s) for +: 'int' and 'str'");
  CHECK(made("{{ messages[0].content }}") == "error: [template] t:1:12: 'messages' is undefined");
  CHECK(made("{{ x|frobnicate }}", R"({"x": 1})") == "error: [template] t:1:6: the filter 'frobnicate' is not known");
  CHECK(made("{{ 1 is frobnicated }}") == "error: [template] t:1:6: the test 'frobnicated' is not known");
  CHECK(made("é{% include 'x' %}") == "error: [template] t:1:5: the statement 'include' is not known here");
  CHECK(made("{% if x %}") == "error: [template] t:1:11: expected {% endif %}, got the end of the template");
  CHECK(made("{{ joiner(',') }}") == "error: [template] t:1:4: 'joiner' is not supported");
  CHECK(made("{{ '\xff' }}") == "error: [template] t: expected UTF-8, got a byte that belongs to no character at 4");
  CHECK(made("{{ 9223372036854775807 + 1 }}") == "error: [template] t:1:24: an integer beyond 64 bits");
  CHECK(made("{{ raise_exception('No\nway') }}") == "error: [template] t:1:19: No\\x0away");
  try {
    (void)jinja::Template("{{ raise_exception('No\nway') }}").render({});
    FAIL("it was raised");
  } catch (const jinja::Raised& raised) {
    CHECK(raised.message() == "No\nway");
  }
}

TEST_CASE("a template reaches its data, and nothing that isn't data") {
  CHECK(made("{{ ''.__class__ }}{{ v.__class__.__mro__ is defined }}", R"({"v": {}})")
            .starts_with("error: [template] t:1:"));
  CHECK(made("{{ ''.__class__ is defined }}{{ v.append is defined }}", R"({"v": [1]})") == "FalseFalse");
  CHECK(made("{{ v.append(1) }}", R"({"v": [1]})") ==
        "error: [template] t:1:12: 'list object' has no attribute 'append'");
  CHECK(made("{% set v.x = 1 %}", R"({"v": {}})") ==
        "error: [template] t:1:8: cannot assign attribute on non-namespace object");
}

TEST_CASE("a hostile template ends in an error, soon and in little memory") {
  const std::string doubling =
      "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
  const std::vector<std::string> hostile{
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{{ range(1000000000) }}",
      "{{ 'a' * 1000000000000 }}",
      "{{ [0] * 1000000000000 }}",
      "{{ ('a' * 30000000) * 3 }}",
      doubling,
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x "
      "}}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% for i in range(100000) %}" + std::string(100000, 'x') + "{% endfor %}",
      "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}",
      "{% set s = 'a' * 60000000 %}{{ s.count('a' * 30000000 ~ 'b') }}",
      "{{ ('a' * 1000000)|list|map('upper')|map('center', 1000)|join|length }}",
      "{{ 2 ** 100000000000 }}",
      "{{ '%.99999999999f' % 1.0 }}{{ 'a'|center(100000000000) }}",
      "{{ 'a'|indent(100000000000, true) }}",
      "{{ [1]|batch(100000000000, 0)|list }}",
      "{{ [1]|slice(100000000000)|list }}",
      "{{ [1]|tojson(indent=100000000000) }}",
      "{{ '5'.zfill(100000000000) }}",
      "{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}",
      "{{ " + std::string(100000, '[') + " }}",
      "{{ " + std::string(100000, '-') + "1 }}",
      "{{ 1" + repeated("+1") + " }}",
      "{{ x" + repeated(".a") + " }}",
      "{{ x" + repeated("|list") + " }}",
      "{{ " + repeated("not ") + "x }}",
      "{{ x" + repeated(" if x else x") + " }}",
      repeated("{% if x %}"),
      "{% set " + std::string(100000, '(') + " %}",
      std::string(2000000, 'x'),
      std::string(300000, '{'),
  };
  for (const std::string& source : hostile) {
    const std::string shown = source.substr(0, 80);
    CAPTURE(shown);
    CHECK(made(source).starts_with("error: [template] t"));
  }
}

TEST_CASE("limits are the caller's to choose") {
  jinja::Limits few;
  few.steps = 100;
  few.output = 20;
  CHECK(made("{% for i in range(50) %}{{ i }}{% endfor %}", "{}", few) ==
        "error: [template] t:1:1: the template takes more than 100 steps");
  CHECK(made("{{ 'a' * 21 }}", "{}", few) ==
        "error: [template] t:1:8: the template makes a text of more than 20 bytes");
  CHECK(made("{{ 'a' * 20 }}", "{}", few) == std::string(20, 'a'));
}

TEST_CASE("a text knows of each byte whether the template or data brought it in") {
  const auto marks = [](const std::string& source) {
    jinja::Variables variables;
    variables.set_all(*jinja::from_json(R"({"d": " Dät<a>\n", "n": 5, "l": ["x", {"k": "v"}]})", "variables").dict());
    const jinja::Text text = jinja::Template(source).render(variables, {});
    std::string shown;
    for (std::size_t i = 0; i < text.size(); ++i) shown += text.mark_at(i).origin == 0 ? '.' : 'd';
    return shown;
  };
  CHECK(marks("a{{ d }}b") == ".ddddddddd.");
  CHECK(marks("{{ 'a' ~ d|trim ~ 'b' }}") == ".ddddddd.");
  CHECK(marks("{{ ('<' + d + '>')[1:4] }}|{{ ('<' + d + '>')[::-1]|length }}") == "dddd...");
  CHECK(marks("{{ d|replace('ä', 'a') }}") == "dd.ddddd");
  CHECK(marks("{{ 'a-b'|replace('-', d|trim) }}") == ".ddddddd.");
  CHECK(marks("{{ ('a' ~ d)|upper }}") == ".ddddddddd");
  CHECK(marks("{{ d|tojson }}") == ".dddddddddd.");
  CHECK(marks("{{ [d]|tojson }}{{ [d] }}").starts_with("..dddd"));
  CHECK(marks("{{ n }}{{ n + 1 }}{{ 1 + 1 }}{{ '%d' % n }}{{ n|string }}{{ [n]|join }}{{ '5'|int }}") == "dd.ddd.");
  CHECK(marks("{{ l|join('-') }}") == "d...d....d..");
  CHECK(marks("{{ ' '.join([d|trim, 'a']) }}{{ '%s!' % d|trim }}{{ '{}!'.format('a') }}") == "ddddddd..ddddddd...");
  CHECK(marks("{% set x %}[{{ d|trim }}]{% endset %}{{ x.split('<')[0] }}") == ".dddd");
  CHECK(marks("{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(d|trim) }}") == ".ddddddd.");
  CHECK(marks("{% for k, v in l[1].items() %}{{ k }}={{ v }}{% endfor %}") == "d.d");
  CHECK(marks("{{ d|trim|indent }}{{ d|trim|truncate(5, true, '..', 0) }}").starts_with("ddddddd"));
}
