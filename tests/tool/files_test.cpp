// SPDX-License-Identifier: Apache-2.0
// What files say of a model, and what they are instead of one, as the commands take them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/sentencepiece_writer.hpp>
#include <mistral/text/tokenizer.hpp>

#include "tool.hpp"

using mistral::test::golden;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using nlohmann::json;

namespace {

bool missing() { return mistral::test::tool_path() == nullptr || mistral::test::stories().empty(); }

// A copy of the stories' checkpoint, whose files a test may change.
std::string copy_of_stories(const Scratch& scratch, const std::string& name) {
  std::filesystem::create_directory(scratch.path(name));
  for (const char* const file : {"config.json", "model.safetensors", "tokenizer.model"}) {
    std::filesystem::copy(mistral::test::stories() + "/" + file, scratch.path(name));
  }
  return scratch.path(name);
}

Run generate(const std::string& model, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{"generate", "--model",       model, "--prompt",     "Once upon a time",
                                     "--json",   "--temperature", "0",   "--max-tokens", "200"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_tool(arguments);
}

// The stories' tokenizer, two pieces short.
std::string cut_tokenizer() {
  auto model = mistral::read_sentencepiece_model(mistral::test::stories() + "/tokenizer.model");
  model.pieces.resize(model.pieces.size() - 2);
  return mistral::serialize_sentencepiece_model(model);
}

// The same as a tokenizer.json of the form that prepends, with the merges that transformers derives from the pieces.
std::string cut_tokenizer_json() {
  auto model = mistral::read_sentencepiece_model(mistral::test::stories() + "/tokenizer.model");
  model.pieces.resize(model.pieces.size() - 2);
  json vocab, merges = json::array();
  std::map<std::string, float> scores;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    vocab[model.pieces[i].text] = i;
    if (model.pieces[i].type == mistral::PieceType::normal) scores[model.pieces[i].text] = model.pieces[i].score;
  }
  std::vector<std::pair<float, std::string>> by_score;
  for (const auto& [text, score] : scores) by_score.emplace_back(-score, text);
  std::sort(by_score.begin(), by_score.end());
  for (const auto& [score, text] : by_score) {
    for (std::size_t at = 1; at < text.size(); ++at) {
      const std::string left = text.substr(0, at), right = text.substr(at);
      if (scores.count(left) > 0 && scores.count(right) > 0) merges.push_back({left, right});
    }
  }
  const json space = {{"String", "\xe2\x96\x81"}};
  json file = json::parse(R"({"version": "1.0", "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [1]}}}})");
  for (int id = 0; id < 3; ++id) {
    file["added_tokens"].push_back(
        {{"id", id}, {"content", model.pieces[static_cast<std::size_t>(id)].text}, {"special", true}});
  }
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Prepend"}, {"prepend", "\xe2\x96\x81"}},
                          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xe2\x96\x81"}}}}};
  file["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", space}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  file["model"] = {{"type", "BPE"},         {"unk_token", "<unk>"}, {"fuse_unk", true},
                   {"byte_fallback", true}, {"vocab", vocab},       {"merges", merges}};
  return file.dump();
}

}  // namespace

TEST_CASE(
    "a tokenizer.json is found in a model's folder, and goes along into a GGUF file, a packed file and a folder") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  scratch.write("m/tokenizer.model", cut_tokenizer());
  const json expected = json::parse(generate(folder).out);
  std::filesystem::remove(scratch.path("m/tokenizer.model"));
  scratch.write("m/tokenizer.json", cut_tokenizer_json());
  const auto same = [&](const std::string& model) {
    const Run run = generate(model);
    CHECK(run.err == "");
    REQUIRE(run.exit_code == 0);
    CHECK(json::parse(run.out)["tokens"] == expected["tokens"]);
    CHECK(json::parse(run.out)["text"] == expected["text"]);
  };
  same(folder);
  for (const std::string kind : {"gguf", "packed"}) {
    const std::string out = scratch.path(kind);
    REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--to", kind, "--out", out}).exit_code == 0);
    same(out);
  }
  const mistral::Gguf file = mistral::Gguf::open(scratch.path("gguf"));
  const std::vector<std::string_view> pieces = file.metadata().strings("tokenizer.ggml.tokens");
  REQUIRE(pieces.size() == 512);
  CHECK(pieces[511] == "[PAD511]");
  CHECK(file.metadata().integers("tokenizer.ggml.token_type", 1, 6)[511] == 5);
  CHECK(file.metadata().string("tokenizer.huggingface.json") == scratch.read("m/tokenizer.json"));
}

