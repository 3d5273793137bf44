// SPDX-License-Identifier: Apache-2.0
// The tool compiles the types of models that it meets, and keeps them.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../support/data.hpp"
#include "../support/scratch.hpp"
#include "../support/size_limit.hpp"
#include "tool.hpp"

using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;

namespace {

// While it lives, the environment has another value.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before, had_ = true;
    value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  ~Setting() { had_ ? ::setenv(name_.c_str(), before_.c_str(), 1) : ::unsetenv(name_.c_str()); }

 private:
  std::string name_, before_;
  bool had_ = false;
};

const std::vector<std::string> compile_tiny{"compile", "--config", "tiny", "--weights", "f32"};

std::vector<std::string> content(const std::string& folder) {
  std::vector<std::string> names;
  if (!std::filesystem::exists(folder)) return names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> with_ending(const std::string& folder, const std::string& ending) {
  std::vector<std::string> names = content(folder);
  std::erase_if(names, [&](const std::string& name) { return !name.ends_with(ending); });
  return names;
}

// Whether a process is there, and isn't one that has ended and that nobody has asked about.
bool runs(::pid_t process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/stat");
  std::string text{std::istreambuf_iterator<char>(status), {}};
  return !text.empty() && text.find(") Z ") == std::string::npos;
}

// A program that stands in for the compiler.
std::string script(const Scratch& scratch, const std::string& name, const std::string& text) {
  const std::string path = scratch.write(name, "#!/bin/sh\n" + text);
  ::chmod(path.c_str(), 0700);
  return path;
}

}  // namespace

TEST_CASE("the page names the type, and nothing but checked numbers of the checkpoint goes into it") {
  if (mistral::test::tool_path() == nullptr) return;
  const Run run = run_tool({"compile", "--config", "mistral-7b-v0.1", "--weights", "q4_0", "--print"});
  CHECK(run.exit_code == 0);
  CHECK(run.out ==
        "// Q4_0, cache in bf16; dim 4096, 32 layers, heads 32/8 of 128, hidden 14336, vocabulary 32000, window 4096\n"
        "#include <mistral/run/compiled_model.hpp>\n\n"
        "inline constexpr mistral::ModelConfig config{\n    .dim = 4096,\n    .n_layers = 32,\n    .head_dim = 128,\n"
        "    .hidden_dim = 14336,\n    .n_heads = 32,\n    .n_kv_heads = 8,\n    .window_size = 4096,\n"
        "    .context_len = 8192,\n    .vocab_size = 32000,\n    .rope_theta = 10000.0f,\n    .norm_eps = 1e-05f};\n"
        "using Model = mistral::Transformer<config, mistral::Q4_0>;\n"
        "MISTRAL_COMPILED_MODEL(Model, mistral::bf16, mistral::Purpose::inference)\n");
  const auto type_of = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"compile", "--config", "tiny", "--print"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const std::string page = run_tool(arguments).out;
    return page.substr(std::min(page.find("using "), page.size()));
  };
  CHECK(type_of({"--weights", "nf4", "--train", "--exact"}) ==
        "using Model = mistral::Transformer<config, mistral::Lora<mistral::Exact<mistral::NF4>>>;\n"
        "MISTRAL_COMPILED_MODEL(Model, float, mistral::Purpose::training)\n");
  CHECK(type_of({"--weights", "f32", "--exact"}) ==
        "using Model = mistral::Transformer<config, mistral::F32>;\n"
        "MISTRAL_COMPILED_MODEL(Model, float, mistral::Purpose::inference)\n");
}

