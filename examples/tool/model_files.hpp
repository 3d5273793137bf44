// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/io/gguf/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/folders.hpp>

#include "commands.hpp"

namespace mistral::tool {

/// The last part of a path: what a model is called that has no other name.
std::string last_part(std::string path);

/// The ids that end a text by what a checkpoint says beside its tokenizer: see Tokenizer::eos_ids. None for an empty
/// path.
std::vector<TokenId> eos_ids_of(const std::string& checkpoint);

/// A tokenizer that goes with a model that is written.
class TokenizerToWrite {
 public:
  ///   asked_for   the file that --tokenizer names; empty: the checkpoint's own
  ///   vocab_size  of the model
  ///   without     --without-tokenizer: none goes with it
  /// Throws Error, before anything is written, where the tokenizer has more pieces than the model has ids, or is no
  /// tokenizer; and where the checkpoint has one of a kind that can't be written, unless `without` says so.
  TokenizerToWrite(const std::string& asked_for, const std::string& checkpoint, std::size_t vocab_size, bool without);

  /// Metadata of a GGUF file, padded to the model's vocabulary. None where the checkpoint is a GGUF file whose own
  /// stays.
  GgufMetadataWriter gguf() const;

  /// The tokenizer that a packed file carries: the bytes of a tokenizer.model or a tokenizer.json, or a GGUF file of
  /// metadata alone; empty for none.
  std::string packed() const;

  /// The files to be put beside the weights in a folder, by their names.
  std::vector<std::pair<std::string, std::string>> files() const;

  /// Ids of the special pieces, -1 where there is no tokenizer.
  TokenId bos_id() const noexcept { return bos_id_; }
  TokenId eos_id() const noexcept { return eos_id_; }

  /// All that end a text, eos_id first.
  const std::vector<TokenId>& eos_ids() const noexcept { return eos_ids_; }

  /// Whether there is one.
  bool empty() const noexcept { return path_.empty(); }

 private:
  std::string checkpoint_;
  std::string path_;  // of the file that holds it; empty: none
  std::size_t vocab_size_;
  bool without_;
  bool own_ = false;  // the checkpoint's
  TokenId bos_id_ = -1, eos_id_ = -1;
  std::vector<TokenId> eos_ids_;
};

/// Files that go into a folder beside a model: on the disk before the model is written, and in their places behind it.
class FilesBeside {
 public:
  ///   files  names and contents
  FilesBeside(FolderToFill& folder, const std::vector<std::pair<std::string, std::string>>& files,
              std::string_view where);
  void commit();

 private:
  std::list<AtomicFile> files_;
};

/// Why the file or folder `out` is no place to write to: it is one of `sources`, whatever it is called there (links,
/// `..`), one of the files in one of them that is a folder, or one that would be taken for one of them from then on.
/// Empty where there is no reason. Sources that are empty, or that aren't there, don't count.
std::string why_not_output(const std::string& out, const std::vector<std::string>& sources);

/// Throws UsageError `option: ...` where there is such a reason.
void check_output(const std::string& option, const std::string& out, const std::vector<std::string>& sources);

/// All that the arguments have a model read.
std::vector<std::string> sources_of(const ModelArguments& arguments);

}  // namespace mistral::tool