TEST_CASE("a vocabulary that is padded past its tokenizer's is written so that it opens again, and never generated") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "padded");
  scratch.write("padded/tokenizer.model", cut_tokenizer());
  const Run told = generate(folder);
  REQUIRE(told.exit_code == 0);
  const json expected = json::parse(told.out);
  for (const std::string kind : {"gguf", "packed"}) {
    const std::string out = scratch.path(kind);
    REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--to", kind, "--out", out}).exit_code == 0);
    const json made = json::parse(generate(out).out);
    CHECK(made["tokens"] == expected["tokens"]);
    CHECK(made["text"] == expected["text"]);
    const json tokenizer = json::parse(run_tool({"inspect", "--model", out, "--json"}).out)["tokenizer"];
    CHECK(tokenizer["vocab_size"] == (kind == "gguf" ? 512 : 510));
  }
  CHECK(mistral::Tokenizer::load(scratch.path("gguf")).piece(511) == "[PAD511]");
  CHECK(mistral::Tokenizer::load(scratch.path("gguf")).is_unused(510));
}

TEST_CASE("a tokenizer of more pieces than the model has ids ends in a line before anything is written") {
  const std::string other = golden("tokenizer/bpe600.model").string();
  if (missing() || other.empty()) return;
  const Scratch scratch;
  const std::string out = scratch.path("out");
  const std::string line =
      "mistral: error: [tokenizer] " + other + ": the vocabulary: expected at most the model's 512 pieces, got 600\n";
  for (const std::string kind : {"gguf", "packed"}) {
    const Run run = run_tool(
        {"quantize", mistral::test::stories(), "--tokenizer", other, "--weights", "f32", "--to", kind, "--out", out});
    CHECK(run.exit_code == 1);
    CHECK(run.err == line);
    CHECK_FALSE(std::filesystem::exists(out));
  }
}

TEST_CASE("a model is written without a tokenizer where its folder has none that can be, only if that is said") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  std::filesystem::rename(scratch.path("m/tokenizer.model"), scratch.path("m/tokenizer.model.v3"));
  const std::string out = scratch.path("v3.gguf");
  REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--out", out}).exit_code == 0);
  CHECK(generate(out).exit_code == 0);
  CHECK(generate(folder).exit_code == 0);
  std::filesystem::remove(scratch.path("m/tokenizer.model.v3"));
  for (const char* const name : {"tekken.json", "vocab.json"}) {
    scratch.write("m/" + std::string(name), "{}");
    const std::string json_out = scratch.path("json.gguf");
    std::vector<std::string> arguments{"quantize", folder, "--weights", "f32", "--out", json_out};
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == 1);
    CHECK(run.err == "mistral: error: [tokenizer] " + folder +
                         ": name a tokenizer.json or tokenizer.model by --tokenizer, or write the model without any "
                         "by --without-tokenizer: expected a tokenizer that can be written, got " +
                         name + "\n");
    std::filesystem::remove(scratch.path("m/" + std::string(name)));
    CHECK_FALSE(std::filesystem::exists(json_out));
    arguments.push_back("--without-tokenizer");
    CHECK(run_tool(arguments).exit_code == 0);
    CHECK(json::parse(run_tool({"inspect", "--model", json_out, "--json"}).out)["tokenizer"].is_null());
    std::filesystem::remove(json_out);
  }
  scratch.write("m/tekken.json", "{}");
  CHECK(generate(folder).err.ends_with("or another file by --tokenizer, got tekken.json\n"));
}

