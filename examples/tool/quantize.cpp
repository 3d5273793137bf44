// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/write_gguf.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/model.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"
#include "model_files.hpp"

namespace mistral::tool {

namespace {

struct Format {
  std::string_view name;
  GgufWritten (*write)(const Checkpoint&, const std::string&, std::string_view, const GgufMetadataWriter&,
                       ProgressHook) = nullptr;
};

// What the library has a format of; those that GGUF has no type for are packed only.
std::vector<Format> all_formats() {
  std::vector<Format> formats;
  for_each_format([&]<class F>(std::type_identity<F>) {
    if constexpr (GgufFormat<F>) {
      formats.push_back({F::name, &write_gguf<F>});
    } else {
      formats.push_back({F::name, nullptr});
    }
  });
  return formats;
}

Format format_of(const std::string& name) {
  const std::string known = format_named(name, "--weights");
  for (const Format& format : all_formats()) {
    if (format.name == known) return format;
  }
  return {};
}

void report(const QuantizeArguments& arguments, std::string_view format, std::uint64_t bytes,
            const std::vector<std::string>& in_f16) {
  if (arguments.json) {
    nlohmann::ordered_json json;
    json["out"] = arguments.out;
    json["kind"] = arguments.packed ? "packed" : "gguf";
    json["weights"] = format;
    json["tensor_bytes"] = bytes;
    json["in_f16"] = in_f16;
    return print(json_text(json));
  }
  std::string text = (arguments.out == "-" ? "standard output" : printable(arguments.out, 1000)) + ": " +
                     bytes_text(static_cast<std::size_t>(bytes)) + " of tensors in " + std::string(format);
  std::string names;
  for (const std::string& name : in_f16) names.append(names.empty() ? "" : ", ").append(name);
  if (!names.empty()) text += "; in F16, for their rows are no whole blocks: " + names;
  // nothing but the file goes to standard output where that is the file
  if (arguments.out == "-") return note(text + "\n");
  print(text + "\n");
}

}  // namespace

void run_quantize(const QuantizeArguments& arguments) {
  const Format format = format_of(arguments.weights);
  const std::string out = output_path(arguments.out, arguments.json);
  check_output("--out", arguments.out, {arguments.folder, arguments.tokenizer});
  const Threads threads(arguments.threads);
  if (!arguments.packed) {
    if (format.write == nullptr) {
      throw UsageError("--weights " + std::string(format.name) +
                       ": expected --to packed with it, for GGUF has no such type, got --to gguf");
    }
    const Checkpoint checkpoint = Checkpoint::open(arguments.folder);
    const GgufMetadataWriter metadata =
        TokenizerToWrite(arguments.tokenizer, arguments.folder,
                         static_cast<std::size_t>(checkpoint.config().vocab_size), arguments.without_tokenizer)
            .gguf();
    Progress progress("writing " + std::string(format.name), 1);
    const GgufWritten written = format.write(checkpoint, out, last_part(arguments.folder), metadata, progress.hook());
    return report(arguments, format.name, written.bytes, written.in_f16);
  }

  if (is_packed_file(arguments.folder)) {
    throw Error("packed", printable(arguments.folder, 1000), "a checkpoint to pack", "a packed file");
  }
  ModelArguments source;
  source.folder = arguments.folder;
  source.weights = format.name;
  source.refuse_not_finite = true;  // a file of them would only be opened to fail
  const AnyModelType& type = model_type(source);
  const ModelInfo& info = type.info();
  const std::string carried =
      TokenizerToWrite(arguments.tokenizer, arguments.folder, info.config.vocab_size, arguments.without_tokenizer)
          .packed();
  const std::unique_ptr<AnyModel> model = load_model(source, type);
  {
    Progress progress("packing " + bytes_text(info.weight_bytes), 1);
    model->save_packed(out, std::as_bytes(std::span(carried)), progress.hook());
  }
  report(arguments, format.name, info.weight_bytes, {});
}

}  // namespace mistral::tool
