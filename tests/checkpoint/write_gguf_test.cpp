// SPDX-License-Identifier: Apache-2.0
#include <mistral/checkpoint/write_gguf.hpp>

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/model.hpp>

#include "../support/golden.hpp"
#include "../support/golden_configs.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::error_of;
using test::Scratch;

namespace {

using test::full_w64;
using test::kmix;
using test::long_w16;
using test::nowin_mqa;
using test::odd_w5;
using test::stories_260k;
using test::w1;

template <class Model>
std::vector<float> logits_of(const Model& model) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < 20; ++i) tokens.push_back(static_cast<TokenId>(i * 7 % Model::config.vocab_size));
  Session<Model, float> session{model};
  const Rows<const float> all = session.forward(tokens);
  return {all.data(), all.data() + all.rows() * all.cols()};
}

struct Matrix {
  std::vector<float> weights;
  std::size_t cols = 0;
};

// A model's matrices by name, as the floats that they stand for.
struct Matrices {
  std::map<std::string, Matrix> all;

  template <WeightFormat F>
  void operator()(const std::string& name, const Panels<F>& matrix, std::size_t) {
    Matrix& out = all[name];
    out.cols = matrix.cols();
    out.weights.resize(matrix.rows() * matrix.cols());
    for (std::size_t r = 0; r < matrix.rows(); ++r) {
      matrix.unpack_row(r, std::span(out.weights).subspan(r * matrix.cols(), matrix.cols()));
    }
  }
  void operator()(const std::string&, const Buffer<float>&) {}
};

template <class Model>
std::map<std::string, Matrix> matrices_of(const Model& model) {
  Matrices visitor;
  visit_weights(model, visitor);
  return std::move(visitor.all);
}

// What is written in the format F and read again is the model that loading the source in F makes, bit by bit: in the
// matrices whose rows are whole blocks, the others being rounded to halves in between; and so in all logits, where
// there are no others.
template <ModelConfig C, WeightFormat F>
void check_written(const std::string& source) {
  CAPTURE(source);
  CAPTURE(std::string(F::name));
  const Scratch scratch;
  const std::string path = scratch.path("m.gguf");
  const GgufWritten written = write_gguf<F>(Checkpoint::open(source), path, "a name");
  const Gguf file = Gguf::open(path);
  std::uint64_t bytes = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    bytes += tensor.data.size();
    if (tensor.shape.size() == 1) CHECK(tensor.type == GgmlType::f32);
    if (tensor.shape.size() == 2 && tensor.shape[1] % info(detail::ggml_type_of<F>()).block == 0) {
      CHECK(tensor.type == detail::ggml_type_of<F>());
    }
  }
  CHECK(bytes == written.bytes);
  for (const std::string& name : written.in_f16) CHECK(file.get(name).type == GgmlType::f16);

  using Model = Transformer<C, F>;
  const Model expected = load<Model>(source);
  const Model found = load<Model>(path);
  const auto a = matrices_of(expected);
  const auto b = matrices_of(found);
  for (const auto& entry : a) {  // not taken apart: clang 14 lets no lambda, and so no CAPTURE, see the pieces
    const auto& name = entry.first;
    const auto& matrix = entry.second;
    CAPTURE(name);
    if (matrix.cols % info(detail::ggml_type_of<F>()).block == 0)
      CHECK(test::same_bits(b.at(name).weights, matrix.weights));
  }
  if (written.in_f16.empty()) CHECK(test::same_bits(logits_of(found), logits_of(expected)));

  // again from the GGUF file: blocks that are in the format stay as they are, and nothing else changes
  const std::string again = scratch.path("again.gguf");
  write_gguf<F>(Checkpoint::open(path), again);
  const Gguf second = Gguf::open(again);
  REQUIRE(second.tensors().size() == file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    const GgufTensor& same = second.get(tensor.name);
    CHECK(same.type == tensor.type);
    CHECK(std::equal(same.data.begin(), same.data.end(), tensor.data.begin(), tensor.data.end()));
  }
  CHECK(second.metadata().string("general.name") == file.metadata().string("general.name"));
  CHECK(second.metadata().entries().size() == file.metadata().entries().size());
}

template <ModelConfig C>
void check_formats(const std::string& name) {
  const auto source = test::golden(name);
  if (source.empty()) return;
  check_written<C, F32>(source.string());
  check_written<C, F16>(source.string());
  check_written<C, BF16>(source.string());
  check_written<C, Q8_0>(source.string());
  check_written<C, Q4_0>(source.string());
}

}  // namespace

