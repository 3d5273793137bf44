// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Whether the folder holds `<stem>.safetensors` or `<stem>.safetensors.index.json`.
inline bool has_tensor_files(const std::string& folder, const std::string& stem) {
  const std::string single = path_in(folder, stem + ".safetensors");
  return path_exists(single) || path_exists(single + ".index.json");
}

/// The tensors of a checkpoint, in one file or in shards that an index lists.
class TensorFiles {
 public:
  /// Opens `<stem>.safetensors`, or else the shards of `<stem>.safetensors.index.json`. Throws Error where there is
  /// neither, and where a shard is missing, bad or outside of the folder. A tensor that the index promises and its
  /// shard lacks is an error when it is asked for: indexes name buffers that no file holds any more.
  static TensorFiles open(const std::string& folder, const std::string& stem) {
    const std::string single = path_in(folder, stem + ".safetensors");
    const std::string index = single + ".index.json";
    TensorFiles files;
    if (path_exists(single)) {
      files.files_.push_back(Safetensors::open(single));
      for (const SafetensorsTensor& tensor : files.files_[0].tensors()) files.entries_.push_back({&tensor, 0});
    } else if (path_exists(index)) {
      files.open_shards(folder, index);
    } else {
      throw neither(folder, stem);
    }
    std::sort(files.entries_.begin(), files.entries_.end(),
              [](const Entry& a, const Entry& b) { return a.tensor->name < b.tensor->name; });
    return files;
  }

  std::size_t size() const noexcept { return entries_.size(); }

  /// The i-th tensor, in the order of their names.
  const SafetensorsTensor& operator[](std::size_t i) const noexcept { return *entries_[i].tensor; }

  /// The tensor of that name, null where there is none.
  const SafetensorsTensor* find(std::string_view name) const noexcept {
    const Entry* const entry = entry_of(name);
    return entry != nullptr ? entry->tensor : nullptr;
  }

  /// The tensor of that name; throws Error where there is none.
  const SafetensorsTensor& get(std::string_view name) const {
    const Entry* const entry = entry_of(name);
    if (entry != nullptr) return *entry->tensor;
    const auto promised =
        std::find_if(promised_.begin(), promised_.end(), [&](const auto& p) { return p.first == name; });
    if (promised != promised_.end()) {
      throw Error(where, printable(files_[promised->second].file(), 1000) + ": tensor '" + printable(name) +
                             "' is missing, though the index says that it is here");
    }
    throw Error(where, printable(source(), 1000) + ": tensor '" + printable(name) + "' is missing");
  }

  /// The path of the file that holds a tensor of this object, for messages about it.
  const std::string& file_of(const SafetensorsTensor& tensor) const noexcept { return file_of(tensor.name); }
  const std::string& file_of(std::string_view name) const noexcept {
    const Entry* const entry = entry_of(name);
    return entry != nullptr ? files_[entry->file].file() : source();
  }

  /// Gives back the memory of a tensor's pages; see MappedFile::release.
  void release(const SafetensorsTensor& tensor) const noexcept {
    const Entry* const entry = entry_of(tensor.name);
    if (entry != nullptr) files_[entry->file].release(*entry->tensor);
  }

 private:
  static constexpr std::string_view where = "safetensors";

  struct Entry {
    const SafetensorsTensor* tensor;
    std::size_t file;
  };

  void open_shards(const std::string& folder, const std::string& index) {
    index_ = index;
    const JsonObject root =
        JsonObject::parse(MappedFile::open(index, where, JsonDocument::max_file_bytes).bytes(), where, index);
    const JsonObject weight_map = root.object("weight_map");
    std::vector<std::string> shards;  // of the same place in files_
    for (const std::string& name : weight_map.names()) {
      const std::string& shard = weight_map.string(name);
      auto found = std::find(shards.begin(), shards.end(), shard);
      if (found == shards.end()) {
        // an index is untrusted: it names files beside itself and no others
        if (shard.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos ||
            !shard.ends_with(".safetensors")) {
          throw weight_map.unexpected(name, "the name of a .safetensors file in the same folder");
        }
        files_.push_back(Safetensors::open(path_in(folder, shard)));
        found = shards.insert(shards.end(), shard);
      }
      const auto file = static_cast<std::size_t>(found - shards.begin());
      const SafetensorsTensor* const tensor = files_[file].find(name);
      if (tensor == nullptr) {
        promised_.emplace_back(name, file);
      } else {
        entries_.push_back({tensor, file});
      }
    }
  }

  /// Names what is there instead.
  static Error neither(const std::string& folder, const std::string& stem) {
    const std::string expected = stem + ".safetensors or " + stem + ".safetensors.index.json";
    struct Other {
      std::string_view ending, what;
    };
    constexpr Other others[] = {{".bin", "convert it to safetensors (transformers: save_pretrained)"},
                                {".pth", "convert it to safetensors (transformers: save_pretrained)"},
                                {".pt", "convert it to safetensors (transformers: save_pretrained)"},
                                {".gguf", "give the GGUF file rather than the folder"},
                                {".mistral", "give the packed file rather than the folder"},
                                {".h5", "export the model to safetensors"},
                                {".msgpack", "export the model to safetensors"},
                                {".onnx", "export the model to safetensors"},
                                {".safetensors", "name the file so, or write an index"}};
    const std::vector<std::string> names = names_in(folder);
    for (const Other& other : others) {
      for (const std::string& name : names) {
        if (!name.ends_with(other.ending) || name.starts_with("adapter_") || name == "training_args.bin") continue;
        return Error(where, printable(folder, 1000) + ": " + std::string(other.what), expected,
                     "'" + printable(name) + "'");
      }
    }
    return Error(where, printable(folder, 1000), expected, "neither of them");
  }

  const Entry* entry_of(std::string_view name) const noexcept {
    const auto found = std::lower_bound(
        entries_.begin(), entries_.end(), name,
        [](const Entry& entry, std::string_view wanted) { return std::string_view(entry.tensor->name) < wanted; });
    return found != entries_.end() && found->tensor->name == name ? &*found : nullptr;
  }

  const std::string& source() const noexcept { return index_.empty() ? files_[0].file() : index_; }

  std::string index_;  // empty for a single file
  std::vector<Safetensors> files_;
  std::vector<Entry> entries_;                                 // sorted by name
  std::vector<std::pair<std::string, std::size_t>> promised_;  // names that the index has and the file there hasn't
};

}}  // namespace mistral
