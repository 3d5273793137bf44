// SPDX-License-Identifier: Apache-2.0
// mistral finetune and merge, and adapters in the other commands: on the checkpoint stories260K.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/core/random.hpp>

#include "../support/size_limit.hpp"
#include "tool.hpp"

using nlohmann::json;
using namespace mistral::test;

namespace {

// Examples that are alike, so that few steps teach something.
std::string examples(std::size_t count) {
  const char* const animals[] = {"cat", "dog", "bird", "frog", "bear"};
  const char* const places[] = {"park", "house", "tree", "lake", "shop", "yard", "car"};
  std::string lines;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string animal = animals[i % 5];
    const std::string place = places[i % 7];
    lines += json{{"instruction", "Where is the " + animal + "?"},
                  {"input", "The " + animal + " went to the " + place + "."},
                  {"output", "The " + animal + " is at the " + place + "."}}
                 .dump() +
             "\n";
  }
  return lines;
}

std::vector<std::string> finetune(const std::string& data, const std::string& out,
                                  const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments{"finetune", "--model",  stories(), "--data",          data,   "--out",
                                     out,        "--rank",   "4",       "--batch",         "2",    "--accumulation",
                                     "2",        "--epochs", "2",       "--learning-rate", "3e-3", "--sample-tokens",
                                     "12"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// The rows of a metrics.jsonl without what time they took.
std::vector<json> rows_of(const std::string& text) {
  std::vector<json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    rows.push_back(json::parse(line));
    rows.back().erase("seconds");
  }
  return rows;
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    files.push_back(std::filesystem::relative(entry.path(), folder).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool missing() { return tool_path() == nullptr || stories().empty(); }

double perplexity(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(),
                   {"perplexity", "--text", "Where is the cat?\n\nThe cat is at the park.", "--json"});
  const Run run = run_tool(arguments);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  return json::parse(run.out)["perplexity"].get<double>();
}

}  // namespace

TEST_CASE("fine-tuning lowers the validation loss, and leaves an adapter, its losses drawn, and answers side by side") {
  if (missing()) return;
  const Scratch scratch;
  const std::string out = scratch.path("out");
  const Run run = run_tool(finetune(scratch.write("data.jsonl", examples(40)), out, {"--json", "--eval-every", "5"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const json result = json::parse(run.out);
  CHECK(result["train_examples"] == 36);
  CHECK(result["validation_examples"] == 4);
  CHECK(result["steps"] == 18);  // 2 epochs of 36 examples, 4 a step
  CHECK(result["validation_loss_after"].get<double>() < 0.7 * result["validation_loss_before"].get<double>());
  REQUIRE(result["samples"].size() == 3);
  const json& sample = result["samples"][0];
  CHECK(sample["prompt"].get<std::string>().find("Where is the") != std::string::npos);
  CHECK(sample["expected"].get<std::string>().find(" is at the ") != std::string::npos);
  CHECK(sample["base"] != sample["tuned"]);
  CHECK(files_in(out) == std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors", "last",
                                                  "last/adapter_config.json", "last/adapter_model.safetensors",
                                                  "loss.svg", "metrics.jsonl", "state", "state/best.safetensors",
                                                  "state/last.safetensors"});
  const auto rows = rows_of(scratch.read("out/metrics.jsonl"));
  CHECK(rows.size() == 18 + 5);  // evaluations before the first step, after 5, 10, 15, and at the end
  CHECK(std::count_if(rows.begin(), rows.end(), [](const json& row) { return row.contains("validation_loss"); }) == 5);
  CHECK(scratch.read("out/loss.svg").find(">validation</text>") != std::string::npos);

  // the adapter beside the base, and merged into it
  const std::string merged = scratch.path("merged");
  const Run merge = run_tool({"merge", "--model", stories(), "--adapter", out, "--out", merged, "--json"});
  INFO(merge.err);
  REQUIRE(merge.exit_code == 0);
  CHECK(json::parse(merge.out)["relative_loss"] == 0.0);
  CHECK(merge.err == "");
  const double base = perplexity({"--model", stories()});
  const double tuned = perplexity({"--model", stories(), "--adapter", out});
  CHECK(tuned != base);
  CHECK(perplexity({"--model", merged}) == doctest::Approx(tuned).epsilon(1e-4));
  const auto text_of = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"generate", "--prompt", "[INST] Where is the cat?\n\nThe cat went to the park. [/INST]",
                      "--temperature", "0", "--max-tokens", "8"});
    const Run generated = run_tool(arguments);
    CHECK(generated.exit_code == 0);
    return generated.out;
  };
  CHECK(text_of({"--model", merged}) == text_of({"--model", stories(), "--adapter", out}));
  CHECK(text_of({"--model", merged}) != text_of({"--model", stories()}));

  const std::string gguf = scratch.path("merged.gguf");
  const Run rounded = run_tool({"merge", "--model", stories(), "--adapter", out, "--out", gguf, "--weights", "bf16"});
  CHECK(rounded.exit_code == 0);
  CHECK(rounded.err.starts_with("mistral: warning: rounding to BF16 lost 0."));
  CHECK(perplexity({"--model", gguf}) == doctest::Approx(tuned).epsilon(0.02));
}

