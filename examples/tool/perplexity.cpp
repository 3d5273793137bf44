// SPDX-License-Identifier: Apache-2.0
// mistral perplexity: how well a checkpoint predicts a text, and what each weight format loses.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/evaluate/perplexity.hpp>
#include <mistral/generate/finite_logits.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

// What a model makes of the text, and how far that is from what the reference makes of it.
struct Row {
  const ModelInfo* info;
  TextScore score;
  double divergence = 0.0;       // the sum over all targets
  std::size_t same_choices = 0;  // targets for which both hold the same token for the most probable

  double mean_divergence() const { return divergence / static_cast<double>(score.targets); }
  double same_choice() const { return static_cast<double>(same_choices) / static_cast<double>(score.targets); }
};

std::size_t choice(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Both models go through the text side by side, so that neither's logits are kept. Without a reference, a model alone.
Row score(const ModelInfo& info, AnySession& session, AnySession* reference, std::span<const TokenId> tokens,
          std::size_t stride) {
  Row row{&info, {}};
  Progress progress("scoring in " + std::string(info.weights), tokens.size());
  std::size_t fresh = 0;  // where the sequence began
  for (const TextPiece& piece : text_pieces(tokens.size(), info.config, stride)) {
    if (piece.fresh) session.clear();
    if (piece.fresh) fresh = piece.begin;
    if (piece.fresh && reference != nullptr) reference->clear();
    const auto part = tokens.subspan(piece.begin, piece.count);
    const Rows<const float> logits = session.forward(part);
    check_finite(session, logits, tokens.subspan(fresh, piece.begin + piece.count - fresh));
    std::optional<Rows<const float>> wanted;
    if (reference != nullptr) wanted = reference->forward(part);
    for (std::size_t i = piece.context; i < piece.count; ++i) {
      row.score.add(logits.row(i), tokens[piece.begin + i + 1]);
      if (!wanted) continue;
      row.divergence += kl_divergence(wanted->row(i), logits.row(i));
      if (choice(wanted->row(i)) == choice(logits.row(i))) ++row.same_choices;
    }
    progress.at(piece.begin + piece.count);
  }
  return row;
}

std::string upper(std::string text) {
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

// The formats that `list` names: all of them for `all`, or for the reference alone. The reference comes first.
std::vector<std::string> compared_formats(const std::string& list) {
  std::vector<std::string> out{"F32"};
  const auto add = [&](std::string_view format) {
    if (std::find(out.begin(), out.end(), format) == out.end()) out.emplace_back(format);
  };
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string name = list.substr(begin, end - begin);
    begin = end + 1;
    if (upper(name) == "ALL" || upper(list) == "F32") {
      for_each_format([&]<class F>(std::type_identity<F>) { add(F::name); });
    } else {
      std::string known;
      if (!with_format(name, [&]<class F>(std::type_identity<F>) { known = F::name; })) {
        std::vector<std::string> names{"all"};
        for_each_format([&]<class F>(std::type_identity<F>) { names.emplace_back(F::name); });
        throw UsageError("--against: expected all, or some of " + std::string(format_names) + ", got '" +
                         printable(name, 40) + "'" + did_you_mean(upper(name), names));
      }
      add(known);
    }
  }
  return out;
}

nlohmann::ordered_json json_of(const std::vector<Row>& rows, std::size_t tokens, bool against) {
  const auto fields = [](const Row& row) {
    nlohmann::ordered_json out = {{"weights", row.info->weights},
                                  {"kv", row.info->kv},
                                  {"weight_bytes", row.info->weight_bytes},
                                  {"loss", row.score.loss()},
                                  {"perplexity", row.score.perplexity()}};
    return out;
  };
  nlohmann::ordered_json out = {{"tokens", tokens}, {"targets", rows.front().score.targets}};
  out.update(fields(rows.front()));
  if (!against) return out;
  for (const Row& row : rows) {
    auto& format = out["formats"].emplace_back(fields(row));
    format["mean_kl_divergence"] = row.mean_divergence();
    format["same_choice"] = row.same_choice();
  }
  return out;
}

std::string text_of(const std::vector<Row>& rows, std::size_t tokens, bool against) {
  const Row& first = rows.front();
  char line[256];
  std::snprintf(line, sizeof line, "%zu tokens, %zu of them predicted in %s: loss %.6f nats a token, perplexity %.6f\n",
                tokens, first.score.targets, describe(*first.info).c_str(), first.score.loss(),
                first.score.perplexity());
  std::string text = line;
  if (!against) return text;
  text += "weights  cache       memory   perplexity   of F32's   mean KL divergence   same choice\n";
  for (const Row& row : rows) {
    std::snprintf(
        line, sizeof line, "%-8.*s %-6.*s %11s %12.5f %9.3f%% %20.3e %12.2f%%\n",
        static_cast<int>(row.info->weights.size()), row.info->weights.data(), static_cast<int>(row.info->kv.size()),
        row.info->kv.data(), bytes_text(row.info->weight_bytes).c_str(), row.score.perplexity(),
        100.0 * row.score.perplexity() / first.score.perplexity(), row.mean_divergence(), 100.0 * row.same_choice());
    text += line;
  }
  return text;
}

}  // namespace

void run_perplexity(const PerplexityArguments& arguments) {
  const bool against = !arguments.against.empty();
  std::vector<const AnyModelType*> compared;
  std::vector<ModelArguments> loaded;  // as each of them is asked for
  if (against) {
    for (const std::string& format : compared_formats(arguments.against)) {
      ModelArguments model = arguments.model;
      model.weights = format;
      if (model.kv.empty()) model.kv = "float";
      compared.push_back(&model_type(model));
      loaded.push_back(std::move(model));
    }
  } else {
    compared.push_back(&model_type(arguments.model));
    loaded.push_back(arguments.model);
  }
  const ModelInfo& info = compared.front()->info();
  const Tokenizer tokenizer = load_tokenizer(arguments.model, info);
  const std::vector<TokenId> tokens =
      prompt_ids(tokenizer, text_of(arguments.text, "text"), {arguments.no_bos, arguments.parse_special, true});
  (void)text_pieces(tokens.size(), info.config, arguments.stride);  // refused before the weights are loaded

  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> reference = load_model(loaded.front(), *compared.front());
  const std::unique_ptr<AnySession> reference_session = reference->session();
  std::vector<Row> rows{score(info, *reference_session, nullptr, tokens, arguments.stride)};
  rows.front().same_choices = rows.front().score.targets;
  for (std::size_t i = 1; i < compared.size(); ++i) {
    const std::unique_ptr<AnyModel> model = load_model(loaded[i], *compared[i]);
    rows.push_back(score(compared[i]->info(), *model->session(), reference_session.get(), tokens, arguments.stride));
  }
  print(arguments.json ? json_text(json_of(rows, tokens.size(), against), 2) : text_of(rows, tokens.size(), against));
}

}  // namespace mistral::tool
