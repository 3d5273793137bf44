// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/file_kind.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <mistral/checkpoint/layout.hpp>
#include <mistral/checkpoint/peft_config.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/lines.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

#include "../support/data.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using namespace std::string_literals;
using test::error_of;
using test::Scratch;

namespace {

const std::string pointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 14483464192\n";

std::optional<FileKind> kind_of(const std::string& bytes) { return file_kind(std::as_bytes(std::span(bytes))); }

}  // namespace

TEST_CASE("files are told by their first bytes") {
  const std::vector<std::pair<std::string, FileKind>> known = {
      {pointer, FileKind::git_lfs_pointer},
      {"<!DOCTYPE html><html>", FileKind::html},
      {"\n  <HTML lang=en>", FileKind::html},
      {"\xef\xbb\xbf<!doctype html>", FileKind::html},
      {"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", FileKind::html},
      {"PK\x03\x04\0\0\0\0\0\0archive/data.pkl"s, FileKind::pytorch},
      {"\x80\x02\x8a\nl\xfc\x9c\x46\xf9", FileKind::pytorch},
      {"PK\x03\x04\x14\0\0\0model.json"s, FileKind::zip},
      {"\x1f\x8b\x08\0"s, FileKind::compressed},
      {"BZh91AY", FileKind::compressed},
      {"\x28\xb5\x2f\xfd\x04", FileKind::compressed},
      {"\xfd\x37zXZ\0"s, FileKind::compressed},
      {std::string(257, '\0') + "ustar\0\0\0"s, FileKind::tar},
      {"tjgg\x03\0\0\0"s, FileKind::old_ggml},
      {"lmgg\0\0\0\0"s, FileKind::old_ggml},
      {"\x89HDF\r\n\x1a\n", FileKind::hdf5},
      {"\x08\x07\x12\x07pytorch", FileKind::onnx},
      {"\x93NUMPY\x01\0"s, FileKind::numpy},
      {"PAR1\x15\x04"s, FileKind::parquet},
      {"GGUF\x03\0\0\0"s, FileKind::gguf},
      {"MISTRAL\x1a\x01\0\0\0"s, FileKind::packed},
      {"MISTSES\x1a\x01\0\0\0"s, FileKind::session},
      {"\x10\0\0\0\0\0\0\0{\"a\":1}"s, FileKind::safetensors},
      {"\n\x0e\n\x05<unk>\x15"s, FileKind::sentencepiece},
      {" {\"a\": 1}", FileKind::json},
      {"[\n", FileKind::json},
      {"Entry not found", FileKind::text},
  };
  for (const auto& one : known) {
    const auto& bytes = one.first;
    const FileKind kind = one.second;
    CAPTURE(bytes);
    CHECK(kind_of(bytes) == kind);
    CHECK(name_of(kind).starts_with("a") != (kind == FileKind::json));
  }
  for (const std::string& bytes : {""s, "\x01\x02\x03\x04"s, "short"s, "\xff\xff\xff\xff text"s}) {
    CHECK(kind_of(bytes) == std::nullopt);
  }
}

TEST_CASE("every reader names a file of another kind, and what to do about it") {
  const Scratch scratch;
  const std::string file = scratch.write("f", pointer);
  const std::string run = ": run `git lfs pull` in its repository to download the file itself: expected ";
  const auto bytes = std::as_bytes(std::span(pointer));
  CHECK(error_of([&] { Safetensors::open(file); }) ==
        "[safetensors] " + file + run + "a safetensors file, got a git-lfs pointer");
  CHECK(error_of([&] { Gguf::open(file); }) == "[gguf] " + file + run + "a GGUF file, got a git-lfs pointer");
  CHECK(error_of([&] { PackedFile::open(file); }) ==
        "[packed] " + file + run + "a file of this library's own, got a git-lfs pointer");
  CHECK(error_of([&] { JsonObject::parse(bytes, "config", "c"); }) ==
        "[config] c" + run + "a JSON object, got a git-lfs pointer");
  CHECK(error_of([&] { detect_layout(file); }).find(run) != std::string::npos);
  const std::string data = scratch.write("d.jsonl", pointer);
  CHECK(error_of([&] { for_each_json_line(data, "task", [](const JsonObject&, std::size_t) {}); }) ==
        "[task] " + data + ":1" + run + "a JSON object, got a git-lfs pointer");
}

TEST_CASE("a checkpoint that is none is named as what it is") {
  const Scratch scratch;
  const auto error = [](const std::string& path) { return error_of([&] { detect_layout(path); }); };
  const auto check = [&](const std::string& path, const std::string& remedy, const std::string& found) {
    const std::string line = error(path);
    CAPTURE(line);
    CHECK(line.starts_with("[checkpoint] " + path + ": " + remedy));
    CHECK(line.ends_with(", got " + found));
  };
  check("mistralai/Mistral-7B-v0.1", "download it first (`hf download mistralai/Mistral-7B-v0.1 --local-dir FOLDER`)",
        "no such folder, but what reads as a name on a hub");
  check(scratch.path("nowhere"), "expected", "nothing at that path");
  check(scratch.write("empty", ""), "expected", "an empty file");
  check(scratch.write("consolidated.00.pth", "PK\x03\x04....archive/data.pkl"),
        "convert it to safetensors (transformers: save_pretrained): expected", "a PyTorch pickle");
  check(scratch.write("m.safetensors", "\x10\0\0\0\0\0\0\0{\"a\":1}"s), "give the folder that it stands in: expected",
        "a safetensors file");
  check(scratch.write("config.json", "{}"), "give the folder that it stands in: expected", "JSON");
  check(scratch.write("tokenizer.model", "\n\x0e\n\x05<unk>"),
        "give the model here, and this as its tokenizer: expected", "a SentencePiece tokenizer");
  check(scratch.write("model.h5", "\x89HDF\r\n\x1a\n"), "export the model to safetensors or GGUF: expected",
        "an HDF5 file (Keras)");
  scratch.write("adapter/adapter_config.json", "{}");
  check(scratch.path("adapter"), "give the base's folder here, and this as the adapter: expected",
        "the folder of an adapter");
  scratch.write("ggufs/m-q4.gguf", "GGUF");
  check(scratch.path("ggufs"), "give the file rather than the folder: expected",
        "neither config.json nor params.json in it, but 'm-q4.gguf'");
}

