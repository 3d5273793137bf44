// SPDX-License-Identifier: Apache-2.0
// Whatever is wrong: one line on standard error that says what to do, nothing on standard output, and exit code 2 for a
// wrong command line, 1 for wrong data.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/format/format_names.hpp>

#include "tool.hpp"

using mistral::test::golden;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;

namespace {

void check_error(const std::vector<std::string>& arguments, int code, const std::string& message,
                 const mistral::test::Streams& streams = {}) {
  std::string command;
  for (const std::string& argument : arguments) command.append(" '").append(argument).append("'");
  CAPTURE(command);
  const Run run = run_tool(arguments, streams);
  CHECK(run.err == "mistral: error: " + message + "\n");
  CHECK(run.exit_code == code);
  CHECK(run.out == "");
}

// Whether a test must be skipped, which was said loudly.
bool missing(const std::string& path) { return mistral::test::tool_path() == nullptr || path.empty(); }

}  // namespace

TEST_CASE("a wrong command line") {
  if (mistral::test::tool_path() == nullptr) return;
  check_error({}, 2, "expected a command, got none (see: mistral --help)");
  check_error({"chat-with-me"}, 2, "unknown command 'chat-with-me' (see: mistral --help)");
  check_error({""}, 2, "unknown command '' (see: mistral --help)");
  check_error({"--loud"}, 2, "expected a command, got '--loud' (see: mistral --help)");
  check_error({"generate"}, 2, "--model is required (see: mistral generate --help)");
  check_error({"generate", "--model"}, 2, "--model: 1 required PATH missing (see: mistral generate --help)");
  check_error({"generate", "--model", "m", "--loud"}, 2,
              "The following argument was not expected: --loud (see: mistral generate --help)");
  check_error({"generate", "--model", "m", "text"}, 2,
              "The following argument was not expected: text; a prompt is given by --prompt (see: mistral generate "
              "--help)");
  check_error({"generate", "--model", "m", "--prompt", "a", "--prompt-file", "b"}, 2,
              "--prompt excludes --prompt-file (see: mistral generate --help)");
  check_error({"generate", "--model", "m", "--prompt", "a", "--weights", "none", "--prompt", "b"}, 2,
              "--prompt: At Most 1 required but received 2 (see: mistral generate --help)");
  check_error({"logits", "--model", "m", "--tokens", "1"}, 2, "--out is required (see: mistral logits --help)");
  check_error({"logits", "--model", "m", "--tokens", "1", "--prompt", "a", "--out", "o"}, 2,
              "--tokens excludes --prompt (see: mistral logits --help)");
  check_error({"tokenize", "--text", "a"}, 2, "--tokenizer or --model is required (see: mistral tokenize --help)");
  check_error({"tokenize", "--tokenizer", "t", "--chat", "c", "--text", "a"}, 2,
              "--text excludes --chat (see: mistral tokenize --help)");
  check_error({"tokenize", "--tokenizer", "t", "--template", "v1"}, 2,
              "--template requires --chat (see: mistral tokenize --help)");
  check_error({"tokenize", "--tokenizer", "t", "--chat", "c", "--template", "v2"}, 2,
              "--template: v2 not in {v1,v3,own}, and no file of that name (see: mistral tokenize --help)");
  check_error({"inspect"}, 2, "--model is required (see: mistral inspect --help)");
}

