// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/packed/packed_file.hpp>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/model.hpp>

#include "../support/counting_resource.hpp"
#include "../support/golden.hpp"
#include "../support/models.hpp"
#include "../support/promised_bits.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::error_of;
using test::Scratch;

namespace {

template <class Model>
std::vector<float> logits_of(const Model& model) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < 12; ++i) tokens.push_back(static_cast<TokenId>(i * 7 % Model::config.vocab_size));
  Session<Model, float> session{model};
  const Rows<const float> all = session.forward(tokens);
  return {all.data(), all.data() + all.rows() * all.cols()};
}

// A model that was saved and loaded again gives the same bits, and its matrices lie in the file.
template <ModelConfig C, WeightFormat F>
void check_round_trip() {
  CAPTURE(std::string(F::name));
  using Model = Transformer<C, F>;
  const Scratch scratch;
  const std::string path = scratch.path("m.mistral");
  std::vector<float> expected;
  {
    const Model model = test::random_model<Model>(7);
    expected = logits_of(model);
    save_packed(model, path);
  }
  test::CountingResource memory;
  {
    Model model = load<Model>(path, {.memory = &memory});
    CHECK(memory.taken == (2 * C.n_layers + 1) * C.dim * sizeof(float));  // the norms: a matrix is taken as it stands
    CHECK(test::same_bits(logits_of(model), expected));
    const Model moved = std::move(model);  // the mapping goes along
    CHECK(test::same_bits(logits_of(moved), expected));
  }
  CHECK(memory.held == 0);

  const PackedFile file = PackedFile::open(path);
  CHECK(error_of([&] { file.verify(); }) == "no error");
  CHECK(file.layout() == packed_layout<F>());
  CHECK(file.tensors().size() == 3 + 9 * C.n_layers);
  for (const PackedTensor& tensor : file.tensors()) {
    CHECK((tensor.data.data() - file.tensors()[0].data.data()) % 4096 == 0);
  }
  CHECK(file.get("output.weight").shape == std::vector<std::uint64_t>{C.vocab_size, C.dim});
  CHECK(file.tokenizer().empty());
}

// A file whose header a test may change; the checksum is made anew.
struct Broken {
  Scratch scratch;
  std::string bytes;

  Broken() {
    save_packed(test::random_model<Transformer<test::alone, Q8_0>>(3), scratch.path("good"));
    bytes = scratch.read("good");
  }
  std::size_t header_bytes() const {
    std::uint64_t count = 0;
    std::memcpy(&count, bytes.data() + 16, 8);
    return static_cast<std::size_t>(count);
  }
  template <class T>
  void put(std::size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
  // in place of `from` in the header, `to`, padded with spaces where it is shorter
  Broken& replace(const std::string& from, std::string to) {
    const std::size_t at = bytes.find(from, PackedFile::preamble_bytes);
    REQUIRE(at < PackedFile::preamble_bytes + header_bytes());
    REQUIRE(to.size() <= from.size());
    to.append(from.size() - to.size(), ' ');
    bytes.replace(at, from.size(), to);
    const std::span<const char> all(bytes);
    put(24, checksum(std::as_bytes(all.subspan(PackedFile::preamble_bytes, header_bytes()))));
    return *this;
  }
  // what loading says, without the "[packed] path: " in front
  std::string error() const {
    const std::string path = scratch.write("bad", bytes);
    const std::string error = error_of([&] { load<Transformer<test::alone, Q8_0>>(path); });
    const std::string prefix = "[packed] " + path + ": ";
    return error.starts_with(prefix) ? error.substr(prefix.size()) : error;
  }
};

}  // namespace

TEST_CASE("a packed model gives the bits of the model that was saved, in every format and odd sizes") {
  for_each_format([]<class F>(std::type_identity<F>) { check_round_trip<test::odd, F>(); });
  check_round_trip<test::tiny, F32>();
  check_round_trip<test::full, Q4_0>();
}

