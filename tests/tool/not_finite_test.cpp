// SPDX-License-Identifier: Apache-2.0
// A checkpoint with one weight that is NaN: every command that would make figures or files of it says so instead.
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/io/safetensors/safetensors.hpp>

#include "tool.hpp"

using namespace mistral;
using test::Run;
using test::run_tool;
using test::Scratch;
using Arguments = std::vector<std::string>;

namespace {

const std::string breeze = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

// breeze with a NaN in layer 2's w2, at the front of row 0.
std::string spoilt(const Scratch& scratch) {
  const std::string folder = scratch.path("spoilt");
  std::filesystem::create_directory(folder);
  for (const char* const name : {"config.json", "tokenizer.model", "model.safetensors"}) {
    std::filesystem::copy(breeze + "/" + name, folder + "/" + name);
  }
  std::string bytes = scratch.read("spoilt/model.safetensors");
  std::size_t offset = 0;
  {
    const Safetensors file = Safetensors::open(folder + "/model.safetensors");
    const auto data = file.get("model.layers.2.mlp.down_proj.weight").data;
    REQUIRE(file.get("model.layers.2.mlp.down_proj.weight").dtype == DType::bf16);
    offset = bytes.find(std::string(reinterpret_cast<const char*>(data.data()), 64));
    REQUIRE(offset != std::string::npos);
  }
  const std::uint16_t not_a_number = 0x7fc0;
  std::memcpy(bytes.data() + offset, &not_a_number, sizeof not_a_number);
  scratch.write("spoilt/model.safetensors", bytes);
  return folder;
}

}  // namespace

TEST_CASE("a weight that is NaN ends every command with the layer where it stands") {
  if (test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string model = spoilt(scratch);
  const std::string choices =
      scratch.write("choices.jsonl", R"({"prompt": "Let there be", "choices": [" light", " dark"], "answer": 0})"
                                     "\n");
  const std::string answers = scratch.write("answers.jsonl", R"({"prompt": "Let there be", "answers": [" light"]})"
                                                             "\n");
  const std::string texts = scratch.write("texts.jsonl", R"({"text": "And God said, Let there be light"})"
                                                         "\n");
  const std::vector<Arguments> commands{
      {"generate", "--prompt", "And God", "--max-tokens", "3"},
      {"logits", "--prompt", "And God", "--out", scratch.path("logits.npy")},
      {"perplexity", "--text", "And God said"},
      {"moderate", "--prompt", "And God said"},
      {"evaluate", "--task", choices},
      {"evaluate", "--task", answers},
      {"evaluate", "--task", texts},
  };
  for (Arguments arguments : commands) {
    CAPTURE(arguments[0]);
    CAPTURE(arguments.back());
    arguments.insert(arguments.begin() + 1, {"--model", model});
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == 1);
    CHECK(run.out == "");
    CHECK(run.err.find("[logits] position ") != std::string::npos);
    CHECK(run.err.find("got NaN that began in layers.2, at position 0") != std::string::npos);
  }
  CHECK_FALSE(std::filesystem::exists(scratch.path("logits.npy")));
}

TEST_CASE("quantize writes no file with a NaN in it, and names the tensor") {
  if (test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string model = spoilt(scratch);
  const std::string out = scratch.path("out");
  std::vector<std::pair<std::string, std::string>> kinds{{"bf16", "packed"}};
  for (const char* const format : {"f32", "f16", "bf16", "q8_0", "iq4_nl", "q4_0"}) kinds.push_back({format, "gguf"});
  for (const auto& one : kinds) {
    const std::string &format = one.first, &kind = one.second;
    CAPTURE(format);
    CAPTURE(kind);
    const Run run = run_tool({"quantize", model, "--weights", format, "--to", kind, "--out", out});
    CHECK(run.exit_code == 1);
    CHECK(run.err.find("tensor 'model.layers.2.mlp.down_proj.weight': expected finite weights, got NaN in row 0") !=
          std::string::npos);
    CHECK_FALSE(std::filesystem::exists(out));
  }
}