TEST_CASE("a wrong value of an option") {
  if (mistral::test::tool_path() == nullptr) return;
  const std::string help = " (see: mistral generate --help)";
  const auto check = [&](const std::string& option, const std::string& value, const std::string& message) {
    check_error({"generate", "--model", "m", "--prompt", "a", option, value}, 2, message + help);
  };
  check("--temperature", "warm", "--temperature: expected a number, got 'warm'");
  check("--temperature", "", "--temperature: expected a number, got ''");
  check("--temperature", "nan", "[sampling] temperature: expected 0 (greedy) or a positive number, got nan");
  check("--temperature", "inf", "[sampling] temperature: expected 0 (greedy) or a positive number, got inf");
  check("--temperature", "-1", "[sampling] temperature: expected 0 (greedy) or a positive number, got -1");
  check("--top-p", "1.5", "[sampling] top_p: expected a number from 0 to 1, got 1.5");
  check("--min-p", "-0.5", "[sampling] min_p: expected a number from 0 to 1, got -0.5");
  check("--repetition-penalty", "0", "[sampling] repetition_penalty: expected a positive number, got 0");
  check("--top-k", "-1", "--top-k: expected a whole number of 0 ... 2147483647, got '-1'");
  check("--top-k", "2147483648", "--top-k: expected a whole number of 0 ... 2147483647, got '2147483648'");
  check("--max-tokens", "-5", "--max-tokens: expected a whole number of 0 ... 9223372036854775807, got '-5'");
  check("--max-tokens", "1e3", "--max-tokens: expected a whole number of 0 ... 9223372036854775807, got '1e3'");
  check("--seed", "18446744073709551616",
        "--seed: expected a whole number of 0 ... 18446744073709551615, got '18446744073709551616'");
  check("--threads", "0", "--threads: expected a whole number of 1 ... 1024, got '0'");
  check("--stop", "", "--stop: expected a text, got nothing");
  check("--tokenizer", "", "--tokenizer: expected a path, got nothing");
  check_error({"generate", "--model", "", "--prompt", "a"}, 2, "--model: expected a path, got nothing" + help);
  check_error({"generate", "--model", "m", "--prompt-file", ""}, 2,
              "--prompt-file: expected a path, got nothing" + help);
  check_error({"logits", "--model", "m", "--tokens", "1", "--out", ""}, 2,
              "--out: expected a path, got nothing (see: mistral logits --help)");
}

TEST_CASE("what is misspelt is named before what is missing, with what was probably meant") {
  if (mistral::test::tool_path() == nullptr) return;
  const std::string unknown = "The following argument was not expected: ";
  const auto check = [&](std::vector<std::string> arguments, const std::string& message) {
    const std::string help = " (see: mistral " + arguments[0] + " --help)";
    check_error(arguments, 2, message + help);
  };
  check({"generate", "--modle", "m", "--prompt", "x"}, unknown + "--modle; did you mean --model?");
  check({"generate", "--modle=m", "--prompt", "x"}, unknown + "--modle; did you mean --model?");
  check({"generate", "--prompt", "--modle", "--temprature", "0"},
        unknown + "--temprature; did you mean --temperature?");
  check({"generate", "-m", "m", "--max_tokens", "3"}, unknown + "--max_tokens; did you mean --max-tokens?");
  check({"generate", "-m", "m", "--n-predict", "3"}, unknown + "--n-predict; did you mean --max-tokens?");
  check({"generate", "-m", "m", "-n", "3", "-ngl", "99"}, unknown + "-ngl; all runs on the processor");
  check({"generate", "-m", "m", "-c", "4096"}, unknown + "-c; --context N is the context of a model without a window");
  check({"generate", "-m", "m", "--preset", "tiny"}, unknown + "--preset; did you mean --weights?");
  check({"generate", "--xyzzy"}, unknown + "--xyzzy");
  check({"generate", "checkpoint", "-p", "x"}, unknown + "checkpoint; a checkpoint is given by --model");
  check({"generate", "-m=checkpoint", "-p", "x"}, unknown + "-m=checkpoint; the value of -m stands behind a space");
  check({"tokenize", "-m", "m", "-p", "x"}, unknown + "-p; did you mean --text?");
  const std::string formats = "--weights: expected one of " MISTRAL_FORMAT_NAMES;
  check({"quantize", "m", "--weights", "q8", "--out", "o"}, formats + ", got 'q8'; did you mean Q8_0?");
  check({"chat", "-m", "m", "--template="}, "--template: expected one of {v1,v3,own}, got nothing");
  check({"chat", "--prompt", "hi"}, unknown + "--prompt");
  check({"finetune", "--lr", "1e-4"}, unknown + "--lr; did you mean --learning-rate?");
  check({"finetune", "--lora_r", "8"}, unknown + "--lora_r; did you mean --rank?");
  check({"quantize", "m", "--outfile", "o"}, unknown + "--outfile; did you mean --out?");
  check({"quantize", "m", "--weights", "q4_O", "--out", "o"}, formats + ", got 'q4_O'; did you mean Q4_K or Q4_0?");
  check({"quantize", "m", "--weights", "q4_0", "--out", "o", "--to", "ggfu"},
        "--to: ggfu not in {gguf,packed}; did you mean gguf?");
  check({"finetune", "-m", "m", "--data", "d", "--out", "o", "--weights", "nf5"},
        formats + ", got 'nf5'; did you mean NF4?");
  check({"finetune", "-m", "m", "--data", "d", "--out", "o", "--schedule", "cosin"},
        "--schedule: cosin not in {constant,linear,cosine}; did you mean cosine?");
  check({"generate", "-m", "m", "-p", "x", "--weights", "q4-0"}, formats + ", got 'q4-0'; did you mean Q4_0?");
  check({"generate", "-m", "m", "-p", "x", "--weights", ""}, "--weights: expected a name, got nothing");
  check({"finetune", "-m", "m", "--data", "d", "--out", "o", "--weights="}, "--weights: expected a name, got nothing");
  check({"generate", "-m", "m", "-p", "x", "--max-tokens", "64.0"},
        "--max-tokens: expected a whole number of 0 ... 9223372036854775807, got '64.0'; did you mean 64?");
  check({"generate", "-m", "m", "-p", "x", "--temperature", "0,7"},
        "--temperature: expected a number, got '0,7'; did you mean 0.7?");
  check({"moderate", "-m", "m", "-p", "x", "--threshold", "nan"},
        "--threshold: expected a number of 0 ... 1, got 'nan'");

  const std::string see = " (see: mistral --help)";
  check_error({"genrate", "--model", "m"}, 2, "unknown command 'genrate'; did you mean generate?" + see);
  check_error({"help", "genrate"}, 2, "unknown command 'genrate'; did you mean generate?" + see);
  check_error({"train"}, 2, "unknown command 'train'; did you mean finetune?" + see);
  check_error({"--vesion"}, 2, "expected a command, got '--vesion'; did you mean --version?" + see);
  check_error({"-m", "m", "-p", "x"}, 2, "expected a command, got '-m'; did you mean mistral generate -m ...?" + see);
}

