// SPDX-License-Identifier: Apache-2.0
#include <mistral/checkpoint/tensor_files.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <mistral/io/safetensors/writer.hpp>

#include "../support/data.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::DType;
using mistral::SafetensorsTensor;
using mistral::TensorFiles;
using mistral::test::error_of;
using mistral::test::Scratch;

const std::string bytes = "0123456789";

/// Writes one-dimensional byte tensors, each of its name's length.
void write_shard(const Scratch& scratch, const std::string& file, const std::vector<std::string>& names) {
  std::vector<SafetensorsTensor> tensors;
  for (const std::string& name : names) {
    tensors.push_back({name, DType::u8, {name.size()}, std::as_bytes(std::span(bytes)).first(name.size())});
  }
  mistral::write_safetensors(scratch.path(file), tensors);
}

std::string opening(const Scratch& scratch) {
  return error_of([&] { TensorFiles::open(scratch.path(""), "model"); });
}

std::string with_index(const Scratch& scratch, const std::string& index) {
  scratch.write("model.safetensors.index.json", index);
  return opening(scratch);
}

}  // namespace

TEST_CASE("a single file is its own index") {
  const Scratch scratch;
  write_shard(scratch, "model.safetensors", {"bb", "a"});
  const TensorFiles files = TensorFiles::open(scratch.path(""), "model");
  REQUIRE(files.size() == 2);
  CHECK(files[0].name == "a");
  CHECK(files.get("bb").data.size() == 2);
  CHECK(files.find("c") == nullptr);
  CHECK(files.file_of(files[0]) == scratch.path("model.safetensors"));
  CHECK(error_of([&] { files.get("c"); }) ==
        "[safetensors] " + scratch.path("model.safetensors") + ": tensor 'c' is missing");
}

TEST_CASE("tensors are found across shards, and only those that the index lists") {
  const Scratch scratch;
  write_shard(scratch, "one.safetensors", {"a", "bb", "unlisted"});
  write_shard(scratch, "two.safetensors", {"a", "ccc"});
  const std::string index =
      scratch.write("model.safetensors.index.json",
                    R"({"weight_map": {"a": "two.safetensors", "bb": "one.safetensors", "ccc": "two.safetensors"}})");
  TensorFiles opened = TensorFiles::open(scratch.path(""), "model");
  const TensorFiles files = std::move(opened);
  REQUIRE(files.size() == 3);
  CHECK(files.file_of(files.get("a")) == scratch.path("two.safetensors"));
  CHECK(files.file_of(files.get("bb")) == scratch.path("one.safetensors"));
  files.release(files.get("bb"));
  CHECK(files.get("bb").data[1] == std::byte{'1'});
  CHECK(files.find("unlisted") == nullptr);
  CHECK(error_of([&] { files.get("d"); }) == "[safetensors] " + index + ": tensor 'd' is missing");
}

TEST_CASE("an index that cannot be followed is refused") {
  const Scratch scratch;
  const std::string index = "[safetensors] " + scratch.path("model.safetensors.index.json") + ": ";
  CHECK(opening(scratch) == "[safetensors] " + scratch.path("") +
                                ": expected model.safetensors or model.safetensors.index.json, got neither of them");
  write_shard(scratch, "one.safetensors", {"a"});
  CHECK(with_index(scratch, R"({"weight_map": {"a": "one.safetensors"}})") == "no error");
  CHECK(with_index(scratch, "{}") == index + "field 'weight_map' is missing");
  CHECK(with_index(scratch, R"({"weight_map": {"a": 3}})") ==
        index + "field 'weight_map': field 'a': expected a string, got 3");
  CHECK(with_index(scratch, R"({"weight_map": {"a": "two.safetensors"}})") ==
        "[safetensors] " + scratch.path("two.safetensors") + ": cannot open: No such file or directory");
  for (const std::string& outside : {std::string("../one.safetensors"), scratch.path("one.safetensors"),
                                     std::string("..\\\\one.safetensors"), std::string(".."), std::string(""),
                                     std::string("/dev/zero"), std::string("one.safetensors\\u0000/x.safetensors")}) {
    CHECK(with_index(scratch, R"({"weight_map": {"a": ")" + outside + "\"}}")
              .starts_with(index +
                           "field 'weight_map': field 'a': expected the name of a .safetensors file in the same "
                           "folder, got '"));
  }
}

TEST_CASE("a name that an index has and its file hasn't matters only where it is asked for") {
  const Scratch scratch;
  write_shard(scratch, "one.safetensors", {"a"});
  scratch.write("model.safetensors.index.json",
                R"({"weight_map": {"a": "one.safetensors", "rotary_emb.inv_freq": "one.safetensors"}})");
  const TensorFiles files = TensorFiles::open(scratch.path(""), "model");
  CHECK(files.size() == 1);
  CHECK(files.find("rotary_emb.inv_freq") == nullptr);
  CHECK(error_of([&] { files.get("rotary_emb.inv_freq"); }) ==
        "[safetensors] " + scratch.path("one.safetensors") +
            ": tensor 'rotary_emb.inv_freq' is missing, though the index says that it is here");
}

TEST_CASE("a folder of another program's weights is told what they are") {
  const Scratch scratch;
  const std::string start = "[safetensors] " + scratch.path("") + ": ";
  const std::string end = ": expected model.safetensors or model.safetensors.index.json, got '";
  scratch.write("a.h5", "x");
  CHECK(opening(scratch) == start + "export the model to safetensors" + end + "a.h5'");
  scratch.write("m.gguf", "x");
  CHECK(opening(scratch) == start + "give the GGUF file rather than the folder" + end + "m.gguf'");
  scratch.write("pytorch_model-00001-of-00002.bin", "x");
  CHECK(opening(scratch) == start + "convert it to safetensors (transformers: save_pretrained)" + end +
                                "pytorch_model-00001-of-00002.bin'");
}

TEST_CASE("a golden checkpoint in shards holds the tensors of the one in a single file") {
  const std::filesystem::path root = mistral::test::golden("forward/w1");
  if (root.empty()) return;
  const TensorFiles single = TensorFiles::open((root / "hf").string(), "model");
  const TensorFiles shards = TensorFiles::open((root / "hf_sharded").string(), "model");
  REQUIRE(single.size() == shards.size());
  for (std::size_t i = 0; i < single.size(); ++i) {
    CHECK(single[i].name == shards[i].name);
    CHECK(single[i].shape == shards[i].shape);
    CHECK(std::equal(single[i].data.begin(), single[i].data.end(), shards[i].data.begin(), shards[i].data.end()));
  }
}
