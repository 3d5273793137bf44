// SPDX-License-Identifier: Apache-2.0
#include <mistral/checkpoint/dequantize.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/io/gguf/gguf.hpp>

#include "../support/data.hpp"
#include "../support/sha256.hpp"

namespace {

using mistral::GgmlType;
using mistral::Gguf;

constexpr GgmlType all_types[] = {GgmlType::f32,  GgmlType::f16,  GgmlType::q4_0,   GgmlType::q4_1, GgmlType::q5_0,
                                  GgmlType::q5_1, GgmlType::q8_0, GgmlType::q2_k,   GgmlType::q3_k, GgmlType::q4_k,
                                  GgmlType::q5_k, GgmlType::q6_k, GgmlType::iq4_nl, GgmlType::bf16};

std::vector<float> decoded(const mistral::GgufTensor& tensor) {
  const mistral::GgmlTypeInfo& type = info(tensor.type);
  std::vector<float> values(tensor.data.size() / type.bytes * type.block);
  const auto row = static_cast<std::size_t>(tensor.shape.back());
  for (std::size_t i = 0; i < values.size(); i += row) {
    dequantize_row(tensor.type, tensor.data.data() + i / type.block * type.bytes, std::span(values).subspan(i, row));
  }
  return values;
}

}  // namespace

TEST_CASE("SHA-256 is that of the standard's examples") {
  const auto of = [](std::string_view text) { return mistral::test::sha256(std::as_bytes(std::span(text))); };
  CHECK(of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("every tensor of the golden files decodes to the same bits as ggml's own code gives") {
  const std::filesystem::path expected = mistral::test::golden("gguf/expected.json");
  if (expected.empty()) return;
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(expected));
  std::map<std::string, int> types;
  for (const auto& file_item : json.at("files").items()) {
    const std::string& name = file_item.key();
    const nlohmann::json& file = file_item.value();
    const Gguf gguf = Gguf::open((expected.parent_path() / (name + ".gguf")).string());
    CHECK(gguf.tensors().size() == file.at("tensors").size());
    for (const auto& item : file.at("tensors").items()) {
      const std::string& tensor_name = item.key();
      const nlohmann::json& want = item.value();
      CAPTURE(name);
      CAPTURE(tensor_name);
      const mistral::GgufTensor& tensor = gguf.get(tensor_name);
      CHECK(info(tensor.type).name == want.at("ggml_type").get<std::string>());
      CHECK(tensor.shape == want.at("shape_rows_cols").get<std::vector<std::uint64_t>>());
      CHECK(mistral::test::sha256(tensor.data) == want.at("raw_sha256").get<std::string>());
      const std::vector<float> values = decoded(tensor);
      CHECK(mistral::test::sha256(std::as_bytes(std::span(values))) ==
            want.at("dequant_f32_sha256").get<std::string>());
      ++types[std::string(info(tensor.type).name)];
    }
  }
  // all but IQ4_NL, and F16 where the files of the trained model aren't there
  CHECK(types.size() >= 12);
}

TEST_CASE("IQ4_NL takes its levels from the format's table, the first 16 from the lower halves") {
  std::byte block[18] = {std::byte{0x00}, std::byte{0x38}};  // a scale of 0.5
  for (std::size_t i = 0; i < 16; ++i) block[2 + i] = static_cast<std::byte>(i | (15 - i) << 4);
  float values[32];
  dequantize_row(GgmlType::iq4_nl, block, values);
  const int levels[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(values[i] == 0.5f * static_cast<float>(levels[i]));
    CHECK(values[31 - i] == values[i]);
  }
}

TEST_CASE("any bytes decode: infinite scales and NaNs are no error, and no block reads another's bytes") {
  mistral::Random random(7);
  for (const GgmlType type : all_types) {
    CAPTURE(info(type).name);
    const std::size_t blocks = 5;
    const std::size_t bytes = blocks * info(type).bytes;
    std::vector<std::byte> row(bytes);  // of exactly the size, so that a reader past its end is caught
    for (std::byte& byte : row) byte = static_cast<std::byte>(random.next() & 0xff);
    std::vector<float> whole(blocks * info(type).block);
    dequantize_row(type, row.data(), whole);
    for (std::size_t i = 0; i < blocks; ++i) {
      std::vector<std::byte> block(row.begin() + static_cast<std::ptrdiff_t>(i * info(type).bytes),
                                   row.begin() + static_cast<std::ptrdiff_t>((i + 1) * info(type).bytes));
      std::vector<float> alone(info(type).block);
      dequantize_row(type, block.data(), alone);
      CHECK(std::memcmp(alone.data(), whole.data() + i * info(type).block, alone.size() * sizeof(float)) == 0);
    }
  }
}
