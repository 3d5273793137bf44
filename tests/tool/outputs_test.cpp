// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "../support/size_limit.hpp"
#include "tool.hpp"

namespace {

namespace fs = std::filesystem;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using mistral::test::stories;

bool missing() { return mistral::test::tool_path() == nullptr || stories().empty(); }

// A checkpoint of the test's own.
std::string copy_of_stories(const Scratch& scratch) {
  for (const char* const name : {"config.json", "model.safetensors", "tokenizer.model"}) {
    fs::create_directories(scratch.path("model"));
    fs::copy_file(fs::path(stories()) / name, scratch.path(std::string("model/") + name));
    fs::permissions(scratch.path(std::string("model/") + name), fs::perms{0644});
  }
  return scratch.path("model");
}

std::size_t files_in(const std::string& folder) {
  const fs::recursive_directory_iterator files(folder);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

std::string one_line(const Run& run) {
  const bool one = run.err.starts_with("mistral: error: ") && run.err.find('\n') == run.err.size() - 1;
  return one ? run.err.substr(16, run.err.size() - 17) : "not one line: " + run.err;
}

}  // namespace

TEST_CASE("no command writes over what it reads, whatever that is called") {
  if (missing()) return;
  const Scratch scratch;
  const std::string model = copy_of_stories(scratch);
  const std::string gguf = scratch.path("model.gguf");
  REQUIRE(run_tool({"quantize", model, "--weights", "f32", "--out", gguf}).exit_code == 0);
  const std::string data = scratch.write("data.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const std::string adapter = scratch.path("adapter");
  REQUIRE(run_tool({"finetune", "--model", model, "--data", data, "--out", adapter, "--samples", "0"}).exit_code == 0);
  const std::string prompt = scratch.write("prompt", "Once");
  const std::string ids = scratch.write("ids", "1 2 3");
  fs::create_hard_link(model + "/model.safetensors", scratch.path("hard"));
  fs::create_symlink(gguf, scratch.path("soft"));
  fs::create_directory(scratch.path("folder"));
  fs::create_directory_symlink(model, scratch.path("linked"));
  fs::create_symlink(model + "/model.safetensors", scratch.path("folder/model.safetensors"));
  const std::size_t files = files_in(scratch.path(""));

  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& option,
                           const std::string& place, const std::string& more = "") {
    const Run run = run_tool(arguments);
    CAPTURE(arguments.back());
    CHECK(run.exit_code == 2);
    CHECK(one_line(run) ==
          option + ": expected another place than " + place + more + " (see: mistral " + arguments[0] + " --help)");
  };
  const auto quantize = [&](const std::string& from, const std::string& out, const std::string& more = "") {
    refused({"quantize", from, "--weights", "q4_0", "--out", out}, "--out", from, more);
  };
  quantize(gguf, gguf);
  quantize(gguf, scratch.path("soft"));
  quantize(scratch.path("soft"), gguf);
  quantize(gguf, scratch.path("folder/../model.gguf"));
  for (const char* const name : {"model.safetensors", "config.json", "tokenizer.model"}) {
    quantize(model, model + "/" + name, ", which has this file");
  }
  quantize(model, scratch.path("hard"), ", which has this file");
  quantize(model, scratch.path("linked/config.json"), ", which has this file");
  quantize(scratch.path("linked"), model + "/model.safetensors", ", which has this file");
  quantize(model, scratch.path("folder/model.safetensors"), ", which has this file");
  quantize(model, model + "/params.json", ", of which params.json would become a part");
  quantize(model, model + "/model.safetensors.index.json",
           ", of which model.safetensors.index.json would become a part");
  refused({"quantize", gguf, "--weights", "q4_0", "--tokenizer", model + "/tokenizer.model", "--out",
           model + "/tokenizer.model"},
          "--out", model + "/tokenizer.model");
  refused({"quantize", model, "--weights", "bf16", "--to", "packed", "--out", model + "/model.safetensors"}, "--out",
          model, ", which has this file");
  const auto merge = [&](const std::string& out, const std::string& place, const std::string& more = "") {
    refused({"merge", "--model", model, "--adapter", adapter, "--out", out}, "--out", place, more);
  };
  merge(model, model);
  merge(scratch.path("linked"), model);
  merge(adapter, adapter);
  merge(adapter + "/adapter_config.json", adapter, ", which has this file");
  merge(scratch.path("folder"), model, ", which has this file");
  refused({"logits", "--model", model, "--tokens-file", ids, "--out", ids}, "--out", ids);
  refused({"logits", "--model", model, "--prompt-file", prompt, "--out", prompt}, "--out", prompt);
  refused({"logits", "--model", model, "--tokens", "1", "--out", model + "/config.json"}, "--out", model,
          ", which has this file");
  refused({"logits", "--model", model, "--adapter", adapter, "--tokens", "1", "--out", adapter + "/loss.svg"}, "--out",
          adapter, ", which has this file");
  refused({"generate", "--model", gguf, "--prompt", "a", "--state", gguf}, "--state", gguf);
  refused({"generate", "--model", gguf, "--prompt-file", prompt, "--state", prompt}, "--state", prompt);
  const auto finetune = [&](const std::string& out, const std::string& place, const std::string& more = "") {
    refused({"finetune", "--model", model, "--data", data, "--out", out}, "--out", place, more);
  };
  finetune(model, model);
  finetune(scratch.path("linked"), model);
  finetune(scratch.path("folder"), model, ", which has this file");
  finetune(data, data);
  for (const auto& [file, place, reason] :
       {std::tuple(gguf, gguf, std::string()), std::tuple(prompt, std::string(), std::string()),
        std::tuple(adapter + "/adapter_config.json", adapter, std::string(", which has this file"))}) {
    const Run run = run_tool({"chat", "--model", gguf, "--adapter", adapter}, {.in = "/save " + file + "\n"});
    CHECK(run.exit_code == (place.empty() ? 0 : 1));
    if (!place.empty()) {
      CHECK(one_line(run) == "[chat] " + file + ": cannot save: expected another place than " + place + reason);
    }
  }
  CHECK(files_in(scratch.path("")) == files);
  CHECK(run_tool({"generate", "--model", model, "--prompt", "a", "--max-tokens", "1"}).exit_code == 0);
  CHECK(run_tool({"generate", "--model", gguf, "--adapter", adapter, "--prompt", "a", "--max-tokens", "1"}).exit_code ==
        0);
  // beside what is read there is room
  CHECK(run_tool({"quantize", model, "--weights", "q4_0", "--out", model + "/q4_0.gguf"}).exit_code == 0);
  CHECK(run_tool({"quantize", gguf, "--weights", "q4_0", "--out", scratch.path("other.gguf")}).exit_code == 0);
}

TEST_CASE("an output that is a link to what isn't there is an error, and the link stays") {
  if (missing()) return;
  const Scratch scratch;
  fs::create_symlink("missing", scratch.path("link"));
  const Run run = run_tool({"quantize", stories(), "--weights", "q8_0", "--out", scratch.path("link")});
  CHECK(run.exit_code == 1);
  CHECK(one_line(run) == "[gguf] " + scratch.path("link") + ": cannot write: it is a link to a file that isn't there");
  const std::string data = scratch.write("data.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const Run folder = run_tool({"finetune", "--model", stories(), "--data", data, "--out", scratch.path("link")});
  CHECK(folder.exit_code == 1);
  CHECK(one_line(folder) ==
        "[finetune] " + scratch.path("link") + ": cannot create: it is a link to a folder that isn't there");
  CHECK(fs::is_symlink(scratch.path("link")));
  CHECK_FALSE(fs::exists(scratch.path("missing")));
}

TEST_CASE("a full disk leaves the old files, no others, and a line") {
  if (missing()) return;
  mistral::test::compile_before(stories());
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const std::string adapter = scratch.path("adapter");
  REQUIRE(run_tool({"finetune", "--model", stories(), "--data", data, "--out", adapter, "--samples", "0"}).exit_code ==
          0);
  scratch.write("old/model.safetensors", "old");
  scratch.write("old.gguf", "old");
  scratch.write("old.npy", "old");
  const std::size_t files = files_in(scratch.path(""));
  const auto full = [&](const std::vector<std::string>& arguments, rlim_t bytes) {
    const mistral::test::SizeLimit disk(bytes);
    const Run run = run_tool(arguments);
    CAPTURE(arguments[0]);
    CHECK(run.exit_code == 1);
    CHECK(one_line(run).find(": cannot write: File too large") != std::string::npos);
    CHECK(files_in(scratch.path("")) == files);
  };
  for (const char* const out : {"old.gguf", "new.gguf"}) {
    full({"quantize", stories(), "--weights", "q8_0", "--out", scratch.path(out)}, 4096);
    full({"merge", "--model", stories(), "--adapter", adapter, "--weights", "q8_0", "--out", scratch.path(out)}, 4096);
    full({"quantize", stories(), "--weights", "f32", "--to", "packed", "--out", scratch.path(out)}, 4096);
  }
  for (const char* const out : {"old", "new"}) {
    // the weights don't fit; all but the last byte of them does; the tokenizer doesn't
    for (const rlim_t bytes : {rlim_t{65536}, fs::file_size(stories() + "/model.safetensors") - 60'000, rlim_t{7000}}) {
      full({"merge", "--model", stories(), "--adapter", adapter, "--out", scratch.path(out)}, bytes);
    }
  }
  full({"logits", "--model", stories(), "--tokens", "1,2,3,4,5,6", "--out", scratch.path("old.npy")}, 4096);
  full({"generate", "--model", stories(), "--prompt", "a", "--max-tokens", "1", "--state", scratch.path("state")}, 256);
  full({"finetune", "--model", stories(), "--data", data, "--out", scratch.path("ft")}, 4096);
  full({"finetune", "--model", stories(), "--data", data, "--out", scratch.path("ft"), "--full"}, 4096);
  CHECK(scratch.read("old/model.safetensors") == "old");
  CHECK(scratch.read("old.gguf") == "old");
  CHECK(scratch.read("old.npy") == "old");
}

TEST_CASE("on a disk of any size a command ends well, or leaves nothing of a folder that it made") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const std::string adapter = scratch.path("adapter");
  REQUIRE(run_tool({"finetune", "--model", stories(), "--data", data, "--out", adapter, "--samples", "0"}).exit_code ==
          0);
  const std::string disk = scratch.path("disk");
  fs::create_directory(disk);
  std::size_t failed = 0, ended_well = 0;
  for (std::size_t kilobytes = 64; kilobytes < 8192; kilobytes += kilobytes / 3) {
    for (const char* const command : {"finetune", "full", "merge"}) {
      const std::string size = "size=" + std::to_string(kilobytes) + "k";
      if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, size.c_str()) != 0) {
        std::fprintf(stderr, "SKIPPED: a small disk can't be mounted, which takes rights that this test hasn't\n");
        return;
      }
      std::vector<std::string> arguments{"finetune", "--model",     stories(),   "--data", data,
                                         "--out",    disk + "/out", "--samples", "0"};
      if (command == std::string("full")) arguments.push_back("--full");
      if (command == std::string("merge")) {
        arguments = {"merge", "--model", stories(), "--adapter", adapter, "--out", disk + "/out"};
      }
      const Run run = run_tool(arguments);
      const bool left = fs::exists(disk + "/out");
      // what a run of some steps has kept, it goes on from
      const bool kept = fs::exists(disk + "/out/metrics.jsonl") || fs::exists(disk + "/out/state/last.safetensors");
      std::size_t temporaries = 0;
      for (const auto& entry : fs::recursive_directory_iterator(disk)) {
        temporaries += entry.path().string().find(".tmp-") != std::string::npos;
      }
      ::umount(disk.c_str());
      CAPTURE(kilobytes);
      CAPTURE(command);
      CAPTURE(run.err);
      CHECK(temporaries == 0);
      if (run.exit_code == 0) {
        ++ended_well;
        continue;
      }
      ++failed;
      CHECK(run.exit_code == 1);
      CHECK(one_line(run).find("No space left on device") != std::string::npos);
      CHECK((!left || kept));
    }
  }
  CHECK(failed > 0);
  CHECK(ended_well > 0);
}