TEST_CASE("a packed file carries its tokenizer, and only the type's own config and format load it") {
  const auto folder = test::golden("stories260k/hf");
  if (folder.empty()) return;
  const Scratch scratch;
  const std::string path = scratch.path("m");
  using Model = Transformer<test::tiny, Q8_0>;
  {
    const MappedFile tokenizer = MappedFile::open((folder / "tokenizer.model").string(), "test");
    std::uint64_t last = 0;
    const ProgressHook hook{[](void* context, std::uint64_t done, std::uint64_t total) {
                              auto& previous = *static_cast<std::uint64_t*>(context);
                              CHECK(done > previous);
                              CHECK(done <= total);
                              previous = done == total ? 0 : done;
                            },
                            &last};
    save_packed(test::random_model<Model>(1), path, tokenizer.bytes(), hook);
    CHECK(last == 0);  // it came to the end
    load<Model>(path, {.progress = hook});
    CHECK(last == 0);
  }
  CHECK(Tokenizer::load(path).decode(Tokenizer::load(path).encode("Once upon a time")) == "Once upon a time");

  CHECK(error_of([&] { load<Transformer<test::tiny, Q4_0>>(path); }) ==
        "[packed] " + path + ": the weights: expected Q4_0, got Q8_0");
  CHECK(error_of([&] { load<Transformer<test::odd, Q8_0>>(path); }) ==
        "[checkpoint] " + path + ": dim: expected 51, got 64");
  constexpr ModelConfig other_window = [] {
    ModelConfig config = test::tiny;
    config.window_size = 5;
    return config;
  }();
  CHECK(error_of([&] { load<Transformer<other_window, Q8_0>>(path); }) ==
        "[checkpoint] " + path + ": window_size: expected 5, got 8 (allow_different_window loads it all the same)");
  CHECK(error_of([&] { load<Transformer<other_window, Q8_0>>(path, {.allow_different_window = true}); }) == "no error");
}

TEST_CASE("a packed file without a tokenizer, or with another packed file for one, has none") {
  const Scratch scratch;
  const std::string path = scratch.path("m");
  const auto model = test::random_model<Transformer<test::alone, F32>>(1);
  save_packed(model, path);
  const std::string none = "[tokenizer] " + path + ": expected a tokenizer in the file, got none";
  CHECK(error_of([&] { Tokenizer::load(path); }) == none);
  const std::string inner = scratch.read("m");
  save_packed(model, path, std::as_bytes(std::span(inner)));
  CHECK(error_of([&] { Tokenizer::load(path); }) == none);
}

TEST_CASE("what is no packed file, of another version, damaged or cut, is refused in a line") {
  CHECK(Broken().error() == "no error");
  Broken file;
  const std::string good = file.bytes;
  const auto cut = [&](std::size_t size) {
    file.bytes = good.substr(0, size);
    return file.error();
  };
  CHECK(cut(31) == "the file: expected at least 32 bytes, got 31");
  CHECK(cut(40) == "the header: expected at most 8 bytes, got " + std::to_string(Broken().header_bytes()));
  // cut within the data, at any of its pages: a tensor ends past the end
  for (std::size_t size = 4096; size < good.size(); size += 4096) {
    CAPTURE(size);
    CHECK(cut(size) != "no error");
  }
  CHECK(cut(good.size() - 1) != "no error");

  file.bytes = good;
  file.put(8, std::uint32_t{2});
  CHECK(file.error() == "the version: expected 1 (pack the checkpoint again), got 2");
  file.bytes = good;
  file.put(16, ~std::uint64_t{0});
  CHECK(file.error() ==
        "the header: expected at most " + std::to_string(good.size() - 32) + " bytes, got 18446744073709551615");
  file.bytes = good;
  file.bytes[40] = static_cast<char>(file.bytes[40] ^ 1);
  CHECK(file.error().starts_with("the header's checksum: expected "));

  // a bit of the data shows when it is asked for
  file.bytes = good;
  file.bytes.back() = static_cast<char>(file.bytes.back() ^ 1);
  CHECK(file.error() == "no error");
  CHECK(error_of([&] {
          PackedFile::open(file.scratch.path("bad")).verify();
        }).starts_with("[packed] " + file.scratch.path("bad") + ": tensor 'output.weight': the checksum: expected "));
}

