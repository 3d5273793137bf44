// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/session.hpp>

#include <Eigen/QR>

#include "../support/allocations.hpp"
#include "../support/golden.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../support/size_limit.hpp"

using namespace mistral;

namespace {

using Tuned = Transformer<test::tiny, Lora<F32>>;

std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A PEFT folder that the cases below spoil: rank 2 on wq and w2 of layer 0.
struct Folder {
  test::Scratch scratch;
  nlohmann::json config = {{"peft_type", "LORA"},  {"r", 2},         {"lora_alpha", 4},
                           {"lora_dropout", 0.05}, {"bias", "none"}, {"target_modules", {"q_proj", "down_proj"}}};
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> shape;
    DType type = DType::f32;
  };
  std::vector<Tensor> tensors{{prefix + "self_attn.q_proj.lora_A.weight", {2, 64}},
                              {prefix + "self_attn.q_proj.lora_B.weight", {64, 2}},
                              {prefix + "mlp.down_proj.lora_A.weight", {2, 160}},
                              {prefix + "mlp.down_proj.lora_B.weight", {64, 2}}};
  static inline const std::string prefix = "base_model.model.model.layers.0.";

  std::string write() const {
    scratch.write("adapter_config.json", config.dump());
    std::vector<std::vector<std::byte>> data;
    std::vector<SafetensorsTensor> all;
    for (const Tensor& t : tensors) {
      data.emplace_back(static_cast<std::size_t>(*tensor_bytes(t.type, t.shape)), std::byte{0x3c});
      all.push_back({t.name, t.type, t.shape, {}});
    }
    for (std::size_t i = 0; i < all.size(); ++i) all[i].data = data[i];
    write_safetensors(scratch.path("adapter_model.safetensors"), all);
    return scratch.path("");
  }

  // The error of loading it, without the path; a model that it was thrown for stays without adapters.
  std::string error() const {
    Tuned model;
    const std::string folder = write();
    std::string text = test::error_of([&] { load_adapter(model, folder); });
    CHECK((adapter_count(model) == 0) == (text != "no error"));
    for (std::size_t at; (at = text.find(folder)) != std::string::npos;) text.erase(at, folder.size());
    return text;
  }
};

}  // namespace

TEST_CASE("an adapter that is loaded and saved is the same file of tensors, and loads again") {
  const auto golden = test::golden("lora/gqa_w8/adapter");
  if (golden.empty()) return;
  const test::Scratch scratch;
  auto model = test::random_model<Tuned>(1);
  CHECK(load_adapter(model, golden.string()) == 0);
  const std::string folder = scratch.path("saved");
  save_adapter(model, folder, {.base_model = "a \"model\""});
  const Safetensors before = Safetensors::open((golden / "adapter_model.safetensors").string());
  const Safetensors after = Safetensors::open(folder + "/adapter_model.safetensors");
  REQUIRE(before.tensors().size() == after.tensors().size());
  for (const SafetensorsTensor& tensor : before.tensors()) {
    CAPTURE(tensor.name);
    const SafetensorsTensor& other = after.get(tensor.name);
    CHECK(tensor.shape == other.shape);
    CHECK(std::equal(tensor.data.begin(), tensor.data.end(), other.data.begin(), other.data.end()));
  }
  const auto theirs = nlohmann::json::parse(file_text(golden / "adapter_config.json"));
  const auto ours = nlohmann::json::parse(file_text(folder + "/adapter_config.json"));
  for (const char* const name : {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "fan_in_fan_out",
                                 "use_rslora", "modules_to_save"}) {
    CAPTURE(name);
    CHECK(ours[name] == theirs[name]);
  }
  CHECK(ours["base_model_name_or_path"] == "a \"model\"");
  CHECK(ours["target_modules"].size() == 7);
  CHECK(load_adapter(model, folder) == 1);
  const auto& a = model.layers[2].feed_forward.w3.adapters;
  CHECK(std::memcmp(a[0].b.view().data, a[1].b.view().data, PanelsView<F32>::bytes(160, 4)) == 0);
}