TEST_CASE("a type is compiled once, by one of two processes that want it at the same time") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string folder = scratch.path("a/cache");
  const Setting cache("MISTRAL_CACHE", folder.c_str());
  Run runs[2];
  std::thread other([&] { runs[1] = run_tool(compile_tiny); });
  runs[0] = run_tool(compile_tiny);
  other.join();
  for (const Run& run : runs) {
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    CHECK(run.out.starts_with("F32, cache in float; dim 64, 3 layers"));
  }
  struct ::stat status = {};
  REQUIRE(::stat(folder.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
  CHECK(content(folder).size() == 3);
  REQUIRE(with_ending(folder, ".so").size() == 1);
  CHECK(with_ending(folder, ".cpp").size() == 1);
  CHECK(with_ending(folder, ".o").size() == 1);
  const std::string library = folder + "/" + with_ending(folder, ".so")[0];

  const Run listed = run_tool({"compile", "--list"});
  CHECK(listed.out.starts_with(library + ": "));
  CHECK(listed.out.find(": F32, cache in float; dim 64, 3 layers") != std::string::npos);

  // what others may write, or what is no such library, is not opened
  ::chmod(library.c_str(), 0770);
  const Run shared = run_tool(compile_tiny);
  CHECK(shared.exit_code == 1);
  CHECK(shared.err == "mistral: error: [compiled] " + library +
                          ": take away others' right to write it (chmod go-w): expected a file that you alone may "
                          "write, got one that others may write too\n");
  ::chmod(library.c_str(), 0700);
  std::filesystem::resize_file(library, 1000);
  const Run cut = run_tool(compile_tiny);
  CHECK(cut.exit_code == 1);
  CHECK(cut.err.starts_with("mistral: error: "));
  CHECK(cut.err.find(library + ": cannot ") != std::string::npos);
  CHECK(cut.err.find('\n') == cut.err.size() - 1);

  CHECK(run_tool({"compile", "--clear"}).out == folder + ": 1 compiled models removed\n");
  CHECK(content(folder).empty());
  CHECK(run_tool({"compile", "--list"}).out == folder + ": no compiled models\n");

  ::chmod(folder.c_str(), 0777);
  const Run open = run_tool(compile_tiny);
  CHECK(open.exit_code == 1);
  CHECK(open.err.find(": take away others' right to write it (chmod go-w): expected a folder that you alone may "
                      "write, got one that others may write too\n") != std::string::npos);
}

TEST_CASE("types of one format share the kernels, which are compiled again where they are damaged or anybody's") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string folder = scratch.path("cache");
  const Setting cache("MISTRAL_CACHE", folder.c_str());
  const auto compile = [](const std::string& window) {
    return run_tool({"compile", "--config", "tiny", "--weights", "f32", "--window", window});
  };
  CHECK(compile("4").exit_code == 0);
  CHECK(compile("5").exit_code == 0);
  CHECK(with_ending(folder, ".so").size() == 2);
  REQUIRE(with_ending(folder, ".o").size() == 1);
  const std::string kernels = folder + "/" + with_ending(folder, ".o")[0];

  ::chmod(kernels.c_str(), 0666);
  std::filesystem::resize_file(kernels, 0);
  CHECK(compile("6").exit_code == 0);
  struct ::stat status = {};
  REQUIRE(::stat(kernels.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  CHECK(status.st_size > 0);

  std::filesystem::resize_file(kernels, 1000);
  const Run damaged = compile("7");
  CHECK(damaged.exit_code == 1);
  CHECK(damaged.err.starts_with("mistral: error: [compile] "));
  CHECK(std::count(damaged.err.begin(), damaged.err.end(), '\n') == 1);
  CHECK_FALSE(std::filesystem::exists(kernels));  // the next one makes it again
}

TEST_CASE("what is compiled to a file runs the checkpoint, and no other") {
  const std::string model = mistral::test::tiny_model();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const Scratch scratch;
  const std::string library = scratch.path("model.so");
  const Run run = run_tool({"compile", model, "--out", library});
  CHECK(run.err == "");
  REQUIRE(run.exit_code == 0);
  const auto logits = [&](const std::string& checkpoint, const std::string& out) {
    return run_tool({"logits", "--model", checkpoint, "--compiled", library, "--tokens", "1,2,3", "--out", out});
  };
  const Scratch empty;
  {
    const Setting cache("MISTRAL_CACHE", empty.path("").c_str());
    const Setting compiler("MISTRAL_CXX", "/nowhere/c++");  // none is needed
    CHECK(logits(model, scratch.path("a.npy")).exit_code == 0);
  }
  CHECK(run_tool({"logits", "--model", model, "--tokens", "1,2,3", "--out", scratch.path("b.npy")}).exit_code == 0);
  CHECK(scratch.read("a.npy") == scratch.read("b.npy"));
  const std::string other = mistral::test::golden("forward/w1/hf").string();
  CHECK(logits(other, scratch.path("c.npy")).err ==
        "mistral: error: [checkpoint] " + other + "/config.json: dim: expected 64, got 16\n");
  CHECK(run_tool({"logits", "--model", model, "--compiled", scratch.write("x.so", "x"), "--tokens", "1", "--out",
                  scratch.path("d.npy")})
            .err.starts_with("mistral: error: [compiled] " + scratch.path("x.so") + ": cannot open: "));
}

TEST_CASE("a compiler that is missing, fails or has no room for what it writes ends in one line, and leaves nothing") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string folder = scratch.path("cache");
  const Setting cache("MISTRAL_CACHE", folder.c_str());
  const auto check = [&](const std::string& message, const std::vector<std::string>& left) {
    const Run run = run_tool(compile_tiny);
    CAPTURE(run.err);
    CHECK(run.exit_code == 1);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("mistral: error: [compile] " + message));
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    for (const std::string& name : content(folder)) {
      CHECK_MESSAGE(std::any_of(left.begin(), left.end(), [&](const auto& end) { return name.ends_with(end); }), name);
    }
  };
  {
    const Setting compiler("MISTRAL_CXX", "/nowhere/c++");
    check("MISTRAL_CXX: expected the path of a C++ compiler, got '/nowhere/c++'", {});
  }
  {
    const std::string fails = script(scratch, "fails", "echo model.cpp:1: error: no luck >&2; exit 1\n");
    const Setting compiler("MISTRAL_CXX", fails.c_str());
    check(fails + " failed: model.cpp:1: error: no luck (all that it said: ", {".log", ".lock"});
  }
  {
    const std::string dies = script(scratch, "dies", "kill -9 $$\n");
    const Setting compiler("MISTRAL_CXX", dies.c_str());
    check(dies + " was ended by signal 9 (perhaps there is too little memory)", {".log", ".lock"});
  }
  {
    const mistral::test::SizeLimit limit(10'000);
    check("", {".log", ".lock"});
  }
  {
    const std::string file = scratch.write("file", "x");
    const Setting other("MISTRAL_CACHE", (file + "/cache").c_str());
    check(
        file +
            "/cache: cannot make the folder for compiled models (MISTRAL_CACHE names another folder): Not a directory",
        {".log", ".lock"});
  }
  const Setting none("MISTRAL_CACHE", nullptr), no_home("HOME", nullptr), no_cache("XDG_CACHE_HOME", nullptr);
  check("the folder for compiled models: expected MISTRAL_CACHE, XDG_CACHE_HOME or HOME to name it, got none of them",
        {".log", ".lock"});
}

TEST_CASE("where the format is named, a checkpoint's config suffices to compile for it") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string model = scratch.path("model");
  std::filesystem::create_directory(model);
  std::filesystem::copy_file(std::string(MISTRAL_SOURCE_DIR) + "/examples/own_model/breeze/config.json",
                             model + "/config.json");
  const Run named = run_tool({"compile", model, "--weights", "q4_0", "--print"});
  CHECK(named.exit_code == 0);
  CHECK(named.out.find("mistral::Transformer<config, mistral::Q4_0>") != std::string::npos);
  CHECK(run_tool({"compile", model, "--print"}).exit_code == 1);
}

