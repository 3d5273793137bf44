// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/core/token.hpp>
#include <mistral/io/npy.hpp>

#include "../support/golden.hpp"
#include "tool.hpp"

using mistral::TokenId;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using nlohmann::json;
using Ids = std::vector<TokenId>;

namespace {

const std::string breeze = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

using Arguments = std::vector<std::string>;

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Run chat(const std::string& in, const Arguments& more = {}, const Arguments& model = {"--model", breeze}) {
  return run_tool(with(with({"chat", "--temperature", "0", "--max-tokens", "20"}, model), more), {.in = in});
}

std::vector<json> answers(const std::string& in, const Arguments& more = {},
                          const Arguments& model = {"--model", breeze}) {
  const Run run = chat(in, with(more, {"--json"}), model);
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  std::vector<json> all;
  std::istringstream lines(run.out);
  for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
  return all;
}

Ids template_ids(const json& messages, const std::string& model = breeze) {
  const Run run =
      run_tool({"tokenize", "--model", model, "--chat", "-"}, {.in = json{{"messages", messages}}.dump() + "\n"});
  REQUIRE(run.exit_code == 0);
  return json::parse(run.out).get<Ids>();
}

// Whether an answer's prompt is what the template's ids go on with behind those that the session held.
bool continues(const json& answer, const json& messages) {
  const Ids ids = template_ids(messages);
  const auto seen = answer["seen"].get<std::size_t>();
  return seen < ids.size() &&
         answer["prompt_tokens"] == Ids(ids.begin() + static_cast<std::ptrdiff_t>(seen), ids.end());
}

json message(const std::string& role, const std::string& content) { return {{"role", role}, {"content", content}}; }

void append(Ids& ids, const json& more) {
  for (const json& id : more) ids.push_back(id.get<TokenId>());
}

// The most probable token at each position of these ids.
Ids greedy_choices(const Ids& ids, const Arguments& model) {
  const Scratch scratch;
  std::string list;
  for (const TokenId id : ids) list.append(list.empty() ? "" : ",").append(std::to_string(id));
  const Run run = run_tool(with({"logits", "--tokens", list, "--out", scratch.path("l.npy")}, model));
  REQUIRE(run.exit_code == 0);
  const mistral::NpyMatrix logits = mistral::read_npy(scratch.path("l.npy"));
  Ids best;
  for (std::size_t i = 0; i < logits.rows; ++i) {
    best.push_back(mistral::test::argmax(std::span(logits.values).subspan(i * logits.cols, logits.cols)));
  }
  return best;
}

}  // namespace

TEST_CASE("chat through a pipe takes the template's ids, and each answer is the greedy one of them") {
  if (mistral::test::tool_path() == nullptr) return;
  std::vector<Arguments> models{{"--model", breeze}};
  const std::string stories = mistral::test::stories();
  if (!stories.empty()) {
    models.push_back({"--model", stories});
    models.push_back({"--model", stories, "--window", "24"});
  }
  const std::vector<std::string> questions{"Once upon a time", "Lily was happy.", "Tell me more.", "Where?"};
  std::string in;
  for (const std::string& question : questions) in += question + "\n";
  for (const Arguments& model : models) {
    CAPTURE(model.back());
    const std::vector<json> made = answers(in, {"--system", "Be brief."}, model);
    REQUIRE(made.size() == questions.size());

    json messages = json::array({message("system", "Be brief.")});
    Ids held;  // by the session
    for (std::size_t i = 0; i < made.size(); ++i) {
      CAPTURE(i);
      messages.push_back(message("user", questions[i]));
      held.resize(made[i]["seen"].get<std::size_t>());
      append(held, made[i]["prompt_tokens"]);
      CHECK(held == template_ids(messages, model[1]));
      const std::size_t prompt = held.size();
      append(held, made[i]["tokens"]);
      CHECK(made[i]["stop_reason"] == "max_tokens");
      CHECK(made[i]["position"] == held.size() - 1);  // the last one only was chosen
      const Ids choices = greedy_choices(held, model);
      CHECK(Ids(held.begin() + static_cast<std::ptrdiff_t>(prompt), held.end()) ==
            Ids(choices.begin() + static_cast<std::ptrdiff_t>(prompt) - 1, choices.end() - 1));
      messages.push_back(message("assistant", made[i]["text"].get<std::string>()));
    }

    // without --json: the answers, a line each, as they came
    const Run run = chat(in, {"--system", "Be brief."}, model);
    std::string text;
    for (const json& answer : made) text += answer["text"].get<std::string>() + "\n";
    CHECK(run.out == text);
    CHECK(run.err == "");
  }
}