TEST_CASE("of two fine-tunings in one folder the second is refused at once") {
  if (missing()) return;
  const Scratch scratch;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "{\"text\": \"Once upon a time there was a little girl named Lily.\"}\n";
  const std::string data = scratch.write("data.jsonl", text);
  const std::string out = scratch.path("run");
  const std::vector<std::string> arguments{"finetune", "--model",  stories(), "--data",    data, "--out",
                                           out,        "--epochs", "100000",  "--samples", "0",  "--save-every",
                                           "1",        "--resume"};
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  const ::pid_t first = mistral::test::start_tool(arguments, actions);
  ::posix_spawn_file_actions_destroy(&actions);
  for (int i = 0; !fs::exists(out + "/last") && i < 60'000; ++i) ::usleep(1000);
  const Run second = run_tool(arguments);
  CHECK(second.exit_code == 1);
  CHECK(one_line(second) ==
        "[finetune] " + out + ": expected a folder that no other run writes to, got one that another writes to now");
  CHECK(fs::exists(out + "/last"));
  ::kill(first, SIGKILL);
  Run run;
  mistral::test::wait_for(first, run);
  std::vector<std::string> fresh = arguments;
  fresh.pop_back();  // which is refused for another reason: the lock went with the process
  CHECK(one_line(run_tool(fresh)) ==
        "[finetune] " + out + ": expected a folder without a run in it, or --resume, got one with a run");
}