TEST_CASE("every field of a packed file's header is held against the file and the type") {
  const auto error_with = [](const std::string& from, const std::string& to) {
    return Broken().replace(from, to).error();
  };
  CHECK(error_with(R"("dim":16)", R"("dim":24)").ends_with(": dim: expected 16, got 24"));
  CHECK(error_with(R"("dim":16)", R"("dim":-1)") ==
        "field 'config': field 'dim': expected an integer from 1 to 2147483647, got -1");
  CHECK(error_with(R"("n_heads":2)", R"("n_heads":3)").ends_with(": n_heads: expected 2, got 3"));
  CHECK(error_with(R"("head_dim":8)", R"("head_dim":7)") ==
        "field 'config': field 'head_dim': expected an even number, got 7");
  CHECK(error_with(R"("block_bytes":544)", R"("block_bytes":543)") ==
        "field 'tensors': tensor 'layers.0.attention.wk.weight': field 'bytes': expected what [8, 16] takes in Q8_0, "
        "got 544");
  CHECK(error_with(R"("format":"Q8_0")", R"("format":"Q9_0")") == "the weights: expected Q8_0, got Q9_0");
  CHECK(error_with(R"("offset":4096)", R"("offset":4095)")
            .ends_with("field 'offset': expected a multiple of 4096, got 4095"));
  CHECK(error_with(R"("offset":8192)", R"("offset":4096)").find("' overlaps '") != std::string::npos);
  CHECK(error_with(R"("shape":[29, 16])", R"("shape":[28, 16])").ends_with(": expected [29, 16], got [28, 16]"));
  CHECK(error_with(R"("shape":[29, 16])", R"("shape":[0, 16])")
            .ends_with("field 'shape': expected an integer from 1 to 9223372036854775807, got 0"));
  CHECK(error_with(R"("norm.weight")", R"("nome.weight")") == "tensor 'norm.weight' is missing");
  CHECK(error_with(R"("checksum":"0)", R"("checksum":"x)") != "no error");
}

TEST_CASE("panels of another layout are refused, whatever else agrees") {
  Broken file;
  const std::string own = packed_layout<Q8_0>().fingerprint;
  const std::string other(own.rbegin(), own.rend());
  REQUIRE(own != other);
  CHECK(file.replace(own, other).error() ==
        "the weights in Q8_0: expected 16 rows x 32 inputs in 544 bytes, fingerprint " + own +
            " (pack the checkpoint again), got 16 rows x 32 inputs in 544 bytes, fingerprint " + other);
}

TEST_CASE("the layouts of the formats are what files in use hold") {
  const std::string_view* golden = test::golden_layouts;
  for_each_format([&]<class F>(std::type_identity<F>) {
    CAPTURE(F::name);
    CHECK(packed_layout<F>().fingerprint == *golden++);
  });
}

TEST_CASE("the checksum depends on every byte, on its place, and on the length") {
  std::vector<std::byte> bytes(100);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{8}, std::size_t{33}, std::size_t{100}}) {
    const std::span<std::byte> part = std::span(bytes).first(size);
    const std::uint64_t sum = checksum(part);
    for (std::size_t i = 0; i < size * 8; ++i) {
      part[i / 8] ^= static_cast<std::byte>(1 << i % 8);
      CHECK(checksum(part) != sum);
      part[i / 8] ^= static_cast<std::byte>(1 << i % 8);
    }
    CHECK(checksum(part) == sum);
  }
  const std::vector<std::byte> zeros(64);
  CHECK(checksum(std::span(zeros).first(31)) != checksum(std::span(zeros).first(32)));
}