TEST_CASE("chat's first answer is what generate makes of the template's text") {
  if (mistral::test::tool_path() == nullptr) return;
  const json made = answers("She was").at(0);
  const Run run = run_tool({"generate", "--model", breeze, "--prompt", "[INST] She was [/INST]", "--temperature", "0",
                            "--max-tokens", "20", "--json"});
  const json wanted = json::parse(run.out);
  CHECK(made["prompt_tokens"] == wanted["prompt_tokens"]);
  CHECK(made["tokens"] == wanted["tokens"]);
  const auto text = made["text"].get<std::string>();
  CHECK((wanted["text"] == text || wanted["text"] == " " + text));  // an answer's first space is its tokenizer's
}

TEST_CASE("a conversation is saved as tokenize reads it, loaded, reset, and given another system prompt") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string file = scratch.path("a b.json");
  const std::vector<json> made = answers("/system Be kind.\n\nHe \xff said \"so\" \\\nand\n/save " + file +
                                         "\n/reset\nHe said\n/load " + file + "\nMore\n/system\nMore\n/exit\nMore\n");
  REQUIRE(made.size() == 4);
  const json saved = json::parse(scratch.read("a b.json"));
  const json messages =
      json::array({message("system", "Be kind."), message("user", "He \xef\xbf\xbd said \"so\" \nand"),
                   message("assistant", made[0]["text"])});
  CHECK(saved == json{{"messages", messages}});
  CHECK(scratch.read("a b.json").find('\n') == scratch.read("a b.json").size() - 1);

  CHECK(continues(made[1], {message("system", "Be kind."), message("user", "He said")}));
  json asked = messages;
  asked.push_back(message("user", "More"));
  CHECK(continues(made[2], asked));
  asked.push_back(message("assistant", made[2]["text"]));
  asked.push_back(message("user", "More"));
  asked.erase(0);
  CHECK(continues(made[3], asked));

  const std::vector<json> loaded = answers("More", {"--load", file});
  REQUIRE(loaded.size() == 1);
  CHECK(loaded[0]["tokens"] == made[2]["tokens"]);
}

TEST_CASE("the paper's guardrail stands in front of whatever else the system says, and stays there") {
  if (mistral::test::tool_path() == nullptr) return;
  const std::string guardrail =
      "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, "
      "unethical, prejudiced, or negative content. Ensure replies promote fairness and positivity.";
  const Scratch scratch;
  const std::string file = scratch.write(
      "c.json", json{{"messages",
                      json::array({message("system", "Be wild."), message("user", "Hi"), message("assistant", "Ho")})}}
                    .dump());
  const auto made = answers("Hi\n/reset\n/system Be brief.\nHi\n/load " + file + "\nHi\n", {"--guardrail"});
  REQUIRE(made.size() == 3);
  CHECK(continues(made[0], {message("system", guardrail), message("user", "Hi")}));
  CHECK(continues(made[1], {message("system", guardrail + "\n\nBe brief."), message("user", "Hi")}));
  CHECK(continues(made[2], {message("system", guardrail + "\n\nBe wild."), message("user", "Hi"),
                            message("assistant", "Ho"), message("user", "Hi")}));
}

TEST_CASE("a seed gives the same conversation, whose answers differ from each other") {
  if (mistral::test::tool_path() == nullptr) return;
  const std::string in = "She was\n/reset\nShe was\n";
  const std::vector<std::string> arguments{"chat", "--model", breeze, "--max-tokens", "20", "--temperature",
                                           "1",    "--seed",  "5"};
  const Run one = run_tool(arguments, {.in = in}), two = run_tool(arguments, {.in = in});
  CHECK(one.exit_code == 0);
  CHECK(one.out == two.out);
  const std::size_t middle = one.out.find('\n');
  CHECK(one.out.substr(0, middle + 1) != one.out.substr(middle + 1));
}

