// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "../support/rounds.hpp"
#include "../support/size_limit.hpp"
#include "tool.hpp"

namespace {

using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using mistral::test::stories;

bool missing() { return mistral::test::tool_path() == nullptr || stories().empty(); }

// A checkpoint whose tensors are a hole in a file: it takes no room, and long enough to quantize.
std::string large_checkpoint(const Scratch& scratch, const std::string& name) {
  constexpr std::uint64_t dim = 1024, hidden = 4096, vocab = 32000;
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> tensors{
      {"model.embed_tokens.weight", {vocab, dim}}, {"model.norm.weight", {dim}}, {"lm_head.weight", {vocab, dim}}};
  for (int layer = 0; layer < 4; ++layer) {
    const std::string start = "model.layers." + std::to_string(layer) + ".";
    for (const char* const norm : {"input_layernorm", "post_attention_layernorm"}) {
      tensors.push_back({start + norm + ".weight", {dim}});
    }
    for (const char* const part : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      tensors.push_back({start + "self_attn." + part + ".weight", {dim, dim}});
    }
    tensors.push_back({start + "mlp.gate_proj.weight", {hidden, dim}});
    tensors.push_back({start + "mlp.up_proj.weight", {hidden, dim}});
    tensors.push_back({start + "mlp.down_proj.weight", {dim, hidden}});
  }
  std::string header;
  std::uint64_t at = 0;
  for (const auto& [tensor, shape] : tensors) {
    std::uint64_t bytes = 2;
    std::string sizes;
    for (const std::uint64_t size : shape) {
      bytes *= size;
      sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
    }
    header += (header.empty() ? "{\"" : ",\"") + tensor + "\":{\"dtype\":\"BF16\",\"shape\":[" + sizes +
              "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + bytes) + "]}";
    at += bytes;
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  std::string length(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(length.data(), &size, sizeof size);
  const std::string file = scratch.write(name + "/model.safetensors", length + header);
  std::filesystem::resize_file(file, 8 + header.size() + at);
  scratch.write(name + "/config.json",
                R"({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
      "hidden_size": 1024, "num_hidden_layers": 4, "intermediate_size": 4096, "num_attention_heads": 16,
      "num_key_value_heads": 16, "sliding_window": null, "max_position_embeddings": 1024, "vocab_size": 32000,
      "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": false})");
  return scratch.path(name);
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    names.push_back(std::filesystem::relative(entry.path(), folder).string());
  }
  return names;
}

bool has_temporary(const std::string& folder) {
  for (const std::string& name : names_in(folder)) {
    if (name.find(".tmp-") != std::string::npos) return true;
  }
  return false;
}

// Starts the tool, and once it is writing a file in `folder`, does something to it, and waits for its end.
template <class Act>
Run run_until_writing(const std::vector<std::string>& arguments, const std::string& folder, Act act) {
  const Scratch scratch;
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, scratch.path("err").c_str(), O_WRONLY | O_CREAT, 0600);
  const ::pid_t child = mistral::test::start_tool(arguments, actions);
  ::posix_spawn_file_actions_destroy(&actions);
  for (int i = 0; !has_temporary(folder) && ::kill(child, 0) == 0 && i < 60'000; ++i) ::usleep(1000);
  CHECK(has_temporary(folder));
  act(child);
  Run run;
  mistral::test::wait_for(child, run);
  run.err = scratch.read("err");
  return run;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a command that a signal ends takes away what it was writing, and ends by that signal") {
  if (missing()) return;
  const Scratch scratch;
  const std::string model = large_checkpoint(scratch, "large");
  std::filesystem::create_directory(scratch.path("out"));
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    const Run run = run_until_writing({"quantize", model, "--weights", "q4_k", "--out", scratch.path("out/model.gguf")},
                                      scratch.path("out"), [&](::pid_t child) { ::kill(child, signal); });
    CAPTURE(signal);
    CHECK(run.signal == signal);
    CHECK(names_in(scratch.path("out")).empty());
  }
}

TEST_CASE("a folder that a command made goes with the signal that ends it, and one that was there stays") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  REQUIRE(
      run_tool({"finetune", "--model", stories(), "--data", data, "--out", scratch.path("adapter"), "--samples", "0"})
          .exit_code == 0);
  // an adapter of another model's shapes would be refused: one of 32 x 1024 zeros for the large one
  const std::string model = large_checkpoint(scratch, "large");
  const std::string header =
      R"({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight":{"dtype":"F32","shape":[1,1024],"data_offsets":[0,4096]},)"
      R"("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight":{"dtype":"F32","shape":[1024,1],"data_offsets":[4096,8192]}})";
  std::string length(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(length.data(), &size, sizeof size);
  scratch.write("lora/adapter_model.safetensors", length + header + std::string(8192, '\0'));
  scratch.write("lora/adapter_config.json",
                R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]})");
  std::filesystem::create_directory(scratch.path("out"));
  const auto merge = [&](const std::string& out) {
    return run_until_writing(
        {"merge", "--model", model, "--adapter", scratch.path("lora"), "--weights", "f32", "--out", out},
        scratch.path("out"), [](::pid_t child) { ::kill(child, SIGINT); });
  };
  CHECK(merge(scratch.path("out/merged")).signal == SIGINT);
  CHECK(names_in(scratch.path("out")).empty());
  std::filesystem::create_directory(scratch.path("out/merged"));
  CHECK(merge(scratch.path("out/merged")).signal == SIGINT);
  CHECK(names_in(scratch.path("out")) == Names{"merged"});
  CHECK(merge(scratch.path("out/merged.gguf")).signal == SIGINT);
  CHECK(names_in(scratch.path("out")) == Names{"merged"});
}

