// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/core/token.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/io/npy.hpp>

#include "tool.hpp"

using mistral::TokenId;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using nlohmann::json;
using Arguments = std::vector<std::string>;
using Ids = std::vector<TokenId>;

namespace {

const std::string breeze = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string output(const Arguments& arguments, const std::string& in = {}) {
  const Run run = run_tool(arguments, {.in = in});
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  return run.out;
}

// Lines of a task about the texts that breeze was trained on, of prompts shorter and longer than its window of 64.
std::string choices_task() {
  const std::string longer =
      "And the LORD spake unto Moses, saying, Speak unto the children of Israel, and say unto them, When ye are come "
      "into the land of Canaan, then ye shall drive out all the inhabitants of the land from before you, and destroy "
      "all their pictures, and destroy all their molten images, and quite pluck down all their high places: ";
  json lines = json::array();
  lines.push_back(
      {{"shot", true}, {"prompt", "And God said, Let there be"}, {"choices", {" light", " sister"}}, {"answer", 0}});
  lines.push_back(
      {{"prompt", "And the LORD said unto"}, {"choices", {" Moses", " Mr. Darcy", " the G.add_node"}}, {"answer", 0}});
  lines.push_back({{"prompt", "Elizabeth was very much surprised, and"}, {"choices", {" G", " she"}}, {"answer", 1}});
  lines.push_back({{"prompt", longer + "And ye shall dis"},
                   {"choices", {"possess the inhabitants", "like it", "s"}},
                   {"answer", 0}});
  lines.push_back({{"prompt", ""}, {"choices", {"And it came to pass", "\xe2\x82\xac\n"}}, {"answer", 1}});
  std::string text;
  for (const json& line : lines) text += line.dump() + "\n";
  return text;
}

Ids ids_of(const std::string& text) {
  return json::parse(output({"tokenize", "--model", breeze, "--bos", "--json"}, text)).get<Ids>();
}

// The log-likelihood of a text's ids from the nth on, by its logits.
double naive_log_likelihood(const Ids& ids, std::size_t from) {
  const Scratch scratch;
  std::string list;
  for (const TokenId id : ids) list.append(list.empty() ? "" : ",").append(std::to_string(id));
  output({"logits", "--model", breeze, "--tokens", list, "--out", scratch.path("l.npy")});
  const mistral::NpyMatrix logits = mistral::read_npy(scratch.path("l.npy"));
  double sum = 0.0;
  for (std::size_t i = from; i < ids.size(); ++i) {
    sum += mistral::log_probability(std::span(logits.values).subspan((i - 1) * logits.cols, logits.cols), ids[i]);
  }
  return sum;
}

}  // namespace

TEST_CASE("evaluate gives a task with choices the figures of a loop over logits, to the last digit") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string task = scratch.write("t.jsonl", choices_task());
  for (const std::size_t shots : {0u, 1u}) {
    const json made = json::parse(
        output({"evaluate", "--model", breeze, "--task", task, "--shots", std::to_string(shots), "--json"}));
    const std::string before = shots > 0 ? "And God said, Let there be light\n\n" : "";
    std::istringstream lines(choices_task());
    std::string line;
    std::getline(lines, line);  // the example
    std::size_t right = 0, right_per_byte = 0, count = 0;
    for (; std::getline(lines, line); ++count) {
      const json item = json::parse(line);
      const std::string prompt = before + item["prompt"].get<std::string>();
      const auto choices = item["choices"].get<std::vector<std::string>>();
      std::vector<Ids> all{ids_of(prompt)};
      for (const std::string& choice : choices) all.push_back(ids_of(prompt + choice));
      std::size_t common = 0;
      const auto agree = [&](std::size_t at) {
        for (const Ids& ids : all) {
          if (at >= ids.size() || ids[at] != all[0][at]) return false;
        }
        return true;
      };
      while (agree(common)) ++common;
      std::vector<double> sums, per_byte;
      for (std::size_t i = 0; i < choices.size(); ++i) {
        sums.push_back(naive_log_likelihood(all[i + 1], common));
        per_byte.push_back(sums[i] / static_cast<double>(choices[i].size()));
      }
      const json& outcome = made["outcomes"][count];
      CHECK(outcome["log_likelihoods"].get<std::vector<double>>() == sums);
      const auto best = std::max_element(sums.begin(), sums.end()) - sums.begin();
      const auto best_per_byte = std::max_element(per_byte.begin(), per_byte.end()) - per_byte.begin();
      CHECK(outcome["chosen"] == best);
      CHECK(outcome["chosen_per_byte"] == best_per_byte);
      if (best == item["answer"]) ++right;
      if (best_per_byte == item["answer"]) ++right_per_byte;
    }
    REQUIRE(made["outcomes"].size() == count);
    const double accuracy = static_cast<double>(right) / static_cast<double>(count);
    CHECK(made["accuracy"]["value"] == accuracy);
    CHECK(made["accuracy"]["standard_error"] == std::sqrt(accuracy * (1.0 - accuracy) / static_cast<double>(count)));
    CHECK(made["accuracy"]["over"] == count);
    CHECK(made["accuracy_per_byte"]["value"] == static_cast<double>(right_per_byte) / static_cast<double>(count));
    CHECK(right > 0);
    CHECK(right < count);
  }
  const std::string table = output({"evaluate", "--model", breeze, "--task", task});
  CHECK(table.starts_with("figure "));
  CHECK(table.find("\naccuracy ") != std::string::npos);
  CHECK(table.find("\nguessing would give 0.416667\n") != std::string::npos);
}