TEST_CASE("chat says what it can't do, by one line, and what is said in vain is an error where nobody is there") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const auto check = [&](const std::string& in, const std::vector<std::string>& more, int code,
                         const std::string& message) {
    CAPTURE(in);
    const Run run = chat(in, more);
    CHECK(run.exit_code == code);
    CHECK(run.out == "");
    CHECK(run.err == "mistral: error: " + message + "\n");
  };
  check("/dance\n", {}, 1, "[chat] the command: expected /reset, /system, /save, /load, /help or /exit, got /dance");
  check("/save\n", {}, 1, "[chat] /save: expected a file, got none");
  check("/save -\n", {}, 1,
        "[chat] /save: expected a file, for messages come and go by standard input and output, got -");
  check("/load " + scratch.path("none") + "\n", {}, 1,
        "[chat] " + scratch.path("none") + ": cannot open: No such file or directory");
  check("", {"--load", scratch.write("bad", "{}")}, 1,
        "[chat] " + scratch.path("bad") + ": field 'messages' is missing");
  check("", {"--load", scratch.write("more", R"({"messages": [], "continue_final_message": true})")}, 1,
        "[chat] " + scratch.path("more") + ": field 'continue_final_message': expected false, got true");
  check("/save " + scratch.path("no/such") + "\n", {}, 1,
        "[chat] " + scratch.path("no/such") + ": cannot write: No such file or directory");
  check("", {"--template", "v3"}, 1,
        "[chat] template v3: expected a tokenizer with the control piece [INST], got one without");
  check("", {"--template", "v2"}, 2,
        "--template: v2 not in {v1,v3,own}, and no file of that name (see: mistral chat --help)");
  check("", {"--top-p", "2"}, 2, "[sampling] top_p: expected a number from 0 to 1, got 2 (see: mistral chat --help)");
  CHECK(chat("", {}).exit_code == 0);
  const Run run = chat("/help\n//save me\n");
  CHECK(run.exit_code == 0);
  CHECK(run.err.find("/save FILE ") != std::string::npos);
  CHECK(run.out.size() > 1);
}

TEST_CASE("on a terminal Ctrl-C ends an answer, and at the prompt the program; what is said in vain ends neither") {
  if (mistral::test::tool_path() == nullptr) return;
  int terminal = -1;
  const ::pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(child >= 0);
  if (child == 0) {
    ::execl(mistral::test::tool_path(), "mistral", "chat", "--model", breeze.c_str(), "--temperature", "0",
            "--max-tokens", "1000000000", static_cast<const char*>(nullptr));
    ::_exit(127);
  }
  std::string shown;
  const auto read_until = [&](const std::string& text, std::size_t bytes) {
    while (shown.find(text) == std::string::npos || shown.size() < bytes) {
      ::pollfd ready{.fd = terminal, .events = POLLIN, .revents = 0};
      char block[4096];
      const auto count = ::poll(&ready, 1, 30'000) == 1 ? ::read(terminal, block, sizeof block) : -1;
      if (count <= 0) return false;
      shown.append(block, static_cast<std::size_t>(count));
    }
    shown.erase(0, std::max(bytes, shown.find(text) + text.size()));
    return true;
  };
  const auto type = [&](std::string_view text) {
    return ::write(terminal, text.data(), text.size()) == static_cast<::ssize_t>(text.size());
  };
  CHECK(read_until("> ", 0));
  CHECK(type("/dance\n"));
  CHECK(read_until("mistral: error: [chat] the command: expected /reset, ", 0));
  CHECK(read_until("> ", 0));
  CHECK(type("She was\n"));
  CHECK(read_until("She was", 1000));  // in the middle of an answer that has no end
  CHECK(type("\x03"));
  CHECK(read_until("(ended by: cancelled)", 0));
  CHECK(read_until("> ", 0));
  CHECK(type("\x03"));
  Run run;
  mistral::test::wait_for(child, run);
  CHECK(run.signal == SIGINT);
  ::close(terminal);
}

TEST_CASE("without a window a conversation ends with the context, and says so") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  std::string in;
  for (int i = 0; i < 40; ++i) in += "Tell me a story.\n";
  const Run run = run_tool({"chat", "--model", model, "--temperature", "0", "--max-tokens", "40"}, {.in = in});
  CHECK(run.exit_code == 1);
  CHECK(run.err.starts_with(
      "mistral: error: [chat] begin anew by /reset, or start with --context-shift, which leaves out the oldest turns: "
      "expected a conversation of at most the 512 tokens of the context of a model without a window, got "));
  CHECK(run.err.find('\n') == run.err.size() - 1);
  const Run windowed = run_tool(
      {"chat", "--model", model, "--window", "24", "--temperature", "0", "--max-tokens", "40", "--json"}, {.in = in});
  CHECK(windowed.exit_code == 0);
  CHECK(windowed.err == "");
}