TEST_CASE("what a killed command left goes with the next one of the same name") {
  if (missing()) return;
  const Scratch scratch;
  const std::string model = large_checkpoint(scratch, "large");
  std::filesystem::create_directory(scratch.path("out"));
  const Run run = run_until_writing({"quantize", model, "--weights", "q4_k", "--out", scratch.path("out/model.gguf")},
                                    scratch.path("out"), [](::pid_t child) { ::kill(child, SIGKILL); });
  CHECK(run.signal == SIGKILL);
  CHECK(has_temporary(scratch.path("out")));
  scratch.write("out/model.gguf.tmp-1-0", "of a container's first process, which has a number of one that lives here");
  CHECK(run_tool({"quantize", stories(), "--weights", "q8_0", "--out", scratch.path("out/model.gguf")}).exit_code == 0);
  CHECK(names_in(scratch.path("out")) == Names{"model.gguf"});
}

TEST_CASE("a model file that is cut while it is read ends the tool with a line that names it") {
  if (missing()) return;
  const Scratch scratch;
  const std::string model = large_checkpoint(scratch, "lar\xC2\x9Bge");  // whose name isn't to drive a terminal
  std::filesystem::create_directory(scratch.path("out"));
  const Run run = run_until_writing(
      {"quantize", model, "--weights", "q4_k", "--out", scratch.path("out/model.gguf")}, scratch.path("out"),
      [&](::pid_t) { std::filesystem::resize_file(model + "/model.safetensors", 100'000); });
  CHECK(run.exit_code == 1);
  CHECK(run.err == "mistral: error: " + scratch.path("lar\\u009bge/model.safetensors") +
                       ": cannot read: the file was made shorter while it was in use, or its disk fails\n");
  CHECK(names_in(scratch.path("out")).empty());
}

TEST_CASE("a second interruption of a fine-tuning doesn't wait, and leaves nothing half-written") {
  if (missing()) return;
  const Scratch scratch;
  std::string data;
  for (int i = 0; i < 400; ++i) data += "{\"text\": \"Once upon a time there was a little girl named Lily.\"}\n";
  scratch.write("data.jsonl", data);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  const ::pid_t child = mistral::test::start_tool(
      {"finetune", "--model", stories(), "--data", scratch.path("data.jsonl"), "--out", scratch.path("run"), "--batch",
       "360", "--accumulation", "1", "--epochs", "1000", "--samples", "0"},
      actions);
  ::posix_spawn_file_actions_destroy(&actions);
  for (int i = 0; !std::filesystem::exists(scratch.path("run/state")) && i < 60'000; ++i) ::usleep(1000);
  for (int i = 0; i < 1000 && ::kill(child, SIGINT) == 0; ++i) {
    ::usleep(1000);
    ::kill(child, SIGINT);
  }
  Run run;
  mistral::test::wait_for(child, run);
  CHECK(run.signal == SIGINT);
  CHECK((!std::filesystem::exists(scratch.path("run")) || !has_temporary(scratch.path("run"))));
}

TEST_CASE("memory that runs out anywhere ends the tool with a line and exit code 1") {
  if (missing() || mistral::test::sanitized) return;  // which takes address space of its own
  const Scratch scratch;
  rlimit before{};
  ::getrlimit(RLIMIT_AS, &before);
  std::size_t refused = 0;
  for (rlim_t bytes = rlim_t{16} << 20; bytes < rlim_t{512} << 20; bytes += bytes / 16) {
    const rlimit limit{bytes, before.rlim_max};
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, scratch.path("err").c_str(),
                                       O_WRONLY | O_CREAT | O_TRUNC, 0600);
    // the shell takes little memory, and has the limit where this program needs more
    const std::string script = "ulimit -v " + std::to_string(limit.rlim_cur >> 10) +
                               "; exec \"$0\" generate --model \"$1\" --prompt Once --max-tokens 3 --threads 2";
    const char* argv[] = {"sh", "-c", script.c_str(), mistral::test::tool_path(), stories().c_str(), nullptr};
    const std::string model = stories();
    argv[4] = model.c_str();
    ::pid_t child = 0;
    REQUIRE(::posix_spawn(&child, "/bin/sh", &actions, nullptr, const_cast<char**>(argv), ::environ) == 0);
    ::posix_spawn_file_actions_destroy(&actions);
    Run run;
    mistral::test::wait_for(child, run);
    const std::string err = scratch.read("err");
    CAPTURE(bytes);
    CAPTURE(err);
    if (run.exit_code == 0) break;
    if (run.exit_code == 127 || err.find("mistral: error: ") == std::string::npos) continue;  // not even loaded
    CHECK(run.exit_code == 1);
    CHECK(err.starts_with("mistral: error: "));
    CHECK(err.find('\n') == err.size() - 1);
    ++refused;
  }
  CHECK(refused > 0);
}