TEST_CASE("standard output is an output where bytes can stream to it, and no file is called - anywhere") {
  const std::string tiny = mistral::test::tiny_model(), stories = mistral::test::stories();
  if (missing(tiny)) return;
  const std::string no_place =
      ": expected a path, got -, and standard input and output can't be it (./- is a file of that name)";
  check_error({"finetune", "-m", "m", "--data", "d", "--out", "-"}, 2,
              "--out" + no_place + " (see: mistral finetune --help)");
  check_error({"merge", "-m", "m", "--adapter", "a", "--out", "-"}, 2,
              "--out" + no_place + " (see: mistral merge --help)");
  check_error({"generate", "-m", "m", "-p", "x", "--state", "-"}, 2,
              "--state" + no_place + " (see: mistral generate --help)");
  check_error({"chat", "-m", "m", "--load", "-"}, 2, "--load" + no_place + " (see: mistral chat --help)");
  check_error({"logits", "-m", tiny, "--tokens", "1", "--out", "-", "--json"}, 2,
              "--json: expected a file by --out with it, got -, where nothing else is printed (see: mistral logits "
              "--help)");
  const Scratch scratch;
  const std::vector<std::string> logits{"logits", "-m", tiny, "--tokens", "1,2,3", "-o"};
  const auto to = [](std::vector<std::string> arguments, const std::string& out) {
    arguments.push_back(out);
    return run_tool(arguments);
  };
  REQUIRE(to(logits, scratch.path("l.npy")).exit_code == 0);
  const Run streamed = to(logits, "-");
  CHECK(streamed.exit_code == 0);
  CHECK(streamed.err == "");
  CHECK(streamed.out == scratch.read("l.npy"));
  if (missing(stories)) return;
  for (const std::string kind : {"gguf", "packed"}) {
    const std::vector<std::string> quantize{"quantize", stories, "--weights", "f32", "--to", kind, "-o"};
    REQUIRE(to(quantize, scratch.path("q")).exit_code == 0);
    const Run run = to(quantize, "-");
    CHECK(run.exit_code == 0);
    CHECK(run.out == scratch.read("q"));
    CHECK(run.err.starts_with("standard output: "));
  }
  CHECK_FALSE(std::filesystem::exists("-"));
}