TEST_CASE("evaluate asks in a template's ids: those of tokenize for the same conversation") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string task =
      scratch.write("t.jsonl", R"({"shot": true, "prompt": "One?", "choices": [" Yes", " No"], "answer": 1}
{"prompt": "Was she happy?", "choices": [" Yes, she was", " No"], "answer": 0})");
  const json made = json::parse(
      output({"evaluate", "--model", breeze, "--task", task, "--template", "v1", "--shots", "1", "--json"}));
  CHECK(made["template"] == "v1");
  json messages = json::array({{{"role", "user"}, {"content", "One?"}},
                               {{"role", "assistant"}, {"content", "No"}},
                               {{"role", "user"}, {"content", "Was she happy?"}}});
  const auto ids = [&](bool goes_on) {
    const json chat{{"messages", messages}, {"continue_final_message", goes_on}};
    return json::parse(output({"tokenize", "--model", breeze, "--chat", "-", "--template", "v1"}, chat.dump()))
        .get<Ids>();
  };
  const std::size_t prompt = ids(false).size();
  for (const std::string choice : {"Yes, she was", "No"}) {
    messages.push_back({{"role", "assistant"}, {"content", choice}});
    CHECK(made["outcomes"][0]["log_likelihoods"][choice == "No" ? 1 : 0] == naive_log_likelihood(ids(true), prompt));
    messages.erase(3);
  }

  const std::string answers = scratch.write("a.jsonl", json{{"prompt", "Was she happy?"}, {"answer", "No"}}.dump());
  const json answered = json::parse(
      output({"evaluate", "--model", breeze, "--task", answers, "--template", "v1", "--max-tokens", "5", "--json"}));
  const json generated = json::parse(output({"generate", "--model", breeze, "--prompt", "[INST] Was she happy? [/INST]",
                                             "--max-tokens", "5", "--temperature", "0", "--json"}));
  const auto text = generated["text"].get<std::string>();
  CHECK(answered["outcomes"][0]["given"] == text.substr(text.find_first_not_of(" \n")));
}

TEST_CASE("the task that the project holds is one that its model does better at than guessing") {
  if (mistral::test::tool_path() == nullptr) return;
  const std::string task = MISTRAL_SOURCE_DIR "/examples/evaluation/next_word.jsonl";
  const json made = json::parse(output({"evaluate", "--model", breeze, "--task", task, "--json"}));
  CHECK(made["accuracy"]["over"] == 294);
  CHECK(made["accuracy"]["value"].get<double>() - 0.25 > 5.0 * made["accuracy"]["standard_error"].get<double>());
}

TEST_CASE("evaluate takes the most probable answer, or the majority of those that are sampled") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string prompt = "And the LORD said unto";
  const Arguments generate{"generate", "--model", breeze, "--prompt", prompt, "--max-tokens", "3"};
  const auto answer_of = [&](const Arguments& more) {
    const auto text = json::parse(output(with(generate, with(more, {"--json"}))))["text"].get<std::string>();
    return text.substr(text.find_first_not_of(" \n"));
  };
  const std::string greedy = answer_of({"--temperature", "0"});
  const std::string task = scratch.write("t.jsonl", json{{"prompt", prompt}, {"answers", {"no", greedy}}}.dump() +
                                                        "\n" + json{{"prompt", prompt}, {"answer", "no"}}.dump());
  const Arguments evaluate{"evaluate", "--model", breeze, "--task", task, "--max-tokens", "3", "--json"};
  const json made = json::parse(output(evaluate));
  CHECK(made["exact_match"]["value"] == 0.5);
  CHECK(made["outcomes"][0]["answers"] == json{greedy});
  CHECK(made["outcomes"][0]["right"] == true);
  CHECK(made["outcomes"][1]["right"] == false);

  const json sampled = json::parse(output(with(evaluate, {"--samples", "5", "--temperature", "1", "--seed", "3"})));
  CHECK(sampled.contains("maj@5"));
  REQUIRE(sampled["outcomes"][0]["answers"].size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(sampled["outcomes"][0]["answers"][i] == answer_of({"--temperature", "1", "--seed", std::to_string(3 + i)}));
  }
  CHECK(sampled["outcomes"][0]["answers"] == sampled["outcomes"][1]["answers"]);
}