TEST_CASE("a run that is killed and interrupted again and again ends in the bits of an unbroken one") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", examples(40));
  const std::vector<std::string> more{"--eval-every", "3", "--save-every", "1", "--samples", "0", "--json", "--resume"};
  const auto with_threads = [&](const std::string& out, const char* threads) {
    auto arguments = finetune(data, scratch.path(out), more);
    arguments.insert(arguments.end(), {"--threads", threads});
    return arguments;
  };
  const Run unbroken = run_tool(with_threads("unbroken", "1"));
  INFO(unbroken.err);
  REQUIRE(unbroken.exit_code == 0);

  mistral::Random random(7);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    ::posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_WRONLY, 0);
  }
  std::size_t killed = 0;
  std::size_t interrupted = 0;
  Run run;
  for (std::size_t round = 0; round < 500; ++round) {
    const ::pid_t child = start_tool(with_threads("broken", "2"), actions);
    // longer and longer, so that slow machines come to the end too
    ::usleep(static_cast<::useconds_t>((10 + random.next() % 150) * 1000 + round * 2000));
    ::kill(child, round % 4 == 3 ? SIGINT : SIGKILL);
    run = {};
    wait_for(child, run);
    if (run.exit_code == 0) break;
    CHECK(run.signal == (round % 4 == 3 ? SIGINT : SIGKILL));
    ++(round % 4 == 3 ? interrupted : killed);
    if (round % 3 == 0 && std::filesystem::exists(scratch.path("broken/last/adapter_config.json"))) {
      CHECK(run_tool({"generate", "--model", stories(), "--adapter", scratch.path("broken/last"), "--prompt", "a",
                      "--max-tokens", "1"})
                .exit_code == 0);
    }
  }
  ::posix_spawn_file_actions_destroy(&actions);
  CHECK(run.exit_code == 0);
  CHECK(killed > 1);
  MESSAGE("killed " << killed << " times, interrupted " << interrupted << " times");

  CHECK(files_in(scratch.path("broken")) == files_in(scratch.path("unbroken")));
  for (const std::string file : {"adapter_model.safetensors", "adapter_config.json", "last/adapter_model.safetensors",
                                 "state/last.safetensors", "state/best.safetensors"}) {
    CAPTURE(file);
    CHECK((scratch.read("broken/" + file) == scratch.read("unbroken/" + file)));
  }
  CHECK(rows_of(scratch.read("broken/metrics.jsonl")) == rows_of(scratch.read("unbroken/metrics.jsonl")));
}

