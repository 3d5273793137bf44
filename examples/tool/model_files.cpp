// SPDX-License-Identifier: Apache-2.0
#include "model_files.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <span>
#include <system_error>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/io/os/temporaries.hpp>
#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/sentencepiece_writer.hpp>
#include <mistral/text/text_fields.hpp>
#include <mistral/text/tokenizer.hpp>

#include "console.hpp"

namespace mistral::tool {

namespace {

// Whether both are one file or folder.
bool same_place(const std::string& a, const std::string& b) {
  struct ::stat x = {}, y = {};
  return ::stat(a.c_str(), &x) == 0 && ::stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// Whether readers of a checkpoint's or an adapter's folder look for a file of that name.
bool is_looked_for(const std::string& name) {
  static const char* const names[] = {"config.json",
                                      "params.json",
                                      "generation_config.json",
                                      "tokenizer.model",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "adapter_config.json",
                                      "adapter_model.safetensors",
                                      "model.safetensors",
                                      "model.safetensors.index.json",
                                      "consolidated.safetensors",
                                      "consolidated.safetensors.index.json"};
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Files that say something of a tokenizer that stands beside them.
constexpr const char* text_files[] = {"tokenizer_config.json",  "special_tokens_map.json", "added_tokens.json",
                                      "generation_config.json", "chat_template.json",      "chat_template.jinja"};

bool holds_tokenizer(const std::string& file) {
  return is_gguf_file(file) ? has_tokenizer(Gguf::open(file)) : !PackedFile::open(file).tokenizer().empty();
}

bool is_model_file(const std::string& path) { return is_gguf_file(path) || is_packed_file(path); }

// The model of the tokenizer in a file, and what is said of it beside; `told`: whether that is anything.
SentencePieceModel read_model(const std::string& path, bool* told = nullptr) {
  if (told != nullptr) *told = is_model_file(path);
  if (is_gguf_file(path)) return gguf_tokenizer(Gguf::open(path));
  if (!is_packed_file(path)) return read_sentencepiece_model(path, told);
  const PackedFile file = PackedFile::open(path);
  const std::string name = printable(path, 1000);
  if (starts_as_gguf(file.tokenizer())) return gguf_tokenizer(Gguf::from_bytes(file.tokenizer(), name));
  return parse_tokenizer(file.tokenizer(), name);
}

}  // namespace

std::string why_not_output(const std::string& out, const std::vector<std::string>& sources) {
  for (const std::string& source : sources) {
    if (source.empty()) continue;
    const std::string expected = "expected another place than " + printable(source, 1000);
    if (same_place(source, out)) return expected;
    std::error_code failure;
    for (std::filesystem::directory_iterator files(source, failure), end; !failure && files != end;
         files.increment(failure)) {
      if (same_place(files->path().string(), out)) return expected + ", which has this file";
    }
    const std::string name = last_part(out);
    if (is_looked_for(name) && same_place(source, detail::folder_of(out))) {
      return expected + ", of which " + name + " would become a part";
    }
  }
  return {};
}

void check_output(const std::string& option, const std::string& out, const std::vector<std::string>& sources) {
  const std::string reason = why_not_output(out, sources);
  if (!reason.empty()) throw UsageError(option + ": " + reason);
}

std::vector<std::string> sources_of(const ModelArguments& arguments) {
  std::vector<std::string> sources{arguments.folder, arguments.tokenizer};
  sources.insert(sources.end(), arguments.adapters.begin(), arguments.adapters.end());
  return sources;
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

std::vector<TokenId> eos_ids_of(const std::string& checkpoint) {
  if (checkpoint.empty()) return {};
  SentencePieceModel said;
  if (is_folder(checkpoint)) {
    detail::TextFields(said, checkpoint).read_eos();
  } else if (is_gguf_file(checkpoint)) {
    const Gguf file = Gguf::open(checkpoint);
    if (!has_tokenizer(file) || !file.metadata().has("tokenizer.ggml.tokens")) return {};
    const auto pieces = static_cast<std::size_t>(file.metadata().array_size("tokenizer.ggml.tokens"));
    const auto add = [&](std::string_view key) {
      if (!detail::gguf_id_in_range(file.metadata(), key, pieces)) return;
      said.eos_ids.push_back(static_cast<TokenId>(file.metadata().integer(key, 0, INT32_MAX)));
    };
    add("tokenizer.ggml.eos_token_id");
    for (const std::string_view key : detail::gguf_end_keys) add(key);
    if (file.metadata().has(detail::gguf_eos_ids_key)) {
      for (const std::int64_t id : file.metadata().integers(detail::gguf_eos_ids_key, 0, INT32_MAX)) {
        said.eos_ids.push_back(static_cast<TokenId>(id));
      }
    }
  } else if (is_packed_file(checkpoint) && holds_tokenizer(checkpoint)) {
    const Tokenizer own = Tokenizer::load(checkpoint);
    return {own.eos_ids().begin(), own.eos_ids().end()};
  }
  return std::move(said.eos_ids);
}

TokenizerToWrite::TokenizerToWrite(const std::string& asked_for, const std::string& checkpoint, std::size_t vocab_size,
                                   bool without)
    : checkpoint_(checkpoint), path_(asked_for), vocab_size_(vocab_size), without_(without) {
  if (without) {
    path_.clear();
    return;
  }
  if (is_folder(path_)) path_ = find_tokenizer(path_).readable;
  if (path_.empty() && !asked_for.empty()) {
    throw Error("tokenizer", printable(asked_for, 1000), "a tokenizer.json or tokenizer.model in the folder", "none");
  }
  if (path_.empty()) {
    own_ = true;
    if (is_model_file(checkpoint)) {
      if (holds_tokenizer(checkpoint)) path_ = checkpoint;
    } else {
      TokenizerInFolder found = find_tokenizer(checkpoint);
      path_ = std::move(found.readable);
      if (path_.empty() && !found.other.empty()) {
        throw Error("tokenizer",
                    printable(checkpoint, 1000) +
                        ": name a tokenizer.json or tokenizer.model by --tokenizer, or write the model without any by "
                        "--without-tokenizer",
                    "a tokenizer that can be written", found.other);
      }
    }
  }
  if (path_.empty()) return;
  // a GGUF file's own that is of another kind passes on as it is
  if (own_ && is_gguf_file(path_) && Gguf::open(path_).metadata().string("tokenizer.ggml.model") != "llama") return;
  // a file that others would choke on isn't passed on
  const Tokenizer checked = Tokenizer::load(path_).with_eos_ids(own_ ? std::vector<TokenId>() : eos_ids_of(checkpoint));
  if (checked.vocab_size() > vocab_size) {
    throw Error("tokenizer", printable(path_, 1000) + ": the vocabulary",
                "at most the model's " + std::to_string(vocab_size) + " pieces", std::to_string(checked.vocab_size()));
  }
  bos_id_ = checked.bos_id();
  eos_id_ = checked.eos_id();
  eos_ids_.assign(checked.eos_ids().begin(), checked.eos_ids().end());
}

GgufMetadataWriter TokenizerToWrite::gguf() const {
  if (path_.empty()) {
    GgufMetadataWriter none;
    if (without_) none.string("tokenizer.ggml.model", "no_vocab");
    return none;
  }
  if (own_ && is_gguf_file(path_)) return {};
  SentencePieceModel model = read_model(path_);
  for (const TokenId id : eos_ids_) {
    const bool known =
        id == eos_id_ || std::find(model.eos_ids.begin(), model.eos_ids.end(), id) != model.eos_ids.end();
    if (!known) model.eos_ids.push_back(id);
  }
  return gguf_tokenizer_metadata(std::move(model), printable(path_, 1000), vocab_size_);
}

std::string TokenizerToWrite::packed() const {
  if (path_.empty()) return {};
  if (own_ && is_gguf_file(path_)) return gguf_tokenizer_metadata(Gguf::open(path_)).header({});
  bool told = false;
  const SentencePieceModel model = read_model(path_, &told);
  if (!told && eos_ids_.size() <= 1) return read_all(path_, "tokenizer");
  SentencePieceModel all = model;
  for (const TokenId id : eos_ids_) {
    if (id != eos_id_ && std::find(all.eos_ids.begin(), all.eos_ids.end(), id) == all.eos_ids.end()) {
      all.eos_ids.push_back(id);
    }
  }
  return gguf_tokenizer_metadata(std::move(all), printable(path_, 1000), 0, GgufReaders::only_us).header({});
}

std::vector<std::pair<std::string, std::string>> TokenizerToWrite::files() const {
  std::vector<std::pair<std::string, std::string>> files;
  if (path_.empty()) return files;
  if (!is_model_file(path_)) {
    const bool is_json = file_kind_at(path_) == FileKind::json;
    files.emplace_back(is_json ? "tokenizer.json" : "tokenizer.model", read_all(path_, "tokenizer"));
    std::vector<std::string> beside(std::begin(text_files), std::end(text_files));
    // whoever chose one of two by its name wants no other, which would go before it in a folder
    if (is_json && own_) beside.emplace_back("tokenizer.model");
    for (const std::string& name : beside) {
      const std::string path = path_in(folder_of(path_), name);
      if (path_exists(path)) files.emplace_back(name, read_all(path, "tokenizer"));
    }
    return files;
  }
  const SentencePieceModel model = read_model(path_);
  if (model.rules) {
    files.emplace_back("tokenizer.json", model.rules->text);
  } else {
    files.emplace_back("tokenizer.model", serialize_sentencepiece_model(model));
  }
  nlohmann::ordered_json config = {{"tokenizer_class", model.rules ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
                                   {"add_bos_token", model.add_bos},
                                   {"add_eos_token", model.add_eos}};
  if (!model.bos_piece.empty()) config["bos_token"] = model.bos_piece;
  if (!model.eos_piece.empty()) config["eos_token"] = model.eos_piece;
  if (!model.chat_template.empty()) config["chat_template"] = model.chat_template;
  files.emplace_back("tokenizer_config.json",
                     config.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  return files;
}

FilesBeside::FilesBeside(FolderToFill& folder, const std::vector<std::pair<std::string, std::string>>& files,
                         std::string_view where) {
  for (const auto& [name, bytes] : files) {
    AtomicFile& file = files_.emplace_back(folder.file(name), where);
    file.write(bytes);
    file.finish();
  }
}

void FilesBeside::commit() {
  for (AtomicFile& file : files_) file.commit();
}

}  // namespace mistral::tool
