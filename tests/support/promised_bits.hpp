// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/core/kv_entry.hpp>
#include <mistral/core/random.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/generate/sampler.hpp>
#include <mistral/kernels/rope.hpp>
#include <mistral/simd/product.hpp>
#include <mistral/simd/quantize.hpp>
#include <mistral/train/optimizer.hpp>

#include "random_rows.hpp"
#include "sha256.hpp"

/// \file
/// What docs/guest.md promises to be the same bits with every compiler, flag and processor, as hashes: of fixed inputs,
/// hard cases among them. The tests of the folder format hold them in one build, and tests/matrix in many.

namespace mistral::test {

/// Weights of 53 rows (three panels and a part of one) of 800 (three blocks of 256 and a part of one), a row of each
/// kind and again of other sizes: all that a format meets, and what a hair decides which way it is rounded.
inline Matrix hard_weights() {
  Random random(15);
  Matrix weights(53, 800);
  for (std::size_t r = 0; r < weights.rows; ++r) {
    float size = 1.0f;  // of a part of the row
    for (std::size_t c = 0; c < weights.cols; ++c) {
      const std::size_t part = r < 16 ? 800 : r < 32 ? 32 : 256;
      if (r >= 16 && c % part == 0) size = 0.01f + random.uniform();
      const auto one_of = [&](std::uint64_t count) {
        return static_cast<float>(static_cast<int>(random.next() % count));
      };
      const float x = random.normal();
      float w = 0.0f;
      switch (r % 16) {
        case 0:
          w = x;
          break;
        case 1:  // halfway between Q8_0's codes
          w = c % 32 == 5 ? 127.0f : one_of(253) - 126.5f;
          break;
        case 2:  // Q4_0's
          w = c % 32 == 9 ? -8.0f : one_of(15) - 7.5f;
          break;
        case 3:  // Q6_K's
          w = c % 16 == 3 ? -32.0f : one_of(62) - 30.5f;
          break;
        case 4:  // Q4_K's
          w = c % 32 == 0 ? 15.0f : one_of(15) + 0.5f;
          break;
        case 5:
          w = c % 2 == 0 ? 0.0f : -0.0f;
          break;
        case 6:
          w = one_of(1000) * std::numeric_limits<float>::denorm_min();
          break;
        case 7:
          w = x * 0x1p-120f;
          break;
        case 8:  // scales are subnormal halves
          w = x * 0x1p-20f;
          break;
        case 9:  // scales are the largest halves
          w = x * 8e4f;
          break;
        case 10:
          w = -1.0f - random.uniform();
          break;
        case 11:
          w = 10.0f + random.uniform();
          break;
        case 12:
          w = c % 61 == 0 ? x * 100.0f : x * 0.02f;
          break;
        case 13:
          w = x < 0.0f ? 1.0f : -1.0f;
          break;
        case 14:
          w = x < 0.0f ? -0x1p-3f : 0x1p-9f;
          break;
        default:
          w = c % 32 == 7 ? x : 0.0f;
      }
      weights.view().row(r)[c] = r % 16 == 6 ? w : w * size;
    }
  }
  return weights;
}

/// Weights that no scale holds: their codes are of no use, and the same all the same.
inline Matrix impossible_weights() {
  Random random(16);
  Matrix weights(17, 288);
  constexpr float most = std::numeric_limits<float>::max();
  constexpr float infinite = std::numeric_limits<float>::infinity();
  for (std::size_t r = 0; r < weights.rows; ++r) {
    for (float& w : weights.view().row(r)) w = random.normal() * (r % 2 == 0 ? 1e37f : 1e6f);
    if (r % 4 == 1) weights.view().row(r)[5 * r] = r % 8 == 1 ? most : -most;
    if (r % 4 == 3) weights.view().row(r)[5 * r] = r % 8 == 3 ? infinite : -infinite;
  }
  return weights;
}

/// A name, and the sha256 of some bytes.
struct PromisedBits {
  std::string name;
  std::string sha256;
};

namespace detail {

class Collector {
 public:
  template <class T>
  void add(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    add(std::as_bytes(std::span(&value, 1)));
  }
  void add(std::span<const std::byte> more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
  std::string sum() const { return sha256(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

template <WeightFormat F>
std::string packed_sum(Matrix weights) {
  return sha256(packed<F>(weights).bytes());
}

template <WeightFormat F>
std::string unpacked_sum(Matrix weights) {
  packed<F>(weights);
  return sha256(std::as_bytes(std::span(weights.values)));
}

}  // namespace detail

/// All of them.
inline std::vector<PromisedBits> promised_bits() {
  std::vector<PromisedBits> out;
  const Matrix hard = hard_weights();
  const auto format = [&]<WeightFormat F>(F) {
    const std::string name(F::name);
    out.push_back({name + " packed", detail::packed_sum<F>(hard)});
    out.push_back({name + " unpacked", detail::unpacked_sum<F>(hard)});
    out.push_back({name + " out of range", detail::packed_sum<F>(impossible_weights())});
  };
  for_each_format([&]<class F>(std::type_identity<F>) { format(F{}); });

  {
    detail::Collector codes;
    for (const Matrix& matrix : {hard, impossible_weights()}) {
      for (std::size_t i = 0; i + simd::quantize_inputs <= matrix.values.size(); i += simd::quantize_inputs) {
        std::array<std::int8_t, simd::quantize_inputs> block;
        std::int32_t sum = 0;
        codes.add(simd::quantize(matrix.values.data() + i, block.data(), sum));
        codes.add(block);
        codes.add(sum);
      }
    }
    out.push_back({"activations in 8 bits", codes.sum()});
  }
  const auto cache = [&]<KvElement T>(T, const char* name) {
    detail::Collector entries;
    for (const Matrix& matrix : {hard, impossible_weights()}) {
      for (std::size_t r = 0; r < matrix.rows; ++r) {
        KvEntry<T, 96> entry;
        entry.write(matrix.view().row(r).template first<96>());
        entries.add(entry.bytes);
      }
    }
    out.push_back({std::string(name) + " in a cache", entries.sum()});
  };
  cache(bf16{}, "bf16");
  cache(q8{}, "q8");

  {
    detail::Collector decoded;
    Random random(17);
    for (const GgmlType type :
         {GgmlType::q4_0, GgmlType::q4_1, GgmlType::q5_0, GgmlType::q5_1, GgmlType::q8_0, GgmlType::q2_k,
          GgmlType::q3_k, GgmlType::q4_k, GgmlType::q5_k, GgmlType::q6_k, GgmlType::iq4_nl}) {
      std::vector<std::byte> blocks(20 * info(type).bytes);
      std::vector<float> floats(20 * info(type).block);
      for (std::byte& byte : blocks) byte = static_cast<std::byte>(random.next() % 0x78);  // no infinity as a scale
      dequantize_row(type, blocks.data(), floats);
      decoded.add(std::as_bytes(std::span(floats)));
    }
    out.push_back({"blocks of a GGUF file decoded", decoded.sum()});
  }
  {
    detail::Collector numbers;
    Random random(18);
    for (int i = 0; i < 1000; ++i) {
      numbers.add(random.next());
      numbers.add(random.uniform());
      numbers.add(random.uniform_double());
      numbers.add(random.normal());
    }
    out.push_back({"random numbers", numbers.sum()});
  }
  {
    detail::Collector sums;
    Matrix matrix = hard_weights();
    simd::add_products(matrix.values.data(), 0.3f, matrix.values.data() + 800, 24 * 800 + 7);
    sums.add(std::as_bytes(std::span(matrix.values)));
    out.push_back({"weights with an adapter", sums.sum()});
  }
  {
    detail::Collector state;
    Random random(19);
    const Matrix gradient(10, 100, random);
    for (const Optimizer optimizer : {Optimizer::adamw, Optimizer::sgd}) {
      Matrix p(10, 100, random), m(10, 100), v(10, 100);
      for (std::uint64_t number = 1; number < 20; ++number) {
        const UpdateStep step{1.7e-3f, 0.013f, 0.37f, 0.9f, 0.999f, 1e-8f, number};
        if (optimizer == Optimizer::adamw) {
          adamw_update(step, p.values, gradient.values, m.values, v.values);
        } else {
          sgd_update(step, p.values, gradient.values, v.values);
        }
      }
      for (const Matrix* const all : {&p, &m, &v}) state.add(std::as_bytes(std::span(all->values)));
    }
    state.add(sum_of_squares(gradient.values));
    for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
      for (std::uint64_t step = 0; step < 1000; ++step) {
        state.add(static_cast<float>(scheduled_rate(schedule, 1.3e-3, 1.7e-5, 7, 997, step)));
      }
    }
    out.push_back({"updates and rates of training", state.sum()});
  }
  {
    detail::Collector turns;
    for (const std::size_t pairs : {8u, 64u}) {
      std::vector<double> frequencies(pairs);
      std::vector<float> turn(2 * pairs);
      for (const double theta : {10000.0, 1000000.0}) {
        kernels::rope_frequencies(theta, frequencies);
        for (const std::int64_t position : {0, 1, 2, 3, 1000, 4095, 4096, 32767, 127999, 1000003}) {
          kernels::rope_turns(position, frequencies, turn);
          turns.add(std::as_bytes(std::span(turn)));
        }
      }
    }
    out.push_back({"turns of RoPE", turns.sum()});
  }
  {
    detail::Collector tokens;
    Random random(20);
    std::vector<float> logits(500);
    for (const SamplingOptions& options :
         {SamplingOptions{.temperature = 0.7f, .seed = 3},
          SamplingOptions{.temperature = 1.3f, .top_k = 40, .top_p = 0.9f},
          SamplingOptions{.temperature = 1.0f, .min_p = 0.05f, .repetition_penalty = 1.1f}}) {
      Sampler sampler(options, logits.size());
      for (int i = 0; i < 200; ++i) {
        for (float& logit : logits) logit = 3.0f * random.normal();
        const TokenId token = sampler.sample(logits);
        sampler.accept(token);
        tokens.add(token);
      }
    }
    out.push_back({"sampled tokens", tokens.sum()});
  }
  return out;
}

/// What promised_bits() is in every build. To be made anew, where a format's encoder changes on purpose, by
/// tests/matrix/bits.cpp.
struct GoldenBits {
  std::string_view name;
  std::string_view sha256;
};
inline constexpr GoldenBits golden_bits[] = {
    {"F32 packed", "6ed9c9257a0ffd850ff8a3b3a5cc8f469514bb7fd617555a187eb8b7507cbc8c"},
    {"F32 unpacked", "1b3772d341c4343a86dc675a10a1f677a1177fadbe0bfc9994563c0481c27fda"},
    {"F32 out of range", "3363e5822dd7cc31c3fc3e2126d37db0876167c18547298a7f7601fd989ae079"},
    {"F16 packed", "3b04f198d05839159983ada00fec55d9fd2078d2ef36950cef71d3c0aa52cbca"},
    {"F16 unpacked", "5e6df00ada4f30b15564f2f13da297b5b60e6a90acc9c6f426bf2b831a60e4cf"},
    {"F16 out of range", "a1e0571e05a90befb926176820a206e653c6ec57f0414c1c03ad68ae1d2c3d04"},
    {"BF16 packed", "034677fe4581689b33d1cf834cc01ca457e0446c8833dbd38d35bd4ff32c3efd"},
    {"BF16 unpacked", "9c39c046ff150defe53dc064c83dbcc73c3a1e10c45f8dd5d790000b2dcaf7ae"},
    {"BF16 out of range", "41a0e92531f2b33fa4eb9e7991caa83a77c8efe72e15bed03dc6d0ddff8b1c93"},
    {"Q8_0 packed", "4b2df10df1d47222edafec2e0b013ef1b8794dbbee8edbd5fea3894e38f6ecd0"},
    {"Q8_0 unpacked", "7295395a735a73c989ff88121fc9ecdbb10e66c6289bd4910a150702b22e353a"},
    {"Q8_0 out of range", "617e7038d1b017b6d8c5072cade356da6066f0151d26f9b728c97f5a79a0f12a"},
    {"Q6_K packed", "418c4fa1f63e4f6628ecb0a46c0e03a5bac681d13a36a8e650cdd9d9ee3c35c3"},
    {"Q6_K unpacked", "ef4e4fa211335b67a85b2e3643f7a55f3494a4e3448e92d64e33dcba306f908c"},
    {"Q6_K out of range", "aa24272ef4639256bdb3f71e5202ee5629fa151ee69c7b72549bf223c0755c9b"},
    {"Q4_K packed", "df73ec4bf227a57e01fb6e060eb1c062436d27c532ab921d9df06d3af2374eb0"},
    {"Q4_K unpacked", "b69dea77c68193574e67ff052aa8ea7ae6e72b5a9769f2862fa855b3c1633596"},
    {"Q4_K out of range", "455ff9e18472b0adb66b2ed8dbd0f17a2ba4c182e19ae7b5b6b5214f87e50ef6"},
    {"IQ4_NL packed", "7eeb377e0e4ca58f87c11101f03845f197c6503563c6c59e71d7557ce53a65ea"},
    {"IQ4_NL unpacked", "5e55b49e20e98e6476ed637ebad3dbca6ee1150d5f889dcc00fe6ed51fd62365"},
    {"IQ4_NL out of range", "5c1ea35077625bf18ba6a04397b407f7734af4bf02a19d882853a5ab5d5e49e9"},
    {"Q4_0 packed", "1a4be6b020910bfe14be59b356d624159bd03003862f9e2bfc3d457f8b1932a2"},
    {"Q4_0 unpacked", "f26e7956eb2f165693d164205cd101653272fbd56914d7e746e3863e1c943f66"},
    {"Q4_0 out of range", "78f3c615c0404992fb8fca563e6ddd92188b8166dad554b9e244f39dbf7b17bb"},
    {"NF4 packed", "3d62ba886fbbf9e84438092af4599fba27d357c04b7f20adafa8a0d3959df6c1"},
    {"NF4 unpacked", "193f34dcb140556a3ce8d992ff5ced953d9f388adec2b5cb8c1fd07b1e421654"},
    {"NF4 out of range", "45937e5159aac535f112f2fcf996077f9126b4038a688c3eb5a735552927290b"},
    {"activations in 8 bits", "e826b0a5179f1bfebaf6827b0e8c0621b8c3b31e24b229d5e66c069d999cdaf5"},
    {"bf16 in a cache", "65b0fbe48eba0c77b82b3be161076160f55eeeab3fdb993e656a251f26c77fb8"},
    {"q8 in a cache", "9faa8410853ed6673f5d58919616b0b2ae0be167629cab34f2f80ab71431b47e"},
    {"blocks of a GGUF file decoded", "6857ca9934e19014dd88c2f63a0dac9973e75853495caf02957914af0dfc4af6"},
    {"random numbers", "32a864c6f2ad9aad727c16e9398bad222ae31c34bf185cd8373920409124f00b"},
    {"weights with an adapter", "e9718883f725b236d0c2477bae57797a5e45698d64e48ce81605da1b259f498c"},
    {"updates and rates of training", "216f8b860b90de41f2d5b9ac2c0fd1f02cc541b19c6278019c67d8337540b0a4"},
    {"turns of RoPE", "313e84bcb543b4e8c59cc6213d76518e14a7513a8730fff74c5aeaf08a3e8590"},
    {"sampled tokens", "4e9a42340f6dc9308edb2a14d90bc4dc242fe10ada284c2fad4fa65531947f50"},
};

/// What packed_layout<F>().fingerprint is of each format, in the order of the list. A change here makes packed files
/// that people have unreadable: raise the version in PackedFile::head then, or give the format another name.
inline constexpr std::string_view golden_layouts[format_count] = {
    "e875ea60a2991740",  // F32
    "13aafb3d23c5a465",  // F16
    "90d8b498ba42f5a5",  // BF16
    "bb11d5d962dd4de5",  // Q8_0
    "6191af553d912317",  // Q6_K
    "db668afd366022f7",  // Q4_K
    "c63105b5ab4075a5",  // IQ4_NL
    "0e5d057d51852b25",  // Q4_0
    "1b45b888b7a938fd",  // NF4
};

/// The names of those that this build has other bits of.
inline std::vector<std::string> wrong_bits() {
  const std::vector<PromisedBits> found = promised_bits();
  std::vector<std::string> wrong;
  if (found.size() != std::size(golden_bits)) wrong.push_back("the list");
#if defined(__GLIBC__)
  constexpr std::size_t of_library = 0;
#else
  constexpr std::size_t of_library = 3;  // the last ones, which another C library may round otherwise
#endif
  for (std::size_t i = 0; i < std::min(found.size(), std::size(golden_bits)) - of_library; ++i) {
    if (found[i].name != golden_bits[i].name || found[i].sha256 != golden_bits[i].sha256)
      wrong.push_back(found[i].name);
  }
  return wrong;
}

}  // namespace mistral::test