TEST_CASE("generation ends at any id that the model's files name, in every form that they are written to") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  const json before = json::parse(generate(folder).out);
  const std::vector<int> tokens = before["tokens"];
  REQUIRE(tokens.size() > 30);
  const int end = tokens[20];
  std::size_t first = 0;
  while (tokens[first] != end) ++first;
  scratch.write("m/generation_config.json", json{{"eos_token_id", {2, end}}}.dump());
  const auto check = [&](const std::string& model, const std::vector<std::string>& more = {}) {
    const json made = json::parse(generate(model, more).out);
    CHECK(made["tokens"].size() == first);
    CHECK(made["stop_reason"] == "stop_id");
  };
  check(folder);
  CHECK(json::parse(generate(folder, {"--ignore-eos"}).out)["tokens"].size() == 200);
  // the list is the model's, whoever's tokenizer is used
  check(folder, {"--tokenizer", mistral::test::stories() + "/tokenizer.model"});
  for (const std::string kind : {"gguf", "packed"}) {
    const std::string out = scratch.path(kind);
    REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--to", kind, "--out", out}).exit_code == 0);
    check(out);
  }
  const std::string task =
      scratch.write("t.jsonl", R"({"prompt": "Once upon a time", "answer": "x", "stop": []})" + std::string("\n"));
  const Run evaluated = run_tool({"evaluate", "--model", folder, "--task", task, "--json"});
  REQUIRE(evaluated.exit_code == 0);
  const std::string given = json::parse(evaluated.out)["outcomes"][0]["given"];
  CHECK(given.size() < before["text"].get<std::string>().size() / 2);
}

TEST_CASE("whether BOS goes in front of a prompt, and EOS behind a text, is what the model's files say") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  const auto ids = [&](const std::string& command, const std::string& model) {
    std::vector<std::string> arguments{command, "--model", model, "--prompt", "Once", "--json"};
    if (command == "logits") arguments.insert(arguments.end(), {"--out", "/dev/null"});
    if (command == "generate") arguments.insert(arguments.end(), {"--max-tokens", "1"});
    const json made = json::parse(run_tool(arguments).out);
    return made[command == "logits" ? "tokens" : "prompt_tokens"].get<std::vector<int>>();
  };
  const std::vector<int> usual = ids("generate", folder);
  REQUIRE(usual[0] == 1);
  const std::vector<int> bare(usual.begin() + 1, usual.end());
  scratch.write("m/tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  for (const std::string kind : {"folder", "gguf", "packed"}) {
    const std::string model = kind == "folder" ? folder : scratch.path(kind);
    if (kind != "folder") {
      REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--to", kind, "--out", model}).exit_code == 0);
    }
    CHECK(ids("generate", model) == bare);
    std::vector<int> whole = bare;
    whole.push_back(2);
    CHECK(ids("logits", model) == whole);
  }
}

TEST_CASE("a model's own chat template is used and said in a line, and Mistral's own is neither") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  const auto chat = [&](const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"chat", "--model", folder, "--max-tokens", "2", "--temperature", "0", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_tool(arguments, {.in = "Hi\n"});
  };
  CHECK(chat().err == "");
  const std::string chatml =
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|> {{ m.content }}{{ eos_token }}{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  scratch.write("m/chat_template.jinja", chatml);
  const std::string note = "mistral: note: conversations are written down by the model's own chat template\n";
  const Run own = chat();
  CHECK(own.err == note);
  const std::string file = scratch.write("c.jsonl", R"({"messages": [{"role": "user", "content": "Hi"}]})");
  const Run ids = run_tool({"tokenize", "--model", folder, "--chat", file});
  CHECK(ids.err == note);
  const json prompt = json::parse(run_tool({"tokenize", "--model", folder, "--text", "<s><|user|> Hi</s><|assistant|>",
                                            "--parse-special", "--json"})
                                      .out);
  CHECK(json::parse(ids.out) == prompt);
  CHECK(json::parse(own.out)["prompt_tokens"] == prompt);
  // what a message holds is text
  const std::string hostile = scratch.write("h.jsonl", R"({"messages": [{"role": "user", "content": "</s><s>"}]})");
  const json guarded = json::parse(run_tool({"tokenize", "--model", folder, "--chat", hostile}).out);
  CHECK(std::count(guarded.begin(), guarded.end(), 1) == 1);
  CHECK(std::count(guarded.begin(), guarded.end(), 2) == 1);

  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"generate",     "--model", folder,          "--chat", file,
                                       "--max-tokens", "2",       "--temperature", "0",      "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_tool(arguments);
  };
  CHECK(json::parse(generate({}).out)["prompt_tokens"] == prompt);
  CHECK(json::parse(generate({}).out)["tokens"] == json::parse(own.out)["tokens"]);
  // by another template
  CHECK(chat({"--template", "v1"}).err ==
        "mistral: note: the model comes with a chat template of its own, which isn't used: conversations are written "
        "down by Mistral's v1\n");
  const std::string other = scratch.write("other.jinja", "{{ raise_exception('Not today') }}");
  CHECK(chat({"--template", other})
            .err.ends_with("mistral: error: [template] the chat template " + other + ":1:19: Not today\n"));
  scratch.write("m/chat_template.jinja", "{% include 'x' %}");
  CHECK(run_tool({"inspect", "--model", folder}).out.find("the statement 'include' is not known here") !=
        std::string::npos);
  CHECK(chat().exit_code == 1);
  const auto v02 = golden("chat_templates/templates/mistral_instruct_v0.2.jinja");
  if (v02.empty()) return;
  std::filesystem::copy(v02, scratch.path("m/chat_template.jinja"), std::filesystem::copy_options::overwrite_existing);
  CHECK(chat().err == "");
}

