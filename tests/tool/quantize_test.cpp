// SPDX-License-Identifier: Apache-2.0
// mistral quantize: to GGUF and to packed files, and the other commands with what it wrote.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/format/format_names.hpp>

#include "tool.hpp"

using namespace mistral;
using nlohmann::json;
using test::Run;
using test::run_tool;
using test::Scratch;

namespace {

std::string story(const std::string& model) {
  const Run run = run_tool(
      {"generate", "--model", model, "--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "40"});
  CHECK((run.err == "" || run.err.starts_with("mistral: note: 32 of 37 matrices of " + model + " aren't in F16 ")));
  CHECK(run.exit_code == 0);
  return run.out;
}

}  // namespace

TEST_CASE("a folder, the GGUF file made from it and the packed file made from either tell the same story") {
  const std::string folder = test::stories();
  if (test::tool_path() == nullptr || folder.empty()) return;
  const Scratch scratch;
  const std::string expected = story(folder);
  const std::string gguf = scratch.path("s.gguf");
  const Run written = run_tool({"quantize", folder, "--weights", "f32", "--out", gguf, "--json"});
  CHECK(written.exit_code == 0);
  const json said = json::parse(written.out);
  CHECK(said["kind"] == "gguf");
  CHECK(said["weights"] == "F32");
  CHECK(said["in_f16"] == json::array());
  CHECK(said["out"] == gguf);
  CHECK(story(gguf) == expected);
  for (const std::string& source : {folder, gguf}) {
    const std::string packed = scratch.path("s.mistral");
    const Run run = run_tool({"quantize", source, "--weights", "F32", "--to", "packed", "--out", packed});
    CHECK(run.err == "");
    CHECK(run.out == packed + ": 1.18 MB of tensors in F32\n");
    CHECK(story(packed) == expected);
    CHECK(run_tool({"tokenize", "--model", packed, "--text", "Once upon"}).out == "403 407\n");
    CHECK(run_tool({"tokenize", "--tokenizer", packed, "--text", "Once upon"}).out == "403 407\n");
    const json inspected = json::parse(run_tool({"inspect", "--model", packed, "--verify", "--json"}).out);
    CHECK(inspected["layout"] == "packed");
    CHECK(inspected["weights"] == "F32");
    CHECK(inspected["tokenizer"]["vocab_size"] == 512);
    CHECK(inspected["config"]["context_len"] == 512);
    CHECK(inspected["reencoded_tensors"] == 0);
  }
}

TEST_CASE("rows that are no whole blocks are written in F16, and the tool says which") {
  const std::string folder = test::stories();
  if (test::tool_path() == nullptr || folder.empty()) return;
  const Scratch scratch;
  const std::string gguf = scratch.path("s.gguf");
  const Run run = run_tool({"quantize", folder, "--weights", "q4_0", "--out", gguf});
  CHECK(run.exit_code == 0);
  CHECK(run.out.find(" of tensors in Q4_0; in F16, for their rows are no whole blocks: blk.0.ffn_down.weight, "
                     "blk.1.ffn_down.weight, ") != std::string::npos);
  const json made = json::parse(run_tool({"inspect", "--model", gguf, "--json"}).out);
  CHECK(made["tensors"]["dtypes"] == json{{"F16", 5}, {"F32", 11}, {"Q4_0", 32}});
  CHECK(made["tokenizer"] == json{{"vocab_size", 512}, {"bos_id", 1}, {"eos_id", 2}, {"fits", true}});
  CHECK(story(gguf).starts_with(", there was a little"));
}

TEST_CASE("a checkpoint without a tokenizer is written without one") {
  const std::string folder = test::tiny_model();
  if (test::tool_path() == nullptr || folder.empty()) return;
  const Scratch scratch;
  for (const std::string kind : {"gguf", "packed"}) {
    const std::string out = scratch.path(kind);
    CHECK(run_tool({"quantize", folder, "--weights", "f32", "--to", kind, "--out", out}).exit_code == 0);
    CHECK(json::parse(run_tool({"inspect", "--model", out, "--json"}).out)["tokenizer"].is_null());
    const Run run = run_tool({"generate", "--model", out, "--prompt", "a"});
    CHECK(run.exit_code == 1);
    CHECK(run.err == "mistral: error: [tokenizer] " + out +
                         ": expected a tokenizer in the file, or another by --tokenizer, got neither\n");
  }
}

TEST_CASE("what cannot be quantized or packed ends in one line, and leaves nothing") {
  const std::string folder = test::tiny_model();
  if (test::tool_path() == nullptr || folder.empty()) return;
  const Scratch scratch;
  const std::string out = scratch.path("out");
  const auto check = [&](std::vector<std::string> arguments, int code, const std::string& line) {
    arguments.insert(arguments.begin(), "quantize");
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == code);
    CHECK(run.err.substr(0, line.size() + 16) == "mistral: error: " + line);
    CHECK(run.out == "");
  };
  check({folder, "--weights", "q9", "--out", out}, 2, "--weights: expected one of " MISTRAL_FORMAT_NAMES);
  check({folder, "--weights", "nf4", "--out", out}, 2,
        "--weights NF4: expected --to packed with it, for GGUF has no such type, got --to gguf");
  check({folder, "--weights", "f32", "--out", out, "--to", "tar"}, 2, "--to: tar not in {gguf,packed}");
  check({folder, "--weights", "f32"}, 2, "--out is required");
  check({"--weights", "f32", "--out", out}, 2, "--model is required");
  check({scratch.path("none"), "--weights", "f32", "--out", out}, 1, "[checkpoint] " + scratch.path("none"));
  for (const std::string kind : {"gguf", "packed"}) {
    check({folder, "--weights", "f32", "--to", kind, "--out", "/dev/full"}, 1,
          "[" + kind + "] /dev/full: cannot write: No space left on device");
    check({folder, "--weights", "f32", "--to", kind, "--out", scratch.path("no/where")}, 1,
          "[" + kind + "] " + scratch.path("no/where") + ": cannot write: No such file or directory");
  }
  CHECK(run_tool({"quantize", folder, "--weights", "f32", "--to", "packed", "--out", out}).exit_code == 0);
  for (const std::string kind : {"gguf", "packed"}) {
    check({out, "--weights", "f32", "--to", kind, "--out", scratch.path("x")}, 1,
          "[packed] " + out + ": expected a checkpoint to ");
  }
  check({"--model", out, "--weights", "f32", "--out", scratch.path("x")}, 1, "[packed] " + out);
  const Run verify = run_tool({"inspect", "--model", folder, "--verify"});
  CHECK(verify.exit_code == 1);
  CHECK(verify.err.find(": --verify: expected a packed file, which has checksums, got Hugging Face") !=
        std::string::npos);
}

TEST_CASE("a packed file that is damaged or cut, or asked for in another format, ends in one line") {
  const std::string folder = test::tiny_model();
  if (test::tool_path() == nullptr || folder.empty()) return;
  const Scratch scratch;
  const std::string out = scratch.path("out");
  REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--to", "packed", "--out", out}).exit_code == 0);
  std::string bytes = scratch.read("out");
  const std::string cut = scratch.write("cut", bytes.substr(0, bytes.size() / 2));
  const Run run = run_tool({"inspect", "--model", cut});
  CHECK(run.exit_code == 1);
  CHECK(run.err.starts_with("mistral: error: [packed] " + cut + ": field 'tensors': tensor '"));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  const std::string damaged = scratch.write("damaged", bytes);
  CHECK(run_tool({"inspect", "--model", damaged}).exit_code == 0);
  const Run verified = run_tool({"inspect", "--model", damaged, "--verify"});
  CHECK(verified.exit_code == 1);
  CHECK(verified.err.find(": the checksum: expected ") != std::string::npos);

  const Run other =
      run_tool({"logits", "--model", out, "--weights", "bf16", "--tokens", "1", "--out", scratch.path("l")});
  CHECK(other.exit_code == 1);
  CHECK(other.err == "mistral: error: [packed] " + out + ": the weights: expected BF16, got F32\n");
}