TEST_CASE("a path where there is nothing to read") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string nowhere = scratch.path("nowhere");
  const std::string layouts =
      ": expected a folder with config.json and model.safetensors (Hugging Face) or params.json and "
      "consolidated.safetensors (Mistral), or a .gguf or a packed file, got ";
  for (const std::string command : {"generate", "inspect"}) {
    check_error({command, "--model", nowhere}, 1, "[checkpoint] " + nowhere + layouts + "nothing at that path");
  }
  std::filesystem::create_directory(nowhere);
  check_error({"inspect", "--model", nowhere}, 1,
              "[checkpoint] " + nowhere + layouts + "neither config.json nor params.json in it");
  check_error({"tokenize", "--tokenizer", scratch.path("t"), "--text", "a"}, 1,
              "[tokenizer] " + scratch.path("t") + ": cannot open: No such file or directory");
  check_error(
      {"tokenize", "--model", nowhere, "--text", "a"}, 1,
      "[tokenizer] " + nowhere +
          ": expected tokenizer.json or tokenizer.model in the folder, or another file by --tokenizer, got neither");
  if (::geteuid() == 0) {
    std::fprintf(stderr, "SKIPPED: an unreadable file is not tested: root reads everything\n");
  } else {
    const std::string file = scratch.write("unreadable", "x");
    ::chmod(file.c_str(), 0);
    check_error({"tokenize", "--tokenizer", file, "--text", "a"}, 1,
                "[tokenizer] " + file + ": cannot open: Permission denied");
  }
}

TEST_CASE("a checkpoint of a shape that nobody has named runs, through another window where one is asked for") {
  const std::string w1 = golden("forward/w1/hf").string();
  if (missing(w1)) return;
  const Run run = run_tool({"logits", "--model", w1, "--tokens", "1", "--out", "/dev/null"});
  CHECK(run.err == "");
  CHECK(run.exit_code == 0);
  CHECK(run_tool({"logits", "--model", w1, "--window", "2", "--tokens", "1,2,3", "--out", "/dev/null"}).exit_code == 0);
}

TEST_CASE("a shape that no model can have is refused before anything is compiled") {
  const std::string tiny = mistral::test::tiny_model();
  if (missing(tiny)) return;
  const Scratch scratch;
  std::filesystem::copy(tiny, scratch.path("m"));
  const auto good = nlohmann::json::parse(scratch.read("m/config.json"));
  const auto check = [&](const char* field, const nlohmann::json& value, const std::string& message) {
    auto config = good;
    config[field] = value;
    scratch.write("m/config.json", config.dump());
    const Run bad = run_tool({"logits", "--model", scratch.path("m"), "--tokens", "1", "--out", "/dev/null"});
    CHECK(bad.exit_code == 1);
    CHECK(bad.err.find(message) != std::string::npos);
    CHECK(bad.err.find('\n') == bad.err.size() - 1);
  };
  check("head_dim", 300, "head_dim: expected 2 ... 256, got 300");
  check("head_dim", 15, "'head_dim': expected an even number, got 15");
  check("num_key_value_heads", 3, "'num_key_value_heads': expected a divisor of num_attention_heads 4, got 3");
  check("num_hidden_layers", 100000, "n_layers: expected 1 ... 4096, got 100000");
}

TEST_CASE("a context that is longer than the checkpoint's is gone to, and that is said") {
  const std::string tiny = mistral::test::tiny_model();
  if (missing(tiny)) return;
  std::vector<std::string> arguments{"logits", "--model", tiny, "--tokens", "1", "--out", "/dev/null"};
  CHECK(run_tool(arguments).err == "");
  arguments.insert(arguments.end(), {"--context", "600"});
  const Run run = run_tool(arguments);
  CHECK(run.exit_code == 0);
  CHECK(run.err == "mistral: note: " + tiny + " names a context of 512 tokens; the model goes on to 600\n");
}