TEST_CASE("what add_adapter made survives a folder: rank, alpha, dropout, rsLoRA, targets and head") {
  const test::Scratch scratch;
  using Odd = Transformer<test::odd, Lora<BF16>>;
  auto model = test::random_model<Odd>(2);
  add_adapter(model, {.rank = 3,
                      .alpha = 5.5f,
                      .dropout = 0.1f,
                      .seed = 9,
                      .rslora = true,
                      .targets = {.wq = false, .wo = false, .w1 = false}});
  save_adapter(model, scratch.path("adapter"));
  load_adapter(model, scratch.path("adapter"));
  visit_projections(model, [](const std::string& name, const auto& linear, std::size_t) {
    CAPTURE(name);
    const LoraMatrices& made = linear.adapters[0];
    const LoraMatrices& read = linear.adapters[1];
    CHECK(made.rank() == read.rank());
    if (made.rank() == 0) return;
    CHECK(made.scale == read.scale);
    CHECK(made.dropout == read.dropout);
    CHECK(std::memcmp(made.a.view().data, read.a.view().data, PanelsView<F32>::bytes(3, made.a.cols())) == 0);
  });
  CHECK(model.output.adapters[1].rank() == 3);
  CHECK(model.layers[0].attention.wq.adapters[1].rank() == 0);
}

TEST_CASE("a folder that holds no plain LoRA of the model's shapes is an error that says what is wrong") {
  CHECK(Folder{}.error() == "no error");
  const auto with = [](const char* name, const nlohmann::json& value) {
    Folder folder;
    folder.config[name] = value;
    return folder.error();
  };
  CHECK(with("r", 0) == "[adapter] adapter_config.json: field 'r': expected an integer from 1 to 512, got 0");
  CHECK(with("r", 1e9).starts_with("[adapter] adapter_config.json: field 'r': expected"));
  CHECK(with("r", 3) == "[adapter] adapter_model.safetensors: tensor '" + Folder::prefix +
                            "self_attn.q_proj.lora_A.weight': expected [3, 64], got [2, 64]");
  CHECK(with("lora_alpha", 1e300).starts_with("[adapter] adapter_config.json: field 'lora_alpha'"));
  CHECK(with("lora_dropout", 1.0).starts_with("[adapter] adapter_config.json: field 'lora_dropout'"));
  CHECK(with("use_dora", true).starts_with("[adapter] adapter_config.json: field 'use_dora'"));
  CHECK(with("bias", "all").starts_with("[adapter] adapter_config.json: field 'bias': expected \"none\""));
  CHECK(with("rank_pattern", {{"q_proj", 4}}) == "[adapter] adapter_model.safetensors: tensor '" + Folder::prefix +
                                                     "self_attn.q_proj.lora_A.weight': expected [4, 64], got [2, 64]");
  CHECK(with("rank_pattern", {{"q_proj", 0}}).starts_with("[adapter] adapter_config.json: field 'rank_pattern'"));
  CHECK(with("modules_to_save", {"lm_head"}).starts_with("[adapter] adapter_config.json: field 'modules_to_save'"));
  CHECK(with("peft_type", "IA3").starts_with("[adapter] adapter_config.json: field 'peft_type'"));
  CHECK(with("target_modules", {"q_proj", "x_proj"}) ==
        "[adapter] adapter_model.safetensors: expected tensors for the target 'x_proj', got none");
  CHECK(with("target_modules", "all-linear") == "no error");

  const auto spoilt = [](const auto& spoil) {
    Folder folder;
    spoil(folder.tensors);
    return folder.error();
  };
  CHECK(spoilt([](auto& tensors) { tensors.pop_back(); }) == "[safetensors] adapter_model.safetensors: tensor '" +
                                                                 Folder::prefix +
                                                                 "mlp.down_proj.lora_B.weight' is missing");
  CHECK(spoilt([](auto& tensors) {
          tensors.push_back({"base_model.model.model.layers.3.mlp.down_proj.lora_B.weight", {64, 2}});
        }).starts_with("[adapter] adapter_model.safetensors: tensor 'base_model.model.model.layers.3."));
  CHECK(spoilt([](auto& tensors) {
          tensors[1].shape = {64, 2, 1};
        }).find("expected [64, 2], got [64, 2, 1]") != std::string::npos);
  CHECK(spoilt([](auto& tensors) { tensors[3].type = DType::i32; }).find("expected F32, BF16 or F16, got I32") !=
        std::string::npos);
  CHECK(spoilt([](auto& tensors) { tensors[3].type = DType::bf16; }) == "no error");
  CHECK(spoilt([](auto& tensors) { tensors.clear(); }) ==
        "[adapter] adapter_model.safetensors: expected at least one matrix, got none");

  Tuned model;
  const test::Scratch empty;
  CHECK(test::error_of([&] { load_adapter(model, empty.path("")); }).find("adapter_config.json") != std::string::npos);
}