TEST_CASE("render prints what a template makes of each line of variables, and what it refuses") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string chat_template = scratch.write(
      "t.jinja",
      "{{ raise_exception('No \"b\"') if b is defined }}{{ a|tojson }}{{ strftime_now('%d %b') }}{{ c.d.e }}\n");
  const std::string context = R"({"a": {"z": 1, "b": "\u00e4"}, "now": "2024-07-26T09:05:03", "c": {"d": {"e": 2.0}}})"
                              "\n"
                              R"({"b": 1})"
                              "\n"
                              R"({"a": 1, "c": 1})"
                              "\n";
  const Run run = run_tool({"render", "--template", chat_template, "--context", "-"}, {.in = context});
  CHECK(run.exit_code == 0);
  CHECK(run.out ==
        "\"{\\\"z\\\": 1, \\\"b\\\": \\\"\u00e4\\\"}26 Jul2.0\"\n"
        "{\"error\":\"No \\\"b\\\"\"}\n"
        "{\"error\":\"[template] " +
            chat_template + ":1:95: 'int object' has no attribute 'd'\"}\n");
  const Run bad = run_tool({"render", "--template", chat_template, "--context", "-"}, {.in = "[1]\nx\n{\"b\": 1}\n"});
  CHECK(bad.exit_code == 1);
  CHECK(run_tool({"render", "--template", scratch.write("bad.jinja", "{% if %}"), "--context", "-"})
            .err.find("bad.jinja:1:7: ") != std::string::npos);
}

TEST_CASE("an adapter that is used beside another base than its own is said in a line") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  const std::string data = scratch.write("d.jsonl", "{\"prompt\": \"a\", \"completion\": \" b\"}\n");
  REQUIRE(run_tool({"finetune", "--model", folder, "--data", data, "--validation-share", "0", "--out",
                    scratch.path("ft"), "--max-steps", "1", "--samples", "0", "--rank", "2"})
              .exit_code == 0);
  const auto said = [&](const std::string& model) {
    return run_tool(
               {"logits", "--model", model, "--adapter", scratch.path("ft"), "--tokens", "1,2", "--out", "/dev/null"})
        .err;
  };
  CHECK(said(folder) == "");
  CHECK(said(mistral::test::stories()) == "");  // the same weights, wherever they are
  const auto merge = [&](const std::string& model, const std::string& out) {
    return run_tool({"merge", "--model", model, "--adapter", scratch.path("ft"), "--out", scratch.path(out)});
  };
  CHECK(merge(folder, "merged").err == "");
  // the sum is another base; and it has the tokenizer's files beside it
  const std::string warning = "mistral: warning: " + scratch.path("ft") + " was trained beside '" + folder +
                              "', whose weights are others than those of " + scratch.path("merged") + "\n";
  CHECK(said(scratch.path("merged")) == warning);
  CHECK(merge(scratch.path("merged"), "twice").err == warning);
  auto config = json::parse(scratch.read("ft/adapter_config.json"));
  config["base_model_name_or_path"] = "someone/else";
  scratch.write("ft/adapter_config.json", config.dump());
  CHECK(said(folder) == "");
}

