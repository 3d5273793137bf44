// SPDX-License-Identifier: Apache-2.0
// mistral merge: a checkpoint and an adapter in, a checkpoint out.

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/merge.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/io/os/folders.hpp>

#include "commands.hpp"
#include "console.hpp"
#include "endings.hpp"
#include "load.hpp"
#include "model_files.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

// The element type that most of a checkpoint's bytes have, as its file calls it.
std::string main_type(const Checkpoint& checkpoint) {
  std::map<std::string_view, std::size_t> bytes;
  for (std::size_t i = 0; i < checkpoint.size(); ++i) bytes[checkpoint[i].type_name] += checkpoint[i].data.size();
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& x, const auto& y) { return x.second < y.second; });
  return most != bytes.end() ? std::string(most->first) : std::string();
}

struct Format {
  std::string_view name;
  bool in_folders;
  GgufMerged (*merge)(const Checkpoint&, const std::string&, const std::string&, std::string_view,
                      const GgufMetadataWriter&, ProgressHook);
};

// The format of that name; none where it isn't one of a file that is merged.
std::optional<Format> find_format(std::string_view name) {
  std::optional<Format> found;
  with_format(name, [&]<class F>(std::type_identity<F>) {
    if constexpr (GgufFormat<F>) {
      found = {F::name, std::is_same_v<F, F32> || std::is_same_v<F, BF16>, &merge_gguf<F>};
    }
  });
  return found;
}

// The format asked for, or the checkpoint's own where the file can have it, or else F32, which loses nothing.
Format format_of(const MergeArguments& a, const Checkpoint& checkpoint) {
  if (!a.weights.empty()) {
    if (const auto found = find_format(a.weights)) return *found;
    std::vector<std::string> names;
    for_each_format([&]<class F>(std::type_identity<F>) {
      if constexpr (GgufFormat<F>) names.emplace_back(F::name);
    });
    throw UsageError("--weights: expected one of " + gguf_format_names() + ", got '" + printable(a.weights, 40) + "'" +
                     did_you_mean(a.weights, names));
  }
  const auto own = find_format(main_type(checkpoint));
  return own && (own->in_folders || a.out.ends_with(".gguf")) ? *own : *find_format(F32::name);
}

}  // namespace

void run_merge(const MergeArguments& a) {
  const Threads threads(a.threads);
  const Checkpoint checkpoint = Checkpoint::open(a.folder);
  const Format format = format_of(a, checkpoint);
  const bool to_file = !format.in_folders || a.out.ends_with(".gguf");
  const std::vector<std::string> sources{a.folder, a.adapter, a.tokenizer};
  check_output("--out", a.out, sources);
  for (const char* const name : {"config.json", "model.safetensors", "tokenizer.model"}) {
    if (!to_file) check_output("--out", path_in(a.out, name), sources);
  }
  const TokenizerToWrite tokenizer(a.tokenizer, a.folder, static_cast<std::size_t>(checkpoint.config().vocab_size),
                                   a.without_tokenizer);
  MergeLoss loss;
  {
    Progress progress("merging into " + std::string(format.name), 1);
    if (to_file) {
      loss = format.merge(checkpoint, a.adapter, a.out, last_part(a.folder), tokenizer.gguf(), progress.hook()).loss;
    } else {
      const auto beside = tokenizer.files();  // whatever can be wrong with them is, before anything is written
      SaveCheckpointOptions options{.type = format.name == "F32" ? DType::f32 : DType::bf16,
                                    .progress = progress.hook()};
      if (!tokenizer.empty()) {
        options.bos_id = tokenizer.bos_id();
        options.eos_id = tokenizer.eos_id();
        options.eos_ids = tokenizer.eos_ids();
      }
      remove_if_ended(a.out);
      FolderToFill folder(a.out, "checkpoint");
      for (const char* const name : {"config.json", "model.safetensors"}) (void)folder.file(name);
      FilesBeside files(folder, beside, "tokenizer");
      loss = merge_checkpoint(checkpoint, a.adapter, a.out, options);
      files.commit();
      folder.keep();
    }
  }
  say_base(trained_beside(checkpoint, a.adapter), a.adapter, a.folder);
  if (loss.relative > 0.0) {
    char text[200];
    std::snprintf(text, sizeof text,
                  "mistral: warning: rounding to %.*s lost %.3g of what the adapter adds (|W' - (W + dW)| / |dW|); "
                  "--weights f32 loses nothing\n",
                  static_cast<int>(format.name.size()), format.name.data(), loss.relative);
    note(text);
  }
  if (a.json) {
    const nlohmann::ordered_json json = {{"out", a.out},
                                         {"kind", to_file ? "gguf" : "hugging_face"},
                                         {"weights", format.name},
                                         {"relative_loss", loss.relative}};
    return print(json_text(json));
  }
  print(printable(a.out, 1000) + ": " + printable(a.folder, 1000) + " with " + printable(a.adapter, 1000) + " in " +
        std::string(format.name) + "\n");
}

}  // namespace mistral::tool
