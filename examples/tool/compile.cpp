// SPDX-License-Identifier: Apache-2.0
// mistral compile: the type of a checkpoint's model, compiled beforehand, to a file, or only written down.
#include <string>

#include <nlohmann/json.hpp>

#include <mistral/core/printable.hpp>
#include <mistral/run/page.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "compiler.hpp"
#include "configs.hpp"
#include "console.hpp"
#include "model_files.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

using Json = nlohmann::ordered_json;

ModelChoice wanted(const CompileArguments& a) {
  const Use use = a.train ? Use::train_adapter : Use::inference;
  if (a.config.empty()) return choice_of(a.model, use);
  const auto config = config_named(a.config);
  if (!config) {
    throw UsageError("--config: expected one of " + config_names_text() + ", got '" + printable(a.config, 100) + "'" +
                     did_you_mean(a.config, config_names()));
  }
  ModelChoice choice;
  choice.config = *config;
  if (a.model.window) choice.config.window_size = *a.model.window;
  if (a.model.context) choice.config.context_len = *a.model.context;
  if (!a.model.weights.empty()) choice.weights = format_named(a.model.weights, "--weights");
  choice.exact = a.model.exact;
  choice.kv = !a.model.kv.empty() ? a.model.kv : choice.exact || choice.weights == "F32" ? "float" : "bf16";
  choice.adapters = choice.trains = a.train;
  return choice;
}

void run_list(bool as_json) {
  Json json = {{"folder", cache_folder()}, {"models", Json::array()}};
  std::string text;
  for (const CachedModel& model : cached_models()) {
    json["models"].push_back({{"path", model.path}, {"bytes", model.bytes}, {"description", model.description}});
    text +=
        printable(model.path, 1000) + ": " + bytes_text(model.bytes) + ": " + printable(model.description, 400) + "\n";
  }
  if (as_json) return print(json_text(json));
  print(text.empty() ? printable(cache_folder(), 1000) + ": no compiled models\n" : text);
}

}  // namespace

void run_compile(const CompileArguments& a) {
  if (a.list) return run_list(a.json);
  if (a.clear) {
    const std::size_t count = clear_cached_models();
    if (a.json) return print(json_text(Json{{"folder", cache_folder()}, {"removed", count}}));
    return print(printable(cache_folder(), 1000) + ": " + std::to_string(count) + " compiled models removed\n");
  }
  const ModelChoice choice = wanted(a);
  if (a.print) return print(page_of(choice));
  if (!a.out.empty()) {
    check_output("--out", a.out, {a.model.folder});
    compile_to(choice, a.out);
  } else {
    (void)compiled_type(choice);
  }
  Json json = {{"weights", choice.weights}, {"kv", choice.kv}, {"description", describe(choice)}};
  if (!a.out.empty()) json["out"] = a.out;
  if (a.json) return print(json_text(json));
  print(describe(choice) + (a.out.empty() ? "" : ": " + printable(a.out, 1000)) + "\n");
}

}  // namespace mistral::tool