TEST_CASE("every cut of an adapter's files is an error, and nothing else") {
  const Folder folder;
  folder.write();
  for (const char* const name : {"adapter_config.json", "adapter_model.safetensors"}) {
    const std::string whole = folder.scratch.read(name);
    for (std::size_t size = 0; size < whole.size(); size += 1 + size / 20) {
      CAPTURE(size);
      folder.scratch.write(name, whole.substr(0, size));
      Tuned model;
      CHECK(test::error_of([&] { load_adapter(model, folder.scratch.path("")); }) != "no error");
      CHECK(adapter_count(model) == 0);
    }
    folder.scratch.write(name, whole);
  }
}

TEST_CASE("an adapter that can't be saved is an error, and leaves nothing half-written") {
  const test::Scratch scratch;
  auto model = test::random_model<Tuned>(3);
  CHECK(test::error_of([&] { save_adapter(model, scratch.path("a")); }) ==
        "[adapter] number: expected one of the model's 0, got 0");
  add_adapter(model, {.rank = 2});
  CHECK(test::error_of([&] { save_adapter(model, scratch.path("no/such/folder")); }).find("cannot create") !=
        std::string::npos);
  scratch.write("file", "");
  CHECK(test::error_of([&] { save_adapter(model, scratch.path("file")); }) ==
        "[adapter] " + scratch.path("file") + ": cannot create: Not a directory");
  CHECK(scratch.read("file").empty());
  {
    const test::SizeLimit disk(1000);
    CHECK(test::error_of([&] { save_adapter(model, scratch.path("a")); }) ==
          "[safetensors] " + scratch.path("a") + "/adapter_model.safetensors: cannot write: File too large");
  }
  CHECK_FALSE(std::filesystem::exists(scratch.path("a")));
}

namespace {

// An adapter of rank 2 on wq and w2 of layer 0 whose numbers are random, and what its folder says.
struct RandomFolder {
  Folder folder;
  std::vector<std::vector<float>> numbers;  // of each tensor

  std::string write() {
    const std::string path = folder.write();
    Random random(11);
    std::vector<SafetensorsTensor> all;
    numbers.clear();
    for (const auto& t : folder.tensors) {
      numbers.emplace_back(static_cast<std::size_t>(t.shape[0] * t.shape[1]));
      for (float& v : numbers.back()) v = random.uniform() - 0.5f;
      all.push_back({t.name, DType::f32, t.shape, {}});
    }
    for (std::size_t i = 0; i < all.size(); ++i) all[i].data = std::as_bytes(std::span<const float>(numbers[i]));
    write_safetensors(folder.scratch.path("adapter_model.safetensors"), all);
    return path;
  }
};

using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Dense dense(const Panels<F32>& panels) {
  Dense out(static_cast<Eigen::Index>(panels.rows()), static_cast<Eigen::Index>(panels.cols()));
  std::vector<float> row(panels.cols());
  for (std::size_t r = 0; r < panels.rows(); ++r) {
    panels.unpack_row(r, row);
    for (std::size_t c = 0; c < row.size(); ++c) {
      out(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) = static_cast<double>(row[c]);
    }
  }
  return out;
}

Dense dense(const std::vector<float>& values, Eigen::Index rows) {
  Dense out(rows, static_cast<Eigen::Index>(values.size()) / rows);
  for (std::size_t i = 0; i < values.size(); ++i) out.data()[i] = static_cast<double>(values[i]);
  return out;
}

// Our rows in Hugging Face's order.
Dense in_their_order(const Dense& ours, std::size_t head_dim) {
  if (head_dim == 0) return ours;
  Dense out(ours.rows(), ours.cols());
  for (Eigen::Index r = 0; r < ours.rows(); ++r) {
    out.row(static_cast<Eigen::Index>(detail::hugging_face_row(static_cast<std::size_t>(r), head_dim))) = ours.row(r);
  }
  return out;
}

}  // namespace