TEST_CASE("a checkpoint whose tensors are missing or cut short") {
  const std::string tiny = mistral::test::tiny_model();
  if (missing(tiny)) return;
  const Scratch scratch;
  std::filesystem::create_directory(scratch.path("model"));
  std::filesystem::copy(tiny + "/config.json", scratch.path("model"));
  const std::vector<std::string> arguments{"logits", "--model", scratch.path("model"),  "--tokens",
                                           "1",      "--out",   scratch.path("out.npy")};
  check_error(arguments, 1,
              "[safetensors] " + scratch.path("model") +
                  ": expected model.safetensors or model.safetensors.index.json, got neither of them");
  std::filesystem::copy(tiny + "/model.safetensors", scratch.path("model"));
  std::filesystem::resize_file(scratch.path("model/model.safetensors"), 1000);
  const Run run = run_tool(arguments);
  CHECK(run.exit_code == 1);
  CHECK(run.err.starts_with("mistral: error: [safetensors] " + scratch.path("model/model.safetensors: the header")));
  CHECK_FALSE(std::filesystem::exists(scratch.path("out.npy")));
}

TEST_CASE("a tokenizer that is missing, is none, or doesn't fit") {
  const std::string tiny = mistral::test::tiny_model(), tokenizer = golden("tokenizer/bpe600.model").string();
  if (missing(tiny) || missing(tokenizer)) return;
  check_error(
      {"generate", "--model", tiny, "--prompt", "a"}, 1,
      "[tokenizer] " + tiny +
          ": expected tokenizer.json or tokenizer.model in the folder, or another file by --tokenizer, got neither");
  const std::string misfit =
      "[tokenizer] " + tokenizer + ": the vocabulary: expected at most the model's 97 pieces, got 600";
  check_error({"generate", "--model", tiny, "--tokenizer", tokenizer, "--prompt", "a"}, 1, misfit);
  check_error({"logits", "--model", tiny, "--tokenizer", tokenizer, "--prompt", "a", "--out", "/dev/null"}, 1, misfit);
  const Scratch scratch;
  const std::string text = scratch.write("text", "no tokenizer");
  const Run run = run_tool({"generate", "--model", tiny, "--tokenizer", text, "--prompt", "a"});
  CHECK(run.exit_code == 1);
  CHECK(run.err.starts_with("mistral: error: [tokenizer] " + text + ": "));
  CHECK(run.err.find('\n') == run.err.size() - 1);
}

TEST_CASE("tokens that the model cannot take") {
  const std::string tiny = mistral::test::tiny_model();
  if (missing(tiny)) return;
  const Scratch scratch;
  const auto check = [&](const std::string& tokens, const std::string& message) {
    check_error({"logits", "--model", tiny, "--tokens", tokens, "--out", scratch.path("out.npy")}, 1, message);
    CHECK_FALSE(std::filesystem::exists(scratch.path("out.npy")));
  };
  check("1,2,97", "[tokens] token 2: expected an id of 0 ... 96, got 97");
  check("1,-2", "[tokens] token 1: expected an id, got '-2'");
  check("1,2.5", "[tokens] token 1: expected an id, got '2.5'");
  check("99999999999", "[tokens] token 0: expected an id, got '99999999999'");
  check("1,x\ny", "[tokens] token 1: expected an id, got 'x'");
  check("", "[tokens] the prompt: expected at least one token, got none");
  check(" , ", "[tokens] the prompt: expected at least one token, got none");
  check_error({"logits", "--model", tiny, "--tokens-file", scratch.path("none"), "--out", "/dev/null"}, 1,
              "[tokens] " + scratch.path("none") + ": cannot open: No such file or directory");
  const std::string tokenizer = golden("tokenizer/bpe600.model").string();
  if (missing(tokenizer)) return;
  check_error({"tokenize", "--tokenizer", tokenizer, "--decode", "--text", "5 600"}, 1,
              "[tokenizer] " + tokenizer + ": token id: expected 0 ... 599, got 600");
}

TEST_CASE("a prompt that the model cannot take") {
  const std::string stories = mistral::test::stories();
  if (missing(stories)) return;
  const Scratch scratch;
  check_error({"generate", "--model", stories, "--prompt", "", "--no-bos"}, 1,
              "[tokens] the prompt: expected at least one token, got none");
  check_error({"generate", "--model", stories, "--prompt-file", scratch.path("none")}, 1,
              "[prompt] " + scratch.path("none") + ": cannot open: No such file or directory");
  check_error({"generate", "--model", stories, "--prompt-file", stories}, 1,
              "[prompt] " + stories + ": cannot read: Is a directory");
  std::string ids = "1";
  for (int i = 0; i < 512; ++i) ids += ",5";
  check_error({"logits", "--model", stories, "--tokens", ids, "--out", scratch.path("out.npy")}, 1,
              "[tokens] the prompt, for a model without a window: expected at most 512 tokens, got 513");
}