TEST_CASE("a checkpoint written as GGUF is the model that loading it in that format makes, bit by bit") {
  check_formats<test::tiny>("forward/gqa_w8/hf");
  check_formats<test::tiny>("forward/gqa_w8/mistral");
  check_formats<test::tiny>("forward/gqa_w8_bf16/hf");
  check_formats<test::tiny>("forward/gqa_w8_f16/hf");
  check_formats<odd_w5>("forward/odd_w5/hf");
  check_formats<odd_w5>("forward/odd_w5_bf16/mistral");
  check_formats<full_w64>("forward/full_w64/hf");
  check_formats<nowin_mqa>("forward/nowin_mqa/hf");
  check_formats<long_w16>("forward/long_w16/hf");
  check_formats<w1>("forward/w1/hf_sharded");
  check_formats<stories_260k>("stories260k/hf");
  check_formats<stories_260k>("stories260k/hf_bf16");
  check_formats<stories_260k>("gguf/stories260k_q4_0.gguf");
  check_formats<test::tiny>("gguf/gqa_w8_f32.gguf");
  // every type of blocks to every format of 256, and rows of 64 that are no blocks of 256
  const auto kmix_file = test::golden("gguf/kmix.gguf");
  const auto stories = test::golden("stories260k/hf");
  if (kmix_file.empty() || stories.empty()) return;
  check_written<kmix, IQ4_NL>(kmix_file.string());
  check_written<kmix, Q4_K>(kmix_file.string());
  check_written<kmix, Q6_K>(kmix_file.string());
  check_written<stories_260k, IQ4_NL>(stories.string());
  check_written<stories_260k, Q4_K>(stories.string());
}

TEST_CASE("F32 and BF16 files give the golden logits of the folder that they were made from") {
  const auto folder = test::golden("forward/gqa_w8_bf16");
  if (folder.empty()) return;
  const Scratch scratch;
  write_gguf<BF16>(Checkpoint::open((folder / "hf").string()), scratch.path("m.gguf"));
  const auto model = load<Transformer<test::tiny, F32>>(scratch.path("m.gguf"));
  const Safetensors expected = Safetensors::open((folder / "expected.safetensors").string());
  Session<Transformer<test::tiny, F32>, float> session{model};
  const Rows<const float> all = session.forward(test::tensor_values<TokenId>(expected, "tokens"));
  CHECK(test::max_error({all.data(), all.rows() * all.cols()},
                        test::tensor_values<float>(expected, "logits_prefill")) <= 1e-4f);
}

TEST_CASE("the metadata says what llama.cpp asks for") {
  const auto folder = test::golden("forward/odd_w5/hf");
  if (folder.empty()) return;
  const Scratch scratch;
  const std::string path = scratch.path("m.gguf");
  const GgufWritten written = write_gguf<Q8_0>(Checkpoint::open(folder.string()), path, "odd");
  CHECK(written.in_f16.size() == 2 + 2 * 7);  // 108 and 131 are no multiples of 32
  const Gguf file = Gguf::open(path);
  const GgufMetadata& m = file.metadata();
  CHECK(file.version() == 3);
  CHECK(m.string("general.architecture") == "llama");
  CHECK(m.string("general.name") == "odd");
  CHECK(m.integer("general.file_type", 0, 100) == 7);
  CHECK(m.integer("general.quantization_version", 0, 100) == 2);
  CHECK(m.integer("llama.context_length", 0, 1000) == 512);
  CHECK(m.integer("llama.embedding_length", 0, 1000) == 108);
  CHECK(m.integer("llama.block_count", 0, 1000) == 2);
  CHECK(m.integer("llama.feed_forward_length", 0, 1000) == 131);
  CHECK(m.integer("llama.rope.dimension_count", 0, 1000) == 18);
  CHECK(m.number("llama.rope.freq_base") == 1e6);
  CHECK(m.integer("llama.attention.head_count", 0, 1000) == 6);
  CHECK(m.integer("llama.attention.head_count_kv", 0, 1000) == 2);
  CHECK(m.integer("llama.attention.sliding_window", 0, 1000) == 5);
  CHECK(static_cast<float>(m.number("llama.attention.layer_norm_rms_epsilon")) == 1e-5f);
  CHECK(m.integer("llama.vocab_size", 0, 1000) == 101);
  CHECK(m.string("tokenizer.ggml.model") == "no_vocab");
}