TEST_CASE("an OLoRA adapter stands beside the base less the part of it that PEFT takes out when it loads one") {
  RandomFolder made;
  made.folder.config["init_lora_weights"] = "olora";
  auto model = test::random_model<Tuned>(21);
  load_adapter(model, made.write());
  const auto check = [&](const auto& linear, std::size_t tensor, std::size_t head_dim) {
    const LoraMatrices& m = linear.adapters[0];
    REQUIRE(m.rank() == 4);
    CHECK(m.scale == 2.0f);
    CHECK(detail::lora_scale(m.alpha, m.rank(), m.rslora) == m.scale);
    const Dense found = in_their_order(2.0 * dense(m.b) * dense(m.a), head_dim);
    // what PEFT does: W -= scale Q_r R_r of W = Q R, then scale B A beside it
    const Dense w = in_their_order(dense(linear.weight), head_dim);
    const Dense q = Eigen::HouseholderQR<Dense>(w).householderQ() * Dense::Identity(w.rows(), 2);
    const Dense a = dense(made.numbers[tensor], 2);
    const Dense b = dense(made.numbers[tensor + 1], w.rows());
    const Dense expected = 2.0 * (b * a - q * (q.transpose() * w));
    CHECK((found - expected).cwiseAbs().maxCoeff() < 1e-5);
    CHECK(expected.cwiseAbs().maxCoeff() > 0.1);
  };
  check(model.layers[0].attention.wq, 0, 16);
  check(model.layers[0].feed_forward.w2, 2, 0);

  // saved, it is a plain adapter that stands beside the base as it is
  const test::Scratch scratch;
  save_adapter(model, scratch.path("plain"));
  CHECK(nlohmann::json::parse(scratch.read("plain/adapter_config.json"))["init_lora_weights"] == true);
  load_adapter(model, scratch.path("plain"));
  const auto& adapters = model.layers[0].attention.wq.adapters;
  CHECK(adapters[1].scale == adapters[0].scale);
  CHECK((dense(adapters[1].b) - dense(adapters[0].b)).cwiseAbs().maxCoeff() == 0.0);

  made.folder.config["r"] = 300;
  made.folder.write();
  CHECK(test::error_of([&] { load_adapter(model, made.folder.scratch.path("")); }) != "no error");
}

TEST_CASE("a matrix of zeros has a first part too, and it is nothing") {
  LoraMatrices m{Panels<F32>(1, 3), Panels<F32>(2, 1), 1.0f, 1.0f};
  detail::pack_all(m.a, std::vector<float>(3));
  detail::pack_all(m.b, std::vector<float>(2));
  const LoraMatrices out = detail::take_out_olora(
      m, "w", [](std::size_t, std::span<float> row) { std::fill(row.begin(), row.end(), 0.0f); });
  CHECK((dense(out.b) * dense(out.a)).cwiseAbs().maxCoeff() == 0.0);
}

TEST_CASE("ranks and alphas by pattern are those of their matrices, and survive a folder") {
  RandomFolder made;
  made.folder.config["rank_pattern"] = {{"model.layers.0.mlp.down_proj", 3}};
  made.folder.config["alpha_pattern"] = {{"^base_model\\.down_proj$", 1}, {"down_proj", 9}};
  made.folder.tensors[2].shape = {3, 160};
  made.folder.tensors[3].shape = {64, 3};
  auto model = test::random_model<Tuned>(3);
  load_adapter(model, made.write());
  const auto check = [&](std::size_t adapter) {
    const LoraMatrices& wq = model.layers[0].attention.wq.adapters[adapter];
    const LoraMatrices& w2 = model.layers[0].feed_forward.w2.adapters[adapter];
    CHECK(wq.rank() == 2);
    CHECK(wq.scale == 2.0f);
    CHECK(w2.rank() == 3);
    CHECK(w2.scale == 3.0f);
  };
  check(0);
  const test::Scratch scratch;
  save_adapter(model, scratch.path("saved"));
  load_adapter(model, scratch.path("saved"));
  check(1);
  made.folder.config["rank_pattern"] = {{".*down_proj", 3}};
  made.write();
  CHECK(test::error_of([&] { load_adapter(model, made.folder.scratch.path("")); }).find("regular expressions") !=
        std::string::npos);
}

