// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/data.hpp"
#include "../support/scratch.hpp"

namespace mistral::test {

/// What a run of the tool left behind.
struct Run {
  int exit_code = -1;  // -1: it was ended by a signal
  int signal = 0;
  std::string out;
  std::string err;
};

/// Where a run reads and writes.
struct Streams {
  std::string in;             // what it reads from standard input
  std::string out_path = {};  // where standard output goes instead of Run::out
  bool closed_out = false;    // it has no standard output at all
};

/// The tool that is tested: $MISTRAL_TOOL. Without it: null, and one loud line; the test then returns.
inline const char* tool_path() {
  const char* const path = std::getenv("MISTRAL_TOOL");
  if (path != nullptr && *path != '\0') return path;
  std::fprintf(stderr, "SKIPPED: the tool is not tested: set MISTRAL_TOOL to the program\n");
  return nullptr;
}

/// Starts the tool with the file actions given, and gives its process id.
inline ::pid_t start_tool(const std::vector<std::string>& arguments, ::posix_spawn_file_actions_t& actions) {
  std::vector<char*> argv{const_cast<char*>("mistral")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::pid_t child = 0;
  if (::posix_spawn(&child, tool_path(), &actions, nullptr, argv.data(), ::environ) != 0) {
    throw std::runtime_error("cannot start the tool");
  }
  return child;
}

inline void wait_for(::pid_t child, Run& run) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("cannot wait for the tool");
  if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) run.signal = WTERMSIG(status);
}

/// What the tool says, without the lines that it says once for each type of model: how long it compiled.
inline std::string without_compiling(std::string text) {
  const std::string line = "compiling for this checkpoint ... ";
  for (std::size_t begin = 0; (begin = text.find(line)) != std::string::npos;) {
    text.erase(begin, text.find('\n', begin) + 1 - begin);
  }
  return text;
}

/// Runs the tool to its end. Its streams are files, so that neither side ever waits for the other.
inline Run run_tool(const std::vector<std::string>& arguments, const Streams& streams = {}) {
  const Scratch scratch;
  const std::string in = scratch.write("in", streams.in);
  const std::string out = streams.out_path.empty() ? scratch.path("out") : streams.out_path;
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  if (streams.closed_out) {
    ::posix_spawn_file_actions_addclose(&actions, STDOUT_FILENO);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT, 0600);
  }
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, scratch.path("err").c_str(), O_WRONLY | O_CREAT, 0600);
  Run run;
  wait_for(start_tool(arguments, actions), run);
  ::posix_spawn_file_actions_destroy(&actions);
  run.out = scratch.read("out");
  run.err = without_compiling(scratch.read("err"));
  return run;
}

/// Has the type of a checkpoint's model compiled, for what is timed afterwards, or finds no room on a disk.
inline void compile_before(const std::string& model, bool train = false) {
  std::vector<std::string> arguments{"compile", model};
  if (train) arguments.emplace_back("--train");
  if (run_tool(arguments).exit_code != 0) throw std::runtime_error("cannot compile " + model);
}

/// The checkpoint with trained weights, empty where it is missing (which was said loudly then).
inline std::string stories() { return golden("stories260k/hf").string(); }

/// A checkpoint of the documentation's first snippet's shape, but for its context.
inline std::string tiny_model() { return golden("forward/gqa_w8/hf").string(); }

}  // namespace mistral::test
