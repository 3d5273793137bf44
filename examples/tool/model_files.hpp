#pragma once

#include <string>

#include <mistral/io/gguf_writer.hpp>

namespace mistral::tool {

/// The last part of a path: what a model is called that has no other name.
std::string last_part(std::string path);

/// Where the tokenizer of a folder is, or the one that was asked for; empty for none, and for a file's own.
std::string own_tokenizer(const std::string& asked_for, const std::string& checkpoint);

/// A tokenizer's file as metadata of GGUF; none for an empty path. Throws Error where it isn't one.
GgufMetadataWriter gguf_tokenizer_of(const std::string& path);

}  // namespace mistral::tool
