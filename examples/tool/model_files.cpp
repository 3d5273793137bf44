#include "model_files.hpp"

#include <mistral/io/checkpoint.hpp>
#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral::tool {

std::string last_part(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

std::string own_tokenizer(const std::string& asked_for, const std::string& checkpoint) {
  if (!asked_for.empty() || is_gguf_file(checkpoint)) return asked_for;
  const std::string standard = path_in(checkpoint, "tokenizer.model");
  return path_exists(standard) ? standard : std::string();
}

GgufMetadataWriter gguf_tokenizer_of(const std::string& path) {
  if (path.empty()) return {};
  if (is_gguf_file(path)) return gguf_tokenizer_metadata(Gguf::open(path));
  const MappedFile file = MappedFile::open(path, "tokenizer");
  const std::string name = printable(path, 1000);
  const SentencePieceModel model = parse_sentencepiece_model(file.bytes(), name);
  const Tokenizer checked(model, name);  // a file that others would choke on isn't passed on
  return gguf_tokenizer_metadata(model, name);
}

}  // namespace mistral::tool
