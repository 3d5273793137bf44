// SPDX-License-Identifier: Apache-2.0
// mistral render: what a Jinja template makes of its variables.

#include <unistd.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <mistral/io/json/records.hpp>
#include <mistral/text/jinja/json_text.hpp>
#include <mistral/text/jinja/template.hpp>

#include "commands.hpp"
#include "console.hpp"

namespace mistral::tool {

namespace {

// A line of output for an object of variables. What the template refuses in its own words is said in them.
std::string line_of(const jinja::Template& chat_template, const JsonObject& object) {
  jinja::Moment now = jinja::Moment::now();
  if (object.has("now")) {
    const auto given = jinja::Moment::parse(object.string("now"));
    if (!given) throw object.unexpected("now", "a time such as 2024-07-26T09:05:03");
    now = *given;
  }
  jinja::Variables variables;
  const jinja::Value context = jinja::from_json(object.document(), object.value());
  for (const auto& [name, value] : context.dict()->items) {
    if (name.text()->bytes() != "now") variables.set(name.text()->bytes(), value);
  }
  try {
    return json_text(nlohmann::json(chat_template.render(variables, now).bytes()));
  } catch (const jinja::Raised& raised) {
    return json_text(nlohmann::json{{"error", raised.message()}});
  } catch (const Error& error) {
    return json_text(nlohmann::json{{"error", error.what()}});
  }
}

}  // namespace

void run_render(const RenderArguments& arguments) {
  const jinja::Template chat_template(read_all(arguments.template_file, "template"), arguments.template_file);
  constexpr std::size_t longest = std::size_t{16} << 20;
  JsonRecords records = arguments.context == "-" ? JsonRecords(STDIN_FILENO, "standard input", "template", longest)
                                                 : JsonRecords(arguments.context, "template", longest);
  // a line that holds no variables is a fault of the file, which all the lines behind it need not suffer from
  std::optional<Error> fault;
  while (records.next()) {
    try {
      print(line_of(chat_template, records.object()));
    } catch (const Error& error) {
      print(json_text(nlohmann::json{{"error", error.what()}}));
      if (!fault) fault = error;
    }
  }
  if (fault) throw *fault;
}

}  // namespace mistral::tool