TEST_CASE("tensors are found by the names that trainers write by themselves") {
  RandomFolder plain;
  auto model = test::random_model<Tuned>(3);
  load_adapter(model, plain.write());
  const Dense expected = dense(model.layers[0].attention.wq.adapters[0].b);
  const auto with = [&](const auto& rename) {
    RandomFolder made;
    for (auto& tensor : made.folder.tensors) tensor.name = rename(tensor.name);
    load_adapter(model, made.write());
    CHECK((dense(model.layers[0].attention.wq.adapters[1].b) - expected).cwiseAbs().maxCoeff() == 0.0);
    remove_adapter(model, 1);
  };
  with([](std::string name) { return name.replace(name.find(".weight"), 7, ".default.weight"); });
  with([](std::string name) { return name.substr(std::string("base_model.model.").size()); });
  RandomFolder twice;
  twice.folder.tensors.push_back(twice.folder.tensors[0]);
  twice.folder.tensors.back().name.erase(0, std::string("base_model.model.").size());
  CHECK(test::error_of([&] { load_adapter(model, twice.write()); }).find("expected each matrix once") !=
        std::string::npos);
}

TEST_CASE("tensors that the config leaves out are refused, for PEFT would not use them") {
  const auto error = [](const char* field, const nlohmann::json& value) {
    Folder folder;
    folder.config[field] = value;
    return folder.error();
  };
  CHECK(error("target_modules", {"q_proj"}) ==
        "[adapter] adapter_model.safetensors: tensors of 'model.layers.0.mlp.down_proj': expected a matrix among "
        "target_modules, got one that isn't");
  CHECK(error("target_modules", {"model.layers.0.self_attn.q_proj", "down_proj"}) == "no error");
  CHECK(error("layers_to_transform", {0, 1}) == "no error");
  CHECK(error("layers_to_transform", 0) == "no error");
  CHECK(error("layers_to_transform", {1, 10}).find("leave in, got one that they leave out") != std::string::npos);
  CHECK(error("exclude_modules", {"k_proj"}) == "no error");
  CHECK(error("exclude_modules", {"self_attn.q_proj"}).find("leave in, got one that they leave out") !=
        std::string::npos);
}

TEST_CASE("an adapter's folder tells whether a model is the base that it was trained beside") {
  const test::Scratch scratch;
  auto model = test::random_model<Tuned>(1);
  add_adapter(model, {.rank = 2});
  save_adapter(model, scratch.path("a"), {.base_model = "here"});
  CHECK(adapter_base(scratch.path("a")).name == "here");
  CHECK(adapter_base(scratch.path("a")).weights.starts_with("F32 "));
  CHECK(trained_beside(model, scratch.path("a")) == true);
  CHECK(trained_beside(test::random_model<Tuned>(1), scratch.path("a")) == true);
  CHECK(trained_beside(test::random_model<Tuned>(2), scratch.path("a")) == false);
  // in another format the norms alone can be told, which are the same floats
  using Narrow = Transformer<test::tiny, Lora<BF16>>;
  auto narrow = test::random_model<Narrow>(1);
  const auto copy = [](const auto& from, auto& to) {
    std::copy(from.weight.span().begin(), from.weight.span().end(), to.weight.span().begin());
  };
  copy(model.norm, narrow.norm);
  for (std::size_t i = 0; i < narrow.layers.size(); ++i) {
    copy(model.layers[i].attention_norm, narrow.layers[i].attention_norm);
    copy(model.layers[i].ffn_norm, narrow.layers[i].ffn_norm);
  }
  CHECK(trained_beside(narrow, scratch.path("a")) == true);
  // a base that something was merged into has other rows
  for (std::byte& byte : model.layers[1].attention.wv.weight.own_bytes()) byte = std::byte{0};
  CHECK(trained_beside(model, scratch.path("a")) == false);
  Folder of_peft;
  CHECK(trained_beside(model, of_peft.write()) == std::nullopt);
}

TEST_CASE("an adapter that there is no memory for leaves the model as it was, in every matrix") {
  const Folder folder;
  const std::string path = folder.write();
  const std::vector<TokenId> text{1, 2, 3};
  const auto logits = [&](const Tuned& model) {
    Session<Tuned> session{model};
    const auto out = session.prefill(text);
    return std::vector<float>(out.begin(), out.end());
  };
  const auto before = logits(test::random_model<Tuned>(1));
  const std::size_t allocations = test::fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    auto model = test::random_model<Tuned>(1);
    const test::Failure failure = test::fails_at(n, [&] { load_adapter(model, path); });
    visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t) {
      CAPTURE(name);
      CHECK(linear.adapters.size() == (failure.thrown ? 0 : 1));
    });
    CHECK(test::same_bits(logits(model), before) == failure.thrown);
    return failure;
  });
  CHECK((allocations > 50 || !test::counts_allocations));
}