TEST_CASE("all weights are trained to a checkpoint that runs by itself") {
  if (missing()) return;
  const Scratch scratch;
  const std::string out = scratch.path("out");
  const std::string data = scratch.write("data.jsonl", examples(20));
  const Run run = run_tool({"finetune", "--model", stories(), "--data", data, "--out", out, "--full", "--epochs", "2",
                            "--learning-rate", "1e-3", "--batch", "2", "--accumulation", "1", "--samples", "1"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(run.out.find("validation loss: ") != std::string::npos);
  CHECK(run.out.find("\nthe tuned model's:\n") != std::string::npos);
  CHECK(perplexity({"--model", out}) < 0.9 * perplexity({"--model", stories()}));
}

TEST_CASE("--patience ends a run where no loss is lower by more than --min-delta, with the best adapter") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", examples(40));
  const auto run = [&](const std::string& out, std::vector<std::string> more) {
    more.insert(more.end(), {"--json", "--eval-every", "1", "--patience", "3", "--max-steps", "8", "--samples", "0"});
    const Run made = run_tool(finetune(data, out, more));
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    return json::parse(made.out);
  };
  const std::string out = scratch.path("out");
  const json ended = run(out, {"--min-delta", "100"});
  CHECK(ended["stopped_early"] == true);
  CHECK(ended["steps"] == 3);
  CHECK(ended["best_step"] == 3);  // the lowest loss, although it didn't count
  CHECK(ended["validation_loss_after"].get<double>() < ended["validation_loss_before"].get<double>());
  CHECK(scratch.read("out/adapter_model.safetensors") == scratch.read("out/last/adapter_model.safetensors"));
  const json went_on = run(scratch.path("on"), {});
  CHECK(went_on["stopped_early"] == false);
  CHECK(went_on["steps"] == 8);
}

TEST_CASE("what a data set can have wrong ends in one line that says where, and leaves nothing") {
  if (missing()) return;
  const Scratch scratch;
  const std::string out = scratch.path("out");
  const auto check = [&](const std::string& content, const std::string& message) {
    const std::string data = scratch.write("data.jsonl", content);
    const Run run = run_tool(finetune(data, out));
    CHECK(run.err == "mistral: error: [dataset] " + data + message + "\n");
    CHECK(run.exit_code == 1);
    CHECK(run.out == "");
    CHECK_FALSE(std::filesystem::exists(out));
  };
  check("", ": expected at least one example, got none");
  check(examples(2) + "{\"instruction\": \"a\", \"output\": \"\"}\n",
        ":3: field 'output': expected text, which is what there is to learn, got ''");
  check(examples(2) + "{\"instruction\": \"a\"}\n", ":3: field 'output' is missing");
  const Run none = run_tool(finetune(scratch.path("none"), out));
  CHECK(none.err == "mistral: error: [dataset] " + scratch.path("none") + ": cannot open: No such file or directory\n");

  const std::string bad = scratch.write("bad.jsonl", examples(8) + "{\"text\"\n[]\n");
  const Run skipped = run_tool(finetune(bad, out, {"--skip-bad", "--max-steps", "1", "--samples", "0"}));
  CHECK(skipped.exit_code == 0);
  CHECK(skipped.out.starts_with(bad + ": 2 bad lines skipped (the first: [dataset] " + bad + ":9: "));
}

TEST_CASE("what an option can have wrong ends in one line, and leaves nothing") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", examples(8));
  const std::string out = scratch.path("out");
  const auto check = [&](const std::vector<std::string>& more, int code, const std::string& message) {
    const Run run = run_tool([&] {
      std::vector<std::string> arguments{"finetune", "--model", stories(), "--data", data, "--out", out};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return arguments;
    }());
    CHECK(run.err.substr(0, 16 + message.size()) == "mistral: error: " + message);
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    CHECK(run.exit_code == code);
    CHECK(run.out == "");
    CHECK_FALSE(std::filesystem::exists(out));
  };
  check({"--rank", "0"}, 2, "--rank: expected a whole number of 1 ... 512, got '0'");
  check({"--targets", "wq,wz"}, 2,
        "--targets: expected some of wq, wk, wv, wo, w1, w2, w3, output (or q_proj, ...), got 'wz'");
  check({"--dropout", "1"}, 2, "--dropout: expected a number of 0 ... 0.99, got '1'");
  check({"--sequence", "100000"}, 2, "--sequence: expected at most the 512 tokens of the context of " + stories());
  check({"--full", "--rank", "4"}, 2, "--full excludes --rank");
  check({"--full", "--weights", "q4_0"}, 2, "--full: expected --weights f32 with it, got q4_0");
  check({"--template", "v3"}, 1, "[");
  check({"--learning-rate", "nan"}, 2, "--learning-rate: expected a number of 0 ... 1000, got 'nan'");
  check({"--patience", "2", "--validation-share", "0"}, 2, "--patience: expected examples for validation, got none");
  check({"--patience", "2", "--min-delta", "-1"}, 2, "--min-delta: expected a number of 0 ... 1e+09, got '-1'");
  check({"--min-delta", "0.1"}, 2, "--min-delta requires --patience");
}