TEST_CASE("progress comes to the end, a failure leaves no file, and a packed file is refused") {
  const auto folder = test::golden("forward/gqa_w8/hf");
  if (folder.empty()) return;
  const Scratch scratch;
  const Checkpoint checkpoint = Checkpoint::open(folder.string());
  std::pair<std::uint64_t, std::uint64_t> last;
  const ProgressHook hook{[](void* context, std::uint64_t done, std::uint64_t total) {
                            auto& previous = *static_cast<std::pair<std::uint64_t, std::uint64_t>*>(context);
                            CHECK(done > previous.first);
                            previous = {done, total};
                          },
                          &last};
  write_gguf<Q4_0>(checkpoint, scratch.path("m.gguf"), "", {}, hook);
  CHECK(last.first > 0);
  CHECK(last.first == last.second);

  const std::string nowhere = scratch.path("no/such/m.gguf");
  CHECK(error_of([&] { write_gguf<Q4_0>(checkpoint, nowhere); }) ==
        "[gguf] " + nowhere + ": cannot write: No such file or directory");
  CHECK(error_of([&] { write_gguf<Q4_0>(checkpoint, "/dev/full"); }) ==
        "[gguf] /dev/full: cannot write: No space left on device");

  save_packed(test::random_model<Transformer<test::alone, Q8_0>>(3), scratch.path("packed"));
  const Checkpoint packed = Checkpoint::open(scratch.path("packed"));
  CHECK(error_of([&] { write_gguf<F32>(packed, scratch.path("x.gguf")); }) ==
        "[packed] " + scratch.path("packed") +
            ": expected a checkpoint to quantize, got a packed file, which is made from one");
  CHECK(!path_exists(scratch.path("x.gguf")));
}

TEST_CASE("a GGUF writer takes the data that was declared, no more, no less") {
  const Scratch scratch;
  const std::vector<GgufTensor> tensors{{"a", GgmlType::f32, {3}, {}}, {"b", GgmlType::q4_0, {2, 32}, {}}};
  const std::string path = scratch.path("m.gguf");
  const std::vector<std::byte> data(100);
  const std::span<const std::byte> all(data);
  const std::string cannot = "[gguf] " + path + ": cannot write: ";
  {
    GgufWriter writer(path, {}, tensors);
    CHECK(error_of([&] { writer.write(all.first(13)); }) == cannot + "more data than the tensor declared");
    writer.write(all.first(12));
    writer.write(all.first(30));
    CHECK(error_of([&] { writer.commit(); }) == cannot + "less data than the tensors declared");
    CHECK(!path_exists(path));
    writer.write(all.first(6));
    CHECK(error_of([&] { writer.write(all.first(1)); }) == cannot + "more data than the tensor declared");
    writer.commit();
  }
  const Gguf file = Gguf::open(path);
  CHECK(file.get("a").data.size() == 12);
  CHECK(file.get("b").data.size() == 36);
  const std::vector<GgufTensor> broken{{"c", GgmlType::q4_0, {2, 33}, {}}};
  CHECK(error_of([&] { GgufWriter writer(path, {}, broken); }) ==
        cannot + "tensor 'c': a name or a shape that the format doesn't have");
}

TEST_CASE("a tokenizer of another number of pieces than the embedding has rows is refused before anything is written") {
  const auto golden = test::golden("forward/gqa_w8/hf");
  if (golden.empty()) return;
  const Scratch scratch;
  const Checkpoint source = Checkpoint::open(golden.string());
  const auto with = [](std::size_t pieces) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < pieces; ++i) names.push_back("p" + std::to_string(i));
    const std::vector<std::string_view> views(names.begin(), names.end());
    GgufMetadataWriter metadata;
    metadata.string("tokenizer.ggml.model", "llama");
    metadata.strings("tokenizer.ggml.tokens", views);
    return metadata;
  };
  const std::string out = scratch.path("m.gguf");
  for (const std::size_t pieces : {std::size_t{96}, std::size_t{98}}) {
    CHECK(error_of([&] { write_gguf<F32>(source, out, "", with(pieces)); }) ==
          "[gguf] the tokenizer's pieces: expected as many as the model's vocabulary, 97, got " +
              std::to_string(pieces));
    CHECK_FALSE(path_exists(out));
  }
  write_gguf<F32>(source, out, "", with(97));
  CHECK(error_of([&] { Checkpoint::open(out); }) == "no error");
}
