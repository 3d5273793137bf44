// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Kinds of files that are told by their first bytes: those that this library reads, and those that stand in their
/// places where a download went wrong or a file is of another program.
enum class FileKind : std::uint8_t {
  gguf,
  safetensors,
  packed,
  session,
  sentencepiece,
  json,
  git_lfs_pointer,
  html,
  pytorch,  // a pickle, or a zip archive of one
  zip,
  compressed,  // gzip, bzip2, xz, zstd, 7z
  tar,
  old_ggml,
  hdf5,
  onnx,
  numpy,
  parquet,
  text,
};

namespace detail {

inline std::string_view text_of(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// `text` without the white space, and a byte order mark, in front of it.
inline std::string_view without_white_space(std::string_view text) noexcept {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  text.remove_prefix((std::min)(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

/// Whether `text` begins with `start`, which is in small letters, however it is written.
inline bool begins_like(std::string_view text, std::string_view start) noexcept {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return text.size() >= start.size() &&
         std::equal(start.begin(), start.end(), text.begin(), [&](char a, char b) { return a == lower(b); });
}

inline bool is_plain_text(std::string_view text) noexcept {
  return text.size() >= 12 && std::all_of(text.begin(), text.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return (byte >= 0x20 && byte < 0x7f) || byte == '\n' || byte == '\r' || byte == '\t';
         });
}

}  // namespace detail

/// The kind of file that begins with `bytes` (its first 512, or all of a smaller one), none where they tell nothing.
inline std::optional<FileKind> file_kind(std::span<const std::byte> bytes) noexcept {
  const std::string_view all = detail::text_of(bytes.first(std::min<std::size_t>(bytes.size(), 512)));
  const auto at = [&](std::size_t i) { return i < all.size() ? static_cast<unsigned char>(all[i]) : 256u; };
  const auto starts = [&](std::string_view magic) { return all.starts_with(magic); };
  if (starts("GGUF")) return FileKind::gguf;
  if (starts("MISTRAL\x1a")) return FileKind::packed;
  if (starts("MISTSES\x1a")) return FileKind::session;
  if (starts("version https://git-lfs")) return FileKind::git_lfs_pointer;
  // a length of at most 100 MB, little-endian, and JSON
  if (at(8) == '{' && at(4) == 0 && at(5) == 0 && at(6) == 0 && at(7) == 0) return FileKind::safetensors;
  if (starts("PK\x03\x04")) {
    return all.find("data.pkl") != std::string_view::npos ? FileKind::pytorch : FileKind::zip;
  }
  if (at(0) == 0x80 && at(1) >= 2 && at(1) <= 5) return FileKind::pytorch;
  for (const std::string_view magic : {std::string_view("\x1f\x8b"), std::string_view("BZh"),
                                       std::string_view("\xfd"
                                                        "7zXZ"),
                                       std::string_view("\x28\xb5\x2f\xfd"), std::string_view("7z\xbc\xaf")}) {
    if (starts(magic)) return FileKind::compressed;
  }
  if (all.size() >= 262 && all.substr(257, 5) == "ustar") return FileKind::tar;
  for (const std::string_view magic : {"lmgg", "fmgg", "tjgg", "algg"}) {  // 'ggml', 'ggmf', 'ggjt', 'ggla'
    if (starts(magic)) return FileKind::old_ggml;
  }
  if (starts("\x89HDF\r\n")) return FileKind::hdf5;
  if (starts("\x93NUMPY")) return FileKind::numpy;
  if (starts("PAR1") || starts("ARROW1")) return FileKind::parquet;
  // a protobuf message: of ONNX a version and then who made it, of SentencePiece pieces
  if (at(0) == 0x08 && at(1) < 32 && (at(2) == 0x12 || at(2) == 0x3a || at(2) == 0x42)) return FileKind::onnx;
  if (at(0) == 0x0a && at(1) < 128 && at(2) == 0x0a) return FileKind::sentencepiece;
  const std::string_view text = detail::without_white_space(all);
  for (const std::string_view start : {"<!doctype html", "<html", "<head", "<?xml", "<!--"}) {
    if (detail::begins_like(text, start)) return FileKind::html;
  }
  if (text.starts_with('{') || text.starts_with('[')) return FileKind::json;
  if (detail::is_plain_text(all)) return FileKind::text;
  return std::nullopt;
}

/// Returns what messages call a kind of file: "a git-lfs pointer".
constexpr std::string_view name_of(FileKind kind) noexcept {
  constexpr std::string_view names[] = {"a GGUF file",
                                        "a safetensors file",
                                        "a packed file of this library",
                                        "a session file of this library",
                                        "a SentencePiece tokenizer",
                                        "JSON",
                                        "a git-lfs pointer",
                                        "an HTML page",
                                        "a PyTorch pickle",
                                        "a zip archive",
                                        "a compressed file",
                                        "a tar archive",
                                        "a file of GGML's formats before GGUF",
                                        "an HDF5 file (Keras)",
                                        "an ONNX model",
                                        "a NumPy array",
                                        "a Parquet or Arrow file",
                                        "a text"};
  return names[static_cast<std::size_t>(kind)];
}

/// Returns what is to be done about a file of that kind where another was wanted; empty where the kind alone says it.
constexpr std::string_view remedy_of(FileKind kind) noexcept {
  switch (kind) {
    case FileKind::git_lfs_pointer:
      return "run `git lfs pull` in its repository to download the file itself";
    case FileKind::html:
      return "download it again: a server answered with a page (is there a login, or a licence to accept?)";
    case FileKind::pytorch:
      return "convert it to safetensors (transformers: save_pretrained)";
    case FileKind::zip:
    case FileKind::compressed:
    case FileKind::tar:
      return "unpack it first";
    case FileKind::old_ggml:
      return "convert the original model to GGUF again";
    case FileKind::hdf5:
    case FileKind::onnx:
      return "export the model to safetensors or GGUF";
    default:
      return {};
  }
}

/// The error about a file of another kind than was wanted: `[gguf] a.gguf: run `git lfs pull` ...: expected a GGUF
/// file, got a git-lfs pointer`. `name`: the file's, fit for a line.
inline Error foreign_file(std::span<const std::byte> bytes, FileKind kind, std::string_view where,
                          std::string_view name, std::string_view wanted) {
  std::string what(name);
  if (const std::string_view remedy = remedy_of(kind); !remedy.empty()) what.append(": ").append(remedy);
  std::string found(name_of(kind));
  if (kind == FileKind::text) {
    const std::string_view text = detail::text_of(bytes);
    found += " that begins with '" + printable(text.substr(0, text.find('\n')), 40) + "'";
  }
  return Error(where, what, wanted, found);
}

/// Throws that error where `bytes` are of a kind that is known and isn't `own`.
inline void refuse_foreign(std::span<const std::byte> bytes, FileKind own, std::string_view where,
                           std::string_view name, std::string_view wanted) {
  const std::optional<FileKind> kind = file_kind(bytes);
  if (kind && *kind != own) throw foreign_file(bytes, *kind, where, name, wanted);
}

}}  // namespace mistral