TEST_CASE("a path that is no adapter is found out before a model is compiled for it") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string folder = scratch.path("cache");
  const Setting cache("MISTRAL_CACHE", folder.c_str());
  const std::string model = std::string(MISTRAL_SOURCE_DIR) + "/examples/own_model/breeze";
  for (const std::string& path : {scratch.path("nowhere"), scratch.write("file", "x"), model}) {
    const Run run = run_tool({"generate", "--model", model, "--adapter", path, "--prompt", "a"});
    CHECK(run.exit_code == 1);
    CHECK(run.err.starts_with("mistral: error: [adapter] " + path + ": "));
    CHECK(run.err.find(": expected a folder with adapter_config.json") != std::string::npos);
    CHECK(content(folder).empty());
  }
}

TEST_CASE("a signal while the compiler runs ends both, and leaves no half of a model") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string folder = scratch.path("cache");
  const Setting cache("MISTRAL_CACHE", folder.c_str());
  const std::string sleeps = script(scratch, "sleeps", "echo $$ >" + scratch.path("pid") + "; exec sleep 100\n");
  {
    const Setting compiler("MISTRAL_CXX", sleeps.c_str());
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    const ::pid_t child = mistral::test::start_tool(compile_tiny, actions);
    ::posix_spawn_file_actions_destroy(&actions);
    while (!std::filesystem::exists(scratch.path("pid")) || scratch.read("pid").empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(child, SIGTERM);
    Run run;
    mistral::test::wait_for(child, run);
    CHECK(run.signal == SIGTERM);
  }
  const auto compiler = static_cast<::pid_t>(std::stol(scratch.read("pid")));
  for (int i = 0; i < 500 && runs(compiler); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK_FALSE(runs(compiler));
  for (const std::string& name : content(folder)) CHECK(name.ends_with(".lock"));
}