TEST_CASE("with --context-shift a conversation goes on past the context, says so, and is saved whole") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const Scratch scratch;
  std::string in;
  for (int i = 0; i < 30; ++i) in += "Tell me a story.\n";
  const Run run = run_tool({"chat", "--model", model, "--temperature", "0", "--max-tokens", "40", "--json", "--system",
                            "Be brief.", "--context-shift"},
                           {.in = in + "/save " + scratch.path("all.json") + "\n"});
  CHECK(run.exit_code == 0);
  std::size_t shifts = 0, lines = 0;
  json messages = json::array({message("system", "Be brief.")});
  json shown = messages;  // what the model is still shown
  std::istringstream answers_made(run.out);
  for (std::string line; std::getline(answers_made, line); ++lines) {
    const json answer = json::parse(line);
    const auto left_out = answer["left_out_turns"].get<std::size_t>();
    shown.erase(shown.begin() + 1, shown.begin() + 1 + static_cast<std::ptrdiff_t>(2 * left_out));
    if (left_out > 0) ++shifts;
    shown.push_back(message("user", "Tell me a story."));
    messages.push_back(shown.back());
    const Ids ids = template_ids(shown, model);
    const auto seen = answer["seen"].get<std::size_t>();
    REQUIRE(seen < ids.size());
    CHECK(answer["prompt_tokens"] == Ids(ids.begin() + static_cast<std::ptrdiff_t>(seen), ids.end()));
    CHECK(ids.size() + 40 <= 512);
    shown.push_back(message("assistant", answer["text"].get<std::string>()));
    messages.push_back(shown.back());
  }
  CHECK(lines == 30);
  CHECK(shifts >= 2);
  CHECK(json::parse(scratch.read("all.json")) == json{{"messages", messages}});
  std::size_t notes = 0;
  std::istringstream said(run.err);
  for (std::string line; std::getline(said, line); ++notes) {
    CHECK(line.starts_with("mistral: the context of 512 tokens is full: the oldest "));
    CHECK(line.ends_with(" left out from here on, the system prompt stays"));
  }
  CHECK(notes == shifts);

  // a question that is too long by itself is refused in either way, and says that no reset would help
  std::string words;
  for (int i = 0; i < 600; ++i) words += "cat ";
  for (const Arguments& more : {Arguments{}, Arguments{"--context-shift"}}) {
    const Run refused = run_tool(with({"chat", "--model", model}, more), {.in = words + "\n"});
    CHECK(refused.exit_code == 1);
    CHECK(refused.err.starts_with(
        "mistral: error: [chat] the question: expected at most the 512 tokens of the context, "));
  }
  // where there is a window, there is nothing to shift
  const std::vector<json> windowed = answers("She was\n", {"--context-shift"});
  CHECK(windowed.at(0)["left_out_turns"] == 0);
}

TEST_CASE("lines that end in CR LF, behind a byte order mark, are those that end in LF") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const auto talk = [&](const std::string& end, const std::string& begin, const std::string& file) {
    std::string in = begin;
    for (const std::string& line :
         {std::string("/system Be kind."), std::string("She \\"), std::string("was"), "/save " + scratch.path(file),
          std::string("/reset"), std::string("a\rb"), std::string("/exit")}) {
      in += line + end;
    }
    return answers(in);
  };
  const std::vector<json> lf = talk("\n", "", "lf.json"), crlf = talk("\r\n", "\xef\xbb\xbf", "crlf.json");
  REQUIRE(lf.size() == 2);
  REQUIRE(crlf.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(crlf[i]["prompt_tokens"] == lf[i]["prompt_tokens"]);
    CHECK(crlf[i]["tokens"] == lf[i]["tokens"]);
  }
  CHECK(scratch.read("crlf.json") == scratch.read("lf.json"));
  CHECK(json::parse(scratch.read("lf.json"))["messages"][1]["content"] == "She \nwas");
}

TEST_CASE("on a terminal a full context ends no chat: /reset begins anew") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  int terminal = -1;
  const ::pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(child >= 0);
  if (child == 0) {
    ::execl(mistral::test::tool_path(), "mistral", "chat", "--model", model.c_str(), "--temperature", "0",
            "--max-tokens", "1000", static_cast<const char*>(nullptr));
    ::_exit(127);
  }
  std::string shown;
  const auto read_until = [&](const std::string& text) {
    while (shown.find(text) == std::string::npos) {
      ::pollfd ready{.fd = terminal, .events = POLLIN, .revents = 0};
      char block[4096];
      const auto count = ::poll(&ready, 1, 30'000) == 1 ? ::read(terminal, block, sizeof block) : -1;
      if (count <= 0) return false;
      shown.append(block, static_cast<std::size_t>(count));
    }
    shown.erase(0, shown.find(text) + text.size());
    return true;
  };
  const auto type = [&](std::string_view text) {
    return ::write(terminal, text.data(), text.size()) == static_cast<::ssize_t>(text.size());
  };
  CHECK(read_until("> "));
  CHECK(type("Tell me a story.\n"));
  CHECK(read_until("(ended by: context; /reset begins anew, --context-shift leaves out the oldest turns)"));
  CHECK(type("More.\n"));
  CHECK(read_until("mistral: error: [chat] begin anew by /reset, or start with --context-shift"));
  CHECK(type("/reset\nMore.\n"));
  CHECK(read_until("(ended by: context"));
  CHECK(type("/exit\n"));
  Run run;
  mistral::test::wait_for(child, run);
  CHECK(run.exit_code == 0);
  ::close(terminal);
}
