// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "../support/rounds.hpp"
#include "tool.hpp"

namespace {

using mistral::test::Run;
using mistral::test::Scratch;
using mistral::test::stories;

bool missing() {
  return mistral::test::tool_path() == nullptr || stories().empty() || !std::filesystem::exists("/dev/zero");
}

struct Watched {
  Run run;
  std::size_t peak_bytes = 0;
  double seconds = 0;
};

// Runs the tool with standard input from `in`; one that reads for ever is ended.
Watched run_watched(const std::vector<std::string>& arguments, const std::string& in = "/dev/null") {
  const Scratch scratch;
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, scratch.path("err").c_str(), O_WRONLY | O_CREAT, 0600);
  const auto begin = std::chrono::steady_clock::now();
  const ::pid_t child = mistral::test::start_tool(arguments, actions);
  ::posix_spawn_file_actions_destroy(&actions);
  Watched watched;
  int status = 0;
  rusage usage{};
  for (int i = 0; ::wait4(child, &status, WNOHANG, &usage) == 0; ++i) {
    if (i == 60'000) ::kill(child, SIGKILL);
    ::usleep(1000);
  }
  watched.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  watched.peak_bytes = static_cast<std::size_t>(usage.ru_maxrss) * 1024;
  if (WIFEXITED(status)) watched.run.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) watched.run.signal = WTERMSIG(status);
  watched.run.err = mistral::test::without_compiling(scratch.read("err"));
  return watched;
}

// A pipe that somebody writes the same block to for ever.
class Endless {
 public:
  Endless(const std::string& path, const std::string& line) : path_(path) {
    ::signal(SIGPIPE, SIG_IGN);
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    open_ = ::open(path.c_str(), O_RDWR);  // so that neither end waits for the other
    std::string block;
    while (block.size() < 65536) block += line;
    thread_ = std::thread([this, block] {
      const int pipe = ::open(path_.c_str(), O_WRONLY | O_NONBLOCK);
      for (std::size_t at = 0; !done_;) {  // whole lines, whatever a write takes
        const auto written = ::write(pipe, block.data() + at, block.size() - at);
        if (written < 0) ::usleep(100);
        if (written > 0) at = (at + static_cast<std::size_t>(written)) % block.size();
      }
      ::close(pipe);
    });
  }
  Endless(const Endless&) = delete;
  Endless& operator=(const Endless&) = delete;
  ~Endless() {
    done_ = true;
    thread_.join();
    ::close(open_);
  }

 private:
  std::string path_;
  int open_ = -1;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

void check_refused(const std::vector<std::string>& arguments, const std::string& in, const std::string& part) {
  const Watched watched = run_watched(arguments, in);
  CAPTURE(arguments[0]);
  CAPTURE(arguments.back());
  CAPTURE(watched.run.err);
  CHECK(watched.run.exit_code == 1);
  CHECK(watched.run.err.starts_with("mistral: error: "));
  CHECK(watched.run.err.find(part) != std::string::npos);
  CHECK(watched.run.err.find('\n') == watched.run.err.size() - 1);
  if (!mistral::test::sanitized) CHECK(watched.peak_bytes < std::size_t{700} << 20);
  CHECK(watched.seconds < 30);
}

}  // namespace

