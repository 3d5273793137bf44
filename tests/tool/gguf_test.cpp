// SPDX-License-Identifier: Apache-2.0
// The tool with a GGUF file in place of a folder.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/io/npy.hpp>

#include "../support/golden.hpp"
#include "tool.hpp"

using namespace mistral;
using nlohmann::json;
using test::golden;
using test::Run;
using test::run_tool;
using test::Scratch;

TEST_CASE("inspect says what a GGUF file is, and to which format each of its types is converted") {
  const auto path = golden("gguf/stories260k_q4_0.gguf");
  if (test::tool_path() == nullptr || path.empty()) return;
  const Run run = run_tool({"inspect", "--model", path.string(), "--json"});
  CHECK(run.exit_code == 0);
  const json made = json::parse(run.out);
  CHECK(made["layout"] == "gguf");
  CHECK(made["config"]["hidden_dim"] == 172);
  CHECK(made["tensors"]["dtypes"] == json{{"F16", 5}, {"F32", 11}, {"Q4_0", 32}});
  CHECK(made["tensors"]["parameters"] == 292800);
  CHECK(made["tokenizer"] == json{{"vocab_size", 512}, {"bos_id", 1}, {"eos_id", 2}, {"fits", true}});
  CHECK(made["weights"] == "F16");  // in which no matrix loses anything
  CHECK(made["formats"] == json{{"F16", 5}, {"Q4_0", 32}});
  CHECK(made["reencoded_tensors"] == 32);
  const Run text = run_tool({"inspect", "--model", path.string()});
  CHECK(text.out.starts_with("layout        GGUF\nconfig        dim 64, "));
  CHECK(text.out.find("\nconverted     when loaded: 32 matrices to F16\n") != std::string::npos);
}

TEST_CASE("inspect of a GGUF file without a tokenizer, in one format") {
  const auto path = golden("gguf/gqa_w8_f32.gguf");
  if (test::tool_path() == nullptr || path.empty()) return;
  const json made = json::parse(run_tool({"inspect", "--model", path.string(), "--json"}).out);
  CHECK(made["tokenizer"].is_null());
  CHECK(made["weights"] == "F32");
  CHECK(made["reencoded_tensors"] == 0);
  const Run run = run_tool({"tokenize", "--model", path.string(), "--text", "a"});
  CHECK(run.exit_code == 1);
  CHECK(run.err == "mistral: error: [tokenizer] " + path.string() +
                       ": expected a tokenizer in the file, or another by --tokenizer, got neither\n");
}

TEST_CASE("inspect says what a file is whose tokenizer is of another kind, and what is wrong with that") {
  const auto path = golden("gguf/gqa_w8_f32.gguf");
  if (test::tool_path() == nullptr || path.empty()) return;
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const std::string none = "no_vocab";
  REQUIRE(bytes.find(none) != std::string::npos);
  bytes.replace(bytes.find(none), none.size(), "gpt2-bpe");
  const Scratch scratch;
  const std::string other = scratch.write("m.gguf", bytes);
  const std::string error =
      "[gguf] " + other + ": key 'tokenizer.ggml.model': expected 'llama' (SentencePiece BPE), got 'gpt2-bpe'";
  const Run run = run_tool({"inspect", "--model", other, "--json"});
  CHECK(run.exit_code == 0);
  const json made = json::parse(run.out);
  CHECK(made["tokenizer"] == json{{"error", error}});
  CHECK(made["weights"] == "F32");
  CHECK(run_tool({"inspect", "--model", other}).out.find("\ntokenizer     cannot be used: " + error + "\n") !=
        std::string::npos);
  // and where it is needed, it is an error
  CHECK(run_tool({"tokenize", "--model", other, "--text", "a"}).err == "mistral: error: " + error + "\n");
}

TEST_CASE("logits of a GGUF file are the golden ones") {
  const auto path = golden("gguf/gqa_w8_f32.gguf");
  if (test::tool_path() == nullptr || path.empty()) return;
  const Safetensors expected = Safetensors::open((path.parent_path() / "gqa_w8_f32.expected.safetensors").string());
  std::string tokens;
  for (const TokenId token : test::tensor_values<TokenId>(expected, "tokens")) {
    tokens.append(tokens.empty() ? "" : ",").append(std::to_string(token));
  }
  const Scratch scratch;
  const std::string out = scratch.path("logits.npy");
  const Run run = run_tool({"logits", "--model", path.string(), "--tokens", tokens, "--out", out});
  CHECK(run.exit_code == 0);
  CHECK(test::max_error(read_npy(out).values,
                        test::tensor_values<float>(expected, "logits_prefill_f32_from_dequantized")) < 1e-4f);
}

TEST_CASE("generate and tokenize take the tokenizer that the GGUF file holds") {
  const auto path = golden("gguf/stories260k_q8_0.gguf");
  if (test::tool_path() == nullptr || path.empty()) return;
  const Run run = run_tool({"generate", "--model", path.string(), "--prompt", "Once upon a time", "--temperature", "0",
                            "--max-tokens", "20"});
  CHECK(run.exit_code == 0);
  CHECK(run.err.find(" matrices of " + path.string() + " aren't in F16 and are encoded again in that") !=
        std::string::npos);
  CHECK(run.out.starts_with(", there was a little girl named Lily."));
  CHECK(run_tool({"tokenize", "--model", path.string(), "--text", "Once upon"}).out == "403 407\n");
  CHECK(run_tool({"tokenize", "--tokenizer", path.string(), "--text", "403 407", "--decode"}).out == "Once upon\n");
}

TEST_CASE("a file that is no GGUF, and one that is cut, end in one line") {
  if (test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string bad = scratch.write("bad.gguf", "GGML0000");
  for (const char* command : {"generate", "inspect"}) {
    const Run run = run_tool({command, "--model", bad});
    CHECK(run.exit_code == 1);
    CHECK(run.err == "mistral: error: [gguf] " + bad + ": the magic: expected 'GGUF', got 'GGML'\n");
  }
  const std::string cut = scratch.write("cut", "GGUF" + std::string("\3\0\0\0", 4));
  const Run run = run_tool({"inspect", "--model", cut});
  CHECK(run.exit_code == 1);
  CHECK(run.err ==
        "mistral: error: [gguf] " + cut + ": the number of tensors at byte 8: expected 8 bytes, got 0 up to the end\n");
}