TEST_CASE("a folder that can't be written, or is full, ends in one line, and holds no half of a file") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", examples(8));
  const auto error = [&](const std::string& out, const std::vector<std::string>& more = {}) {
    const Run run = run_tool(finetune(data, out, more));
    CHECK(run.exit_code == 1);
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    return run.err;
  };
  CHECK(error(scratch.path("no/folder")) ==
        "mistral: error: [finetune] " + scratch.path("no/folder") + ": cannot create: No such file or directory\n");
  const std::string file = scratch.write("file", "x");
  CHECK(error(file) == "mistral: error: [finetune] " + file + ": expected a folder to write to, got a file\n");
  const std::string full = scratch.path("full");
  std::filesystem::create_directory(full);
  std::filesystem::create_symlink("/dev/full", full + "/metrics.jsonl");
  CHECK(error(full, {"--samples", "0"}) ==
        "mistral: error: [finetune] " + full + "/metrics.jsonl: cannot write: No space left on device\n");
  const std::string out = scratch.path("out");
  {
    const SizeLimit limit(20'000);
    CHECK(error(out, {"--samples", "0"}) ==
          "mistral: error: [safetensors] " + out + "/state/best.safetensors: cannot write: File too large\n");
  }
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(run_tool(finetune(data, out, {"--samples", "0", "--max-steps", "1"})).exit_code == 0);

  // another run's folder
  CHECK(error(out) == "mistral: error: [finetune] " + out +
                          ": expected a folder without a run in it, or --resume, got one with a run\n");
  const std::string state = "[finetune] " + out + "/state/last.safetensors: ";
  CHECK(error(out, {"--resume", "--alpha", "8", "--max-steps", "1"}) ==
        "mistral: error: " + state + "finetune.alpha: expected 8, got 16\n");
  CHECK(error(out, {"--resume", "--seed", "8", "--max-steps", "1"}).find("expected ") != std::string::npos);
}

TEST_CASE("of several adapters beside one base, the one that is chosen is gone through") {
  if (missing()) return;
  const Scratch scratch;
  const std::string data = scratch.write("data.jsonl", examples(8));
  const std::string first = scratch.path("first"), second = scratch.path("second/run");
  std::filesystem::create_directories(scratch.path("second"));
  REQUIRE(run_tool(finetune(data, first, {"--samples", "0", "--max-steps", "2"})).exit_code == 0);
  REQUIRE(run_tool(finetune(data, second, {"--samples", "0", "--max-steps", "3", "--seed", "7"})).exit_code == 0);
  const double base = perplexity({"--model", stories()});
  const double by_first = perplexity({"--model", stories(), "--adapter", first});
  const double by_second = perplexity({"--model", stories(), "--adapter", second});
  CHECK(by_first != base);
  CHECK(by_second != base);
  CHECK(by_first != by_second);
  const auto chosen = [&](const std::string& name) {
    std::vector<std::string> arguments{"--model", stories(), "--adapter", first, "--adapter", second};
    if (!name.empty()) arguments.insert(arguments.end(), {"--use-adapter", name});
    return perplexity(arguments);
  };
  CHECK(chosen("") == by_first);
  for (const std::string& name : {first, std::string("first"), std::string("0")}) CHECK(chosen(name) == by_first);
  for (const std::string& name : {second, std::string("run"), std::string("1")}) CHECK(chosen(name) == by_second);
  CHECK(chosen("none") == base);  // the same bits: an adapter that isn't gone through adds nothing

  const auto error = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"generate", "--model", stories(), "--prompt", "a"});
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == 2);
    CHECK(run.out == "");
    return run.err;
  };
  const std::string see = " (see: mistral generate --help)\n";
  CHECK(error({"--adapter", first, "--use-adapter", "2"}) ==
        "mistral: error: --use-adapter: expected the path, the name or the number of an --adapter, or none, got '2'" +
            see);
  std::filesystem::create_directories(scratch.path("third/run"));
  CHECK(error({"--adapter", second, "--adapter", scratch.path("third/run"), "--use-adapter", "run"}) ==
        "mistral: error: --use-adapter: expected the path of one adapter, got 'run', which several paths end in" + see);
  CHECK(error({"--use-adapter", "0"}).find("--use-adapter requires --adapter") != std::string::npos);
}