TEST_CASE("a path is taken for a hub's name only where it can be one") {
  const Scratch scratch;
  CHECK(is_hub_name("mistralai/Mistral-7B-v0.1"));
  CHECK(is_hub_name("TheBloke/Mistral-7B-Instruct-v0.2-AWQ"));
  for (const std::string& path : {"/a/b"s, "./a/b"s, "../a"s, "~/a"s, "a"s, "a/"s, "a/b/c"s, "a/b.gguf"s,
                                  "a/tokenizer.model"s, "a b/c"s, scratch.path("x")}) {
    CAPTURE(path);
    CHECK_FALSE(is_hub_name(path));
  }
}

TEST_CASE("an adapter that is none is named as what it is") {
  const Scratch scratch;
  const auto error = [](const std::string& path) { return error_of([&] { detail::PeftConfig::read_folder(path); }); };
  const std::string wanted = ": expected a folder with adapter_config.json and adapter_model.safetensors (PEFT), got ";
  CHECK(error("someone/lora") ==
        "[adapter] someone/lora: download it first (`hf download someone/lora --local-dir FOLDER`)"
        " and give the folder" +
            wanted + "no such folder, but what reads as a name on a hub");
  CHECK(error(scratch.path("no")) == "[adapter] " + scratch.path("no") + wanted + "nothing at that path");
  const std::string file = scratch.write("adapter_model.safetensors", "\x10\0\0\0\0\0\0\0{\"a\":1}"s);
  CHECK(error(file) == "[adapter] " + file + ": give the folder of an adapter" + wanted + "a safetensors file");
  scratch.write("mf/lora.safetensors", "x");
  scratch.write("mf/params.json", "{}");
  CHECK(error(scratch.path("mf")).ends_with("lora.safetensors, an adapter of mistral-finetune"));
  scratch.write("model/config.json", "{}");
  CHECK(error(scratch.path("model")).ends_with("the folder of a model"));
  const std::string config = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})";
  scratch.write("bin/adapter_config.json", config);
  scratch.write("bin/adapter_model.bin", "PK");
  CHECK(error(scratch.path("bin")) ==
        "[adapter] " + scratch.path("bin") +
            ": save it as safetensors with PEFT (save_pretrained(FOLDER, safe_serialization=True)): expected "
            "adapter_model.safetensors, got adapter_model.bin, a PyTorch pickle");
  scratch.write("mlx/adapter_config.json", R"({"fine_tune_type": "lora", "lora_parameters": {"rank": 4}})");
  CHECK(
      error(scratch.path("mlx")).ends_with("convert it to PEFT's layout: expected an adapter of PEFT, got one of MLX"));
  for (const char* const kind : {"pissa", "pissa_niter_16", "corda", "lora_ga", "something_new"}) {
    scratch.write("bin/adapter_config.json",
                  R"({"r": 2, "lora_alpha": 4, "init_lora_weights": ")" + std::string(kind) + "\"}");
    const std::string line = error(scratch.path("bin"));
    CHECK(line.find("field 'init_lora_weights': expected one that stands beside the base as it is: convert it with "
                    "PEFT (save_pretrained(FOLDER, path_initial_model_for_weight_conversion=...)), got '" +
                    std::string(kind) + "'") != std::string::npos);
  }
  for (const char* const kind : {"true", "false", "null", "\"gaussian\"", "\"eva\"", "\"orthogonal\"", "\"mica\""}) {
    scratch.write("bin/adapter_config.json",
                  R"({"r": 2, "lora_alpha": 4, "init_lora_weights": )" + std::string(kind) + "}");
    CHECK_FALSE(detail::PeftConfig::read(scratch.path("bin/adapter_config.json")).olora);
  }
  scratch.write("bin/adapter_config.json", R"({"r": 2, "lora_alpha": 4, "init_lora_weights": "OLoRA"})");
  CHECK(detail::PeftConfig::read(scratch.path("bin/adapter_config.json")).olora);
}

TEST_CASE("JSON that goes over the lines of a file is named where an object a line is wanted") {
  const Scratch scratch;
  const auto error = [&](const std::string& text) {
    const std::string path = scratch.write("t.jsonl", text);
    const std::string line = error_of([&] { for_each_json_line(path, "task", [](const JsonObject&, std::size_t) {}); });
    return line.starts_with("[task] " + path) ? line.substr(path.size() + 7) : line;
  };
  CHECK(error("[\n {\"a\": 1},\n {\"a\": 2}\n]\n") == "no error");  // an array of objects is read
  CHECK(error("{\n \"a\": 1\n}\n") ==
        ":1: write each object on a line of its own (jq -c . FILE): expected a JSON object a line, got an object over "
        "several lines");
  CHECK(error("{\"a\": 1}\n{\"a\": 2}\n") == "no error");
  CHECK(error_of([&] { LineReader reader("someone/data-set", "task", 100); }) ==
        "[task] someone/data-set: download it first, and give the file: expected a file, got no such file, but what "
        "reads "
        "as a name on a hub");
}