TEST_CASE("an output that cannot be written") {
  const std::string stories = mistral::test::stories(), tiny = mistral::test::tiny_model();
  if (missing(tiny)) return;
  const Scratch scratch;
  const std::vector<std::string> logits{"logits", "--model", tiny, "--tokens", "1,2,3", "--out"};
  const auto to = [&](const std::string& out) {
    auto arguments = logits;
    arguments.push_back(out);
    return arguments;
  };
  check_error(to("/dev/full"), 1, "[logits] /dev/full: cannot write: No space left on device");
  check_error(to(scratch.path("no/out.npy")), 1,
              "[logits] " + scratch.path("no/out.npy") + ": cannot write: No such file or directory");
  std::filesystem::create_directory(scratch.path("folder"));
  check_error(to(scratch.path("folder")), 1, "[logits] " + scratch.path("folder") + ": cannot write: Is a directory");

  const std::string full = "[stdout] cannot write: No space left on device";
  check_error({"--help"}, 1, full, {.in = {}, .out_path = "/dev/full"});
  check_error({"compile", "--config", "tiny", "--print"}, 1, full, {.in = {}, .out_path = "/dev/full"});
  check_error({"inspect", "--model", tiny}, 1, full, {.in = {}, .out_path = "/dev/full"});
  check_error({"compile", "--config", "tiny", "--print"}, 1, "[stdout] cannot write: Bad file descriptor",
              {.in = {}, .out_path = {}, .closed_out = true});
  if (missing(stories)) return;
  check_error({"tokenize", "--model", stories, "--text", "a"}, 1, full, {.in = {}, .out_path = "/dev/full"});
  check_error({"generate", "--model", stories, "--prompt", "a"}, 1, full, {.in = {}, .out_path = "/dev/full"});
  check_error({"generate", "--model", stories, "--prompt", "a", "--json"}, 1, full,
              {.in = {}, .out_path = "/dev/full"});
}

TEST_CASE("help and the version are no errors") {
  if (mistral::test::tool_path() == nullptr) return;
  for (const char* const command : {"generate", "tokenize", "logits", "perplexity", "inspect", "compile", "bench"}) {
    const Run run = run_tool({command, "--help"});
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    CHECK(run.out.find(std::string("--help")) != std::string::npos);
    CHECK(run_tool({"--help"}).out.find(std::string("\n  ") + command + " ") != std::string::npos);
  }
  const Run version = run_tool({"--version"});
  CHECK(version.exit_code == 0);
  CHECK(version.out.starts_with("mistral "));
  for (const char* const other : {"version", "-v"}) {
    const Run run = run_tool({other});
    CHECK(run.exit_code == 0);
    CHECK(run.out == version.out);
  }
  for (const char* const other : {"help", "-h"}) CHECK(run_tool({other}).out == run_tool({"--help"}).out);
  CHECK(run_tool({"help", "chat"}).out == run_tool({"chat", "--help"}).out);
  CHECK(run_tool({"help", "chat"}).exit_code == 0);
}

TEST_CASE("the short names of options are those that others have, and mean the long ones") {
  const std::string stories = mistral::test::stories();
  if (missing(stories)) return;
  const Scratch scratch;
  const Run wanted = run_tool({"generate", "--model", stories, "--prompt", "Once upon", "--temperature", "0.5",
                               "--max-tokens", "7", "--threads", "1", "--seed", "3"});
  CHECK(wanted.exit_code == 0);
  CHECK(
      run_tool({"generate", "-m", stories, "-p", "Once upon", "--temp", "0.5", "-n", "7", "-t", "1", "-s", "3"}).out ==
      wanted.out);
  CHECK(
      run_tool({"generate", "-m" + stories, "-f", scratch.write("p", "Once upon\n"), "--temp=0.5", "-n7", "-t1", "-s3"})
          .out == wanted.out);
}