TEST_CASE("an adapter that doesn't fit, and a merge that can't be, end in one line") {
  if (missing()) return;
  const Scratch scratch;
  const std::string adapter = scratch.path("adapter");
  const std::string data = scratch.write("data.jsonl", examples(8));
  REQUIRE(run_tool(finetune(data, adapter, {"--samples", "0", "--max-steps", "1"})).exit_code == 0);
  const std::string merged = scratch.path("merged");
  const auto error = [&](const std::vector<std::string>& arguments, int code) {
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == code);
    CHECK(run.out == "");
    CHECK_FALSE(std::filesystem::exists(merged));
    return run.err;
  };
  CHECK(error({"merge", "--model", stories(), "--adapter", adapter, "--out", merged, "--weights", "q9"}, 2)
            .starts_with("mistral: error: --weights: expected one of F32, F16, BF16, Q8_0, "));
  CHECK(error({"merge", "--model", stories(), "--adapter", adapter, "--out", adapter}, 2)
            .starts_with("mistral: error: --out: expected another place than " + adapter));
  CHECK(error({"merge", "--model", tiny_model(), "--adapter", adapter, "--out", merged}, 1)
            .starts_with("mistral: error: [adapter] " + adapter + "/adapter_model.safetensors: tensor '"));
  auto config = json::parse(scratch.read("adapter/adapter_config.json"));
  config["r"] = 5;
  scratch.write("adapter/adapter_config.json", config.dump());
  const std::string shape = "mistral: error: [adapter] " + adapter +
                            "/adapter_model.safetensors: tensor 'base_model.model.model.layers.0.self_attn.q_proj."
                            "lora_A.weight': expected [5, 64], got [4, 64]\n";
  CHECK(error({"generate", "--model", stories(), "--adapter", adapter, "--prompt", "a"}, 1) == shape);
  CHECK(error({"merge", "--model", stories(), "--adapter", adapter, "--out", merged}, 1) == shape);
  CHECK(
      error({"logits", "--model", stories(), "--adapter", scratch.path("none"), "--prompt", "a", "--out", merged}, 1)
          .find("none: expected a folder with adapter_config.json and adapter_model.safetensors (PEFT), got nothing at "
                "that path") != std::string::npos);
}

TEST_CASE("markup in the data is warned of with counts, and --parse-special makes control tokens of it") {
  if (missing()) return;
  const Scratch scratch;
  std::string lines;
  for (int i = 0; i < 4; ++i)
    lines += R"({"text": "<s>[INST] Who? [/INST] Tom saw a dog.</s>"})"
             "\n";
  lines += R"({"text": "Tom saw a dog."})"
           "\n"
           R"({"instruction": "Who <|im_start|> ?", "output": "Tom."})"
           "\n";
  const std::string data = scratch.write("d.jsonl", lines);
  const auto run = [&](const std::string& out, std::vector<std::string> more) {
    more.insert(more.begin(), {"--samples", "0", "--max-steps", "1", "--validation-share", "0", "--json"});
    return run_tool(finetune(data, scratch.path(out), more));
  };
  const Run warned = run("a", {});
  CHECK(warned.exit_code == 0);
  CHECK(warned.err == "mistral: warning: " + data +
                          ": 5 of 6 examples hold markup as text, not as control tokens: </s> in 4, <s> in 4, "
                          "<|im_start|> in 1; --parse-special makes control tokens of </s>, <s>\n");
  const Run special = run("b", {"--parse-special"});
  CHECK(special.exit_code == 0);
  CHECK(special.err == "mistral: warning: " + data +
                           ": 1 of 6 examples hold markup as text, not as control tokens: <|im_start|> in 1; this "
                           "tokenizer has no control token for it\n");
  CHECK(json::parse(special.out)["tokens"].get<int>() < json::parse(warned.out)["tokens"].get<int>());
  // a run that is gone on with has to be given the same
  CHECK(run("a", {"--resume", "--parse-special"}).exit_code == 1);
}

TEST_CASE("data come as one array, with Windows' ends of lines, and from standard input") {
  if (missing()) return;
  const Scratch scratch;
  std::string crlf = "\xef\xbb\xbf";
  json array = json::array();
  std::istringstream lines(examples(8));
  for (std::string line; std::getline(lines, line);) {
    crlf += line + "\r\n";
    array.push_back(json::parse(line));
  }
  const std::vector<std::string> more{"--samples", "0", "--max-steps", "2", "--json"};
  const auto loss_of = [&](const std::string& data, const std::string& out, const std::string& in = {}) {
    const Run run = run_tool(finetune(data, scratch.path(out), more), {.in = in});
    CHECK(run.err == "");
    REQUIRE(run.exit_code == 0);
    return json::parse(run.out)["validation_loss_after"];
  };
  const json wanted = loss_of(scratch.write("d.jsonl", examples(8)), "a");
  CHECK(loss_of(scratch.write("crlf.jsonl", crlf), "b") == wanted);
  CHECK(loss_of(scratch.write("d.json", array.dump(4)), "c") == wanted);
  CHECK(loss_of(scratch.write("one.json", array.dump()), "d") == wanted);
  CHECK(loss_of("-", "e", crlf) == wanted);
  const Run bad =
      run_tool(finetune(scratch.write("bad.json", "[\n" + array[0].dump() + ",\n{\"text\": 5}]"), scratch.path("f")));
  CHECK(bad.exit_code == 1);
  CHECK(bad.err == "mistral: error: [dataset] " + scratch.path("bad.json") +
                       ":3 (element 2): field 'text': expected a string, got 5\n");
}