TEST_CASE("evaluate scores texts as perplexity does, with a stride too") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  std::string text = "And it came to pass in those days";
  for (int i = 0; i < 40; ++i) text += ", that the king of Babylon came up against Jerusalem";
  const std::string task = scratch.write("t.jsonl", json{{"text", text}}.dump());
  const std::string stories = mistral::test::stories();
  for (const Arguments& model : {Arguments{"--model", breeze}, Arguments{"--model", stories, "--stride", "100"},
                                 Arguments{"--model", stories}}) {
    if (model[1].empty()) continue;
    const json made = json::parse(output(with({"evaluate", "--task", task, "--json"}, model)));
    const json wanted = json::parse(output(with({"perplexity", "--text", text, "--json"}, model)));
    const double loss = wanted["loss"].get<double>();
    CHECK(made["loss"]["value"].get<double>() == doctest::Approx(loss).epsilon(1e-12));
    CHECK(made["loss"]["over"] == wanted["targets"]);
    CHECK(made["perplexity"]["value"].get<double>() == doctest::Approx(std::exp(loss)).epsilon(1e-12));
    CHECK(made["bits_per_byte"]["value"].get<double>() ==
          doctest::Approx(loss * wanted["targets"].get<double>() / std::log(2.0) / static_cast<double>(text.size())));
  }
}

TEST_CASE("evaluate says what pass@k is of results that were made elsewhere") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string results =
      scratch.write("r.jsonl", "{\"samples\": 5, \"passed\": 2}\n{\"samples\": 4, \"passed\": 0}\n");
  const json made = json::parse(output({"evaluate", "--results", results, "--pass-at", "1,4", "--json"}));
  CHECK(made["pass@1"]["value"].get<double>() == doctest::Approx(0.2));
  CHECK(made["pass@4"]["value"] == 0.5);
  CHECK(made["pass@4"]["over"] == 2);
  CHECK(output({"evaluate", "--results", results}).find("\npass@1 ") != std::string::npos);
}

TEST_CASE("evaluate and moderate say what they can't do") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const auto check = [&](const Arguments& arguments, int code, const std::string& message) {
    const Run run = run_tool(arguments);
    CHECK(run.exit_code == code);
    CHECK(run.out == "");
    CHECK(run.err == "mistral: error: " + message + "\n");
  };
  const std::string see = " (see: mistral evaluate --help)", see_moderate = " (see: mistral moderate --help)";
  const std::string text = scratch.write("text.jsonl", "{\"text\": \"a\"}");
  const std::string bad =
      scratch.write("bad.jsonl", "\n\n{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}");
  check({"evaluate", "--model", breeze}, 2, "--model and --task, or --results, are required" + see);
  check({"evaluate", "--task", text}, 2, "--model and --task, or --results, are required" + see);
  check({"evaluate", "--model", breeze, "--task", bad}, 1,
        "[task] " + bad + ":3: field 'answer': expected an integer from 0 to 1, got 2");
  check({"evaluate", "--model", breeze, "--task", text, "--shots", "1"}, 2,
        "--shots: expected a task of choices or answers, got one of texts" + see);
  check({"evaluate", "--model", breeze, "--task", text, "--template", "v1"}, 2,
        "--template: expected a task of choices or answers, got one of texts" + see);
  const std::string choices =
      scratch.write("c.jsonl", "{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1}");
  check({"evaluate", "--model", breeze, "--task", choices, "--template", "v3"}, 1,
        "[chat] template v3: expected a tokenizer with the control piece [INST], got one without");
  check({"evaluate", "--results", scratch.write("r.jsonl", "{\"samples\": 4, \"passed\": 0}"), "--pass-at", "1,5"}, 1,
        "[results] line 1: expected at least 5 samples, got 4");
  check({"evaluate", "--model", breeze, "--task", text, "--pass-at", "1"}, 2, "--pass-at requires --results" + see);
  check({"moderate", "--model", breeze}, 2, "--prompt or --file is required" + see_moderate);
  check({"moderate", "--model", breeze, "--prompt", "a", "--file", "b"}, 2, "--prompt excludes --file" + see_moderate);
  check({"moderate", "--model", breeze, "--answer", "a"}, 2, "--answer requires --prompt" + see_moderate);
  const std::string label = scratch.write("l.jsonl", "{\"prompt\": \"a\", \"label\": \"rude\"}");
  check({"moderate", "--model", breeze, "--file", label}, 1,
        "[moderation] " + label +
            ":1: field 'label': expected 'acceptable', 'illegal', 'hateful' or 'unqualified', got 'rude'");
}