TEST_CASE("no command reads for ever from a device that has no end") {
  if (missing()) return;
  const Scratch scratch;
  const std::string m = stories();
  mistral::test::compile_before(m);
  mistral::test::compile_before(m, true);
  const std::string tokenizer = m + "/tokenizer.model";
  const std::string zero = "/dev/zero";
  const std::string long_line = "expected a line of at most 16777216 bytes, got a longer one";
  const std::string long_prompt = "expected at most 16 MiB of text, got more";
  const std::string long_text = "expected at most 256 MiB of text, got more";
  check_refused({"finetune", "--model", m, "--out", scratch.path("ft"), "--data", zero}, "/dev/null", long_line);
  check_refused({"finetune", "--model", m, "--out", scratch.path("ft"), "--data", zero, "--skip-bad"}, "/dev/null",
                "expected at most 256 MiB from what is no file");
  check_refused({"evaluate", "--model", m, "--task", zero}, "/dev/null", long_line);
  check_refused({"evaluate", "--results", zero}, "/dev/null", long_line);
  check_refused({"moderate", "--model", m, "--file", zero}, "/dev/null", long_line);
  check_refused({"tokenize", "--model", m, "--chat", zero}, "/dev/null", "at most 256 MiB from what is no file");
  check_refused({"tokenize", "--model", m, "--chat", "-"}, zero, "at most 256 MiB from what is no file");
  check_refused({"tokenize", "--model", m, "--file", zero}, "/dev/null", long_text);
  check_refused({"tokenize", "--model", m, "--decode"}, zero, long_text);
  check_refused({"perplexity", "--model", m, "--file", zero}, "/dev/null", long_text);
  check_refused({"generate", "--model", m, "--prompt-file", zero}, "/dev/null", long_prompt);
  check_refused({"generate", "--model", m}, zero, long_prompt);
  check_refused({"logits", "--model", m, "--out", scratch.path("npy"), "--tokens-file", zero}, "/dev/null",
                long_prompt);
  check_refused({"logits", "--model", m, "--out", scratch.path("npy"), "--prompt-file", "-"}, zero, long_prompt);
  check_refused({"chat", "--model", m, "--load", zero}, "/dev/null", long_prompt);
  check_refused({"chat", "--model", m}, zero, "standard input: expected a line of at most 16777216 bytes");
  for (const std::string& device : {zero, std::string("/dev/urandom")}) {
    check_refused({"generate", "--model", m, "--tokenizer", device, "--prompt", "a"}, "/dev/null",
                  "expected a regular file, got a device");
    check_refused({"inspect", "--model", device}, "/dev/null", ": ");
    check_refused({"generate", "--model", m, "--adapter", device, "--prompt", "a"}, "/dev/null", ": ");
  }
  check_refused({"evaluate", "--model", m, "--task", "/dev/urandom"}, "/dev/null", "/dev/urandom:1");
  CHECK_FALSE(std::filesystem::exists(scratch.path("ft")));
}

TEST_CASE("no command reads for ever from a pipe whose lines don't end") {
  if (missing()) return;
  const Scratch scratch;
  const std::string m = stories();
  const std::string many = "expected at most 1000000 lines from what is no file (write it to one), got more";
  {
    const Endless blank(scratch.path("blank"), "\n");
    const std::string in = scratch.path("blank");
    check_refused({"finetune", "--model", m, "--out", scratch.path("ft"), "--data", in}, "/dev/null", many);
    check_refused({"evaluate", "--model", m, "--task", in}, "/dev/null", many);
    check_refused({"evaluate", "--results", in}, "/dev/null", many);
    check_refused({"moderate", "--model", m, "--file", in}, "/dev/null", many);
    check_refused({"tokenize", "--model", m, "--chat", in}, "/dev/null", many);
    check_refused({"chat", "--model", m}, in, "expected a message within 1000000 lines");
    check_refused({"generate", "--model", m}, in, "expected at most 16 MiB of text");
  }
  const Endless results(scratch.path("results"), "{\"samples\": 20, \"passed\": 3}\n");
  check_refused({"evaluate", "--results", scratch.path("results")}, "/dev/null", many);
  const Endless message(scratch.path("message"), "word\\\n");
  check_refused({"chat", "--model", m}, scratch.path("message"), "expected a message of at most 16 MiB");
}

TEST_CASE("a large file is refused by its size, before it is read") {
  if (missing()) return;
  const Scratch scratch;
  const std::string file = scratch.write("prompt", "x");
  std::filesystem::resize_file(file, std::uintmax_t{3} << 40);  // a hole of 3 TiB
  check_refused({"generate", "--model", stories(), "--prompt-file", file}, "/dev/null",
                "expected at most 16 MiB of text, got 3.30 TB");
  check_refused({"perplexity", "--model", stories(), "--file", file}, "/dev/null", "expected at most 256 MiB of text");
  check_refused({"evaluate", "--model", stories(), "--task", file}, "/dev/null", "expected a line of at most");
  check_refused({"finetune", "--model", stories(), "--data", file, "--skip-bad", "--out", scratch.path("ft")},
                "/dev/null", "expected the end of a line within a GiB");
  check_refused({"generate", "--model", stories(), "--tokenizer", file, "--prompt", "a"}, "/dev/null",
                "16777216 bytes");
  const std::string folder = scratch.path("model");
  std::filesystem::create_directories(folder);
  std::filesystem::rename(file, folder + "/config.json");
  scratch.write("model/model.safetensors", "x");
  check_refused({"inspect", "--model", folder}, "/dev/null", "expected at most 67108864 bytes, got 3298534883328");
}
