// SPDX-License-Identifier: Apache-2.0
#include "run_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <system_error>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/line_reader.hpp>
#include <mistral/io/os/temporaries.hpp>

#include "endings.hpp"

namespace mistral::tool {

namespace {

Error cannot_write(const std::string& path, int reason) {
  return Error("finetune", printable(path, 1000) + ": cannot write: " + std::generic_category().message(reason));
}

// With the digits of a float: more are noise to a reader.
void add_number(JsonWriter& row, std::string_view name, double x) {
  row.name(name);
  const float narrow = static_cast<float>(x);
  std::isfinite(narrow) ? row.value(narrow) : row.value(nullptr);
}

}  // namespace

RunFolder::RunFolder(std::string path, bool resume) : path_(std::move(path)) {
  struct ::stat status = {};
  if (::stat(path_.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
    throw Error("finetune", printable(path_, 1000), "a folder to write to", "a file");
  }
  remove_if_ended(path_);
  if (make_folder(path_, "finetune")) {
    for (const std::string& name : files()) to_remove_.push_back(in(name));
    for (const char* const folder : {"state", "last"}) to_remove_.push_back(in(folder));
    to_remove_.push_back(path_);
  }
  lock_.emplace(path_, "finetune");
  for (const char* const folder : {"state", "last"}) remove_if_ended(in(folder));
  if (::access(path_.c_str(), W_OK | X_OK) != 0) throw cannot_write(path_, errno);
  if (!resume && path_exists(in("state/last.safetensors"))) {
    throw Error("finetune", printable(path_, 1000), "a folder without a run in it, or --resume", "one with a run");
  }
  for (const std::string& name : files()) remove_stale_temporaries(in(name));  // of a run that was killed
}

RunFolder::~RunFolder() {
  // the first two: the steps that were made, and what a run goes on from
  if (to_remove_.empty() || path_exists(to_remove_[0]) || path_exists(to_remove_[1])) return;
  for (const std::string& path : to_remove_) (void)std::remove(path.c_str());  // of a folder, where it is empty
}

std::vector<std::string> RunFolder::files() {
  std::vector<std::string> names{"metrics.jsonl", "state/last.safetensors", "state/best.safetensors", "loss.svg"};
  for (const char* const folder : {"", "last/"}) {
    for (const char* const name :
         {"adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors", "tokenizer.model"}) {
      names.push_back(std::string(folder) + name);
    }
  }
  return names;
}

std::string RunFolder::in(const std::string& name) const { return path_in(path_, name); }

Metrics::Metrics(const RunFolder& folder, std::string title)
    : path_(folder.in("metrics.jsonl")), plot_path_(folder.in("loss.svg")), title_(std::move(title)) {}

Metrics::~Metrics() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Metrics::resumed(std::uint64_t step) {
  std::string kept;
  if (path_exists(path_)) {
    LineReader lines(path_, "finetune", std::size_t{1} << 16);
    while (lines.next()) {
      const auto row = nlohmann::json::parse(lines.line(), nullptr, false);
      const bool whole = row.is_object() && row.contains("step") && row["step"].is_number_unsigned();
      if (!whole || row["step"].get<std::uint64_t>() > step) continue;
      const auto number = row["step"].get<std::uint64_t>();
      if (row.contains("loss") && row["loss"].is_number()) training_.emplace_back(number, row["loss"].get<double>());
      if (row.contains("validation_loss") && row["validation_loss"].is_number()) {
        validation_.emplace_back(number, row["validation_loss"].get<double>());
      }
      kept += lines.line() + "\n";
    }
  }
  write(kept);
}

void Metrics::add(const FitStep& step) {
  JsonWriter row;
  row.begin_object().field("step", step.step);
  add_number(row, "epoch", step.epoch);
  add_number(row, "loss", static_cast<double>(step.loss));
  add_number(row, "learning_rate", static_cast<double>(step.learning_rate));
  add_number(row, "gradient_norm", step.gradient_norm);
  row.field("tokens", step.tokens);
  add_number(row, "seconds", step.seconds);
  write(row.end_object().text() + "\n");
  training_.emplace_back(step.step, static_cast<double>(step.loss));
}

void Metrics::add(const FitEvaluation& evaluation) {
  JsonWriter row;
  row.begin_object().field("step", evaluation.step);
  add_number(row, "validation_loss", evaluation.loss);
  row.field("best", evaluation.best);
  add_number(row, "seconds", evaluation.seconds);
  write(row.end_object().text() + "\n");
  validation_.emplace_back(evaluation.step, evaluation.loss);
}

void Metrics::draw() const {
  AtomicFile file(plot_path_, "finetune");
  file.write(loss_plot(title_, training_, validation_));
  file.commit();
}

// A line of a run that is killed may be cut; resumed() drops it.
void Metrics::write(const std::string& line) {
  if (descriptor_ < 0) {
    AtomicFile file(path_, "finetune");
    file.write(line);
    file.commit();
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (descriptor_ < 0) throw cannot_write(path_, errno);
    return;
  }
  for (std::size_t done = 0; done < line.size();) {
    const auto count = ::write(descriptor_, line.data() + done, line.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw cannot_write(path_, errno);
    done += static_cast<std::size_t>(count);
  }
}

}  // namespace mistral::tool