TEST_CASE("moderate takes the letters' probabilities behind the template's ids, and counts verdicts against labels") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const json one = json::parse(output({"moderate", "--model", breeze, "--prompt", "She was happy.", "--json"}));
  const json& text = one["texts"][0];
  CHECK_FALSE(one.contains("accuracy"));
  double sum = 0.0, most = 0.0;
  std::string verdict;
  for (const auto& [name, probability] : text["probabilities"].items()) {
    sum += probability.get<double>();
    if (probability > most) {
      most = probability.get<double>();
      verdict = name;
    }
  }
  CHECK(sum == doctest::Approx(1.0).epsilon(1e-12));
  CHECK(text["verdict"] == verdict);

  // the same log-likelihoods by the logits of the conversation in which the model says each letter
  const std::string question =
      "Classify the prompt below by one of these letters:\nA. It is acceptable\nB. Illegal activities such as "
      "terrorism, child abuse or fraud\nC. Hateful, harassing or violent content such as discrimination, self-harm or "
      "bullying\nD. Unqualified advice for instance in legal, medical or financial domains\n\nPrompt: She was "
      "happy.\n\n"
      "The letter is:";
  const std::vector<std::string> names{"acceptable", "illegal", "hateful", "unqualified"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    json messages = json::array({{{"role", "user"}, {"content", question}}});
    const auto ids = [&](bool goes_on) {
      const json chat{{"messages", messages}, {"continue_final_message", goes_on}};
      return json::parse(output({"tokenize", "--model", breeze, "--chat", "-"}, chat.dump())).get<Ids>();
    };
    const std::size_t prompt = ids(false).size();
    messages.push_back({{"role", "assistant"}, {"content", std::string(1, static_cast<char>('A' + i))}});
    CHECK(text["log_likelihoods"][names[i]] == naive_log_likelihood(ids(true), prompt));
  }

  const std::string file = scratch.write("t.jsonl",
                                         "{\"prompt\": \"She was happy.\", \"label\": \"acceptable\"}\n\n{\"prompt\": "
                                         "\"a\", \"answer\": \"b\", \"label\": "
                                         "\"hateful\"}\n{\"prompt\": \"a\"}\n");
  const json all = json::parse(output({"moderate", "--model", breeze, "--file", file, "--threshold", "0", "--json"}));
  REQUIRE(all["texts"].size() == 3);
  CHECK(all["texts"][0]["probabilities"] == text["probabilities"]);
  CHECK(all["texts"][1]["line"] == 3);
  CHECK(all["counts"]["hateful"]["acceptable"] == 1);
  CHECK(all["precision acceptable"]["value"] == 0.5);
  CHECK(all["recall acceptable"]["value"] == 1.0);
  CHECK(all["precision illegal"].is_null());
  CHECK(all["accuracy"]["over"] == 2);
  const std::string table = output({"moderate", "--model", breeze, "--file", file, "--threshold", "1"});
  CHECK(table.find("\nrecall acceptable         0.000000 ") != std::string::npos);
  CHECK(table.find("1: ") == 0);
}

TEST_CASE("a task may be one array, and may have been written by a program that holds all numbers as doubles") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const auto outcome = [](const std::string& task, const std::string& in = {}) {
    const Run run = run_tool({"evaluate", "--model", breeze, "--task", task, "--json"}, {.in = in});
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    return json::parse(run.out)["outcomes"];
  };
  const std::string lines =
      "{\"prompt\": \"And God\", \"choices\": [\" said\", \" dog\"], \"answer\": 0}\n"
      "{\"prompt\": \"And the king\", \"choices\": [\" of\", \" xylophone\"], \"answer\": 1.0}\n";
  const std::string array =
      "[" + lines.substr(0, lines.find('\n')) + ",\r\n" + lines.substr(lines.find('\n') + 1) + "]";
  const json wanted = outcome(scratch.write("t.jsonl", lines));
  REQUIRE(wanted.size() == 2);
  CHECK(outcome(scratch.write("t.json", array)) == wanted);
  CHECK(outcome("-", lines) == wanted);

  const Run warned = run_tool(
      {"evaluate", "--model", breeze, "--task",
       scratch.write("m.jsonl",
                     "{\"prompt\": \"<s>[INST] a [/INST]\", \"answer\": \"b\"}\n{\"prompt\": \"a\", \"answer\": "
                     "\"b\"}\n"),
       "--max-tokens", "1"});
  CHECK(warned.exit_code == 0);
  CHECK(
      warned.err ==
      "mistral: warning: 1 of 2 questions hold <s> as text, not as control tokens; --template asks in conversations\n");
}