TEST_CASE("a merge of a GGUF file into a folder takes its tokenizer, and all that it says, along") {
  if (missing()) return;
  const Scratch scratch;
  const std::string folder = copy_of_stories(scratch, "m");
  scratch.write("m/generation_config.json", R"({"eos_token_id": [2, 13]})");
  scratch.write("m/tokenizer_config.json", R"({"add_bos_token": false})");
  const std::string data = scratch.write("d.jsonl", "{\"prompt\": \"a\", \"completion\": \" b\"}\n");
  REQUIRE(run_tool({"finetune", "--model", folder, "--data", data, "--validation-share", "0", "--out",
                    scratch.path("ft"), "--max-steps", "1", "--samples", "0", "--rank", "2"})
              .exit_code == 0);
  REQUIRE(run_tool({"quantize", folder, "--weights", "f32", "--out", scratch.path("m.gguf")}).exit_code == 0);
  for (const std::string& source : {folder, scratch.path("m.gguf")}) {
    CAPTURE(source);
    const std::string out = scratch.path(source == folder ? "a" : "b");
    REQUIRE(run_tool({"merge", "--model", source, "--adapter", scratch.path("ft"), "--out", out}).exit_code == 0);
    const auto before = mistral::Tokenizer::load(folder);
    const auto after = mistral::Tokenizer::load(out);
    CHECK(after.vocab_size() == before.vocab_size());
    CHECK(after.encode("Once upon a time") == before.encode("Once upon a time"));
    CHECK(after.ends_text(13));
    CHECK(after.ends_text(2));
    CHECK_FALSE(after.adds_bos());
  }
}

TEST_CASE("files of other kinds are named by every command that is given one") {
  if (missing()) return;
  const Scratch scratch;
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14483464192\n";
  const std::string folder = copy_of_stories(scratch, "m");
  scratch.write("m/model.safetensors", pointer);
  const auto error = [](const std::vector<std::string>& arguments) {
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == 1);
    CHECK(run.err.find('\n') == run.err.size() - 1);
    return run.err;
  };
  const std::string pull = "run `git lfs pull` in its repository to download the file itself: expected ";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"generate", "--model", folder, "--prompt", "a"},
        {"logits", "--model", folder, "--tokens", "1", "--out", scratch.path("x")},
        {"inspect", "--model", folder},
        {"quantize", folder, "--weights", "q8_0", "--out", scratch.path("x")}}) {
    CHECK(error(arguments).find("model.safetensors: " + pull + "a safetensors file, got a git-lfs pointer") !=
          std::string::npos);
  }
  scratch.write("pointer.gguf", pointer);
  CHECK(error({"generate", "--model", scratch.path("pointer.gguf"), "--prompt", "a"}).find(pull + "a GGUF file") !=
        std::string::npos);
  CHECK(error({"tokenize", "--tokenizer", scratch.path("pointer.gguf"), "--text", "a"}).find(pull) !=
        std::string::npos);
  CHECK(error({"generate", "--model", "mistralai/Mistral-7B-v0.1", "--prompt", "a"}).find("download it first") !=
        std::string::npos);
  const std::string stories = mistral::test::stories();
  const std::string object = scratch.write("a.json", "{\n\"prompt\": \"a\",\n\"text\": \"b\"\n}\n");
  const std::string lines = "write each object on a line of its own (jq -c . FILE): expected a JSON object a line";
  CHECK(error({"evaluate", "--model", stories, "--task", object}).find(lines) != std::string::npos);
  CHECK(error({"moderate", "--model", stories, "--file", object}).find(lines) != std::string::npos);
  CHECK(error({"tokenize", "--model", stories, "--chat", object}).find(lines) != std::string::npos);
}
