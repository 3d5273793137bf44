// SPDX-License-Identifier: Apache-2.0
// Each instruction set that this build's compiler has, against plain C++: the one that is chosen, and all plainer ones.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <tuple>

#include <doctest/doctest.h>

#include <mistral/core/random.hpp>
#include <mistral/simd/instructions.hpp>
#include <mistral/simd/pairs.hpp>

using namespace mistral;
using simd::Scalar;

namespace {

template <class Set, class... Richer>
struct SetsFrom : SetsFrom<typename Set::Plainer, Richer..., Set> {};
template <class... Sets>
struct SetsFrom<void, Sets...> {
  using Tuple = std::tuple<Sets...>;
};
using Sets = SetsFrom<simd::Instructions>::Tuple;

constexpr std::size_t group_bytes = simd::lanes * simd::quad;
using Bytes = std::array<std::byte, group_bytes>;
using Floats = std::array<float, simd::lanes>;

template <class Group>
Floats floats_of(const Group& group) {
  Floats out;
  static_assert(sizeof group == sizeof out);
  std::memcpy(out.data(), &group, sizeof group);
  return out;
}

bool same(const Floats& a, const Floats& b) { return std::memcmp(a.data(), b.data(), sizeof a) == 0; }

Bytes random_bytes(Random& random, unsigned most = 255) {
  Bytes out;
  for (auto& b : out) b = static_cast<std::byte>(random.next() % (most + 1));
  return out;
}

template <class Set>
Bytes stored(const simd::BasicQuads<Set>& quads) {
  Bytes out;
  quads.store(out.data());
  return out;
}

template <class Set, unsigned MaxCode>
void check_dot(Random& random, bool at_limits) {
  using Dot = typename Set::template Dot<Set, MaxCode>;
  Dot dot = Dot::zero();
  std::array<std::int32_t, simd::lanes> expected{};
  for (int block = 0; block < 8; ++block) {
    const Bytes codes = at_limits ? [] {
      Bytes all;
      all.fill(static_cast<std::byte>(MaxCode));
      return all;
    }()
                                  : random_bytes(random, MaxCode);
    std::int8_t inputs[simd::quad];
    for (auto& x : inputs) x = static_cast<std::int8_t>(at_limits ? -127 : static_cast<int>(random.next() % 255) - 127);
    std::byte input[Dot::input_bytes];
    Dot::put(inputs, input);
    typename Dot::Step steps[Dot::steps];
    Dot::split(simd::BasicQuads<Set>::load(codes.data()), steps);
    for (std::size_t k = 0; k < Dot::steps; ++k) dot.add(steps[k], Dot::input(input + k * simd::quad));
    for (std::size_t i = 0; i < group_bytes; ++i) {
      expected[i / simd::quad] += std::to_integer<int>(codes[i]) * inputs[i % simd::quad];
    }
  }
  const simd::BasicSums<Set> sums = dot.sums() + dot.sums();
  std::array<std::int32_t, simd::lanes> found;
  std::memcpy(found.data(), &sums, sizeof found);
  for (std::size_t i = 0; i < simd::lanes; ++i) REQUIRE(found[i] == 2 * expected[i]);
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("each instruction set widens numbers to the floats that they are", Set, widens) {
  bf16 bfloats[simd::lanes + 1];
  f16 halves[simd::lanes + 1];
  std::int8_t numbers[simd::lanes + 1];
  Random random(1);
  for (int round = 0; round < 500; ++round) {
    for (std::size_t i = 0; i <= simd::lanes; ++i) {
      bfloats[i] = from_float<bf16>(random.normal());
      halves[i] = from_float<f16>(random.normal() * (round % 2 == 0 ? 1.0f : 1e-6f));
      numbers[i] = static_cast<std::int8_t>(random.next());
    }
    typename Set::FloatGroup group;
    const auto check = [&](const auto* p) {
      Floats expected;
      Scalar::widen(p, reinterpret_cast<float(&)[simd::lanes]>(*expected.data()));
      Set::widen(p, group);
      REQUIRE(same(floats_of(group), expected));
    };
    check(bfloats + 1);
    check(halves + 1);
    check(numbers + 1);
  }
}
TEST_CASE_TEMPLATE_APPLY(widens, Sets);

TEST_CASE_TEMPLATE_DEFINE("each instruction set quantises activations to the same codes", Set, quantises) {
  Random random(2);
  for (int round = 0; round < 1000; ++round) {
    float x[simd::quantize_inputs + 1];
    for (auto& v : x) v = random.normal() * std::ldexp(1.0f, round % 200 - 100);
    if (round == 0) std::fill(std::begin(x), std::end(x), 0.0f);
    if (round % 7 == 1)
      x[1 + static_cast<std::size_t>(round) % simd::quantize_inputs] = std::numeric_limits<float>::infinity();
    if (round % 7 == 2)
      x[1 + static_cast<std::size_t>(round) % simd::quantize_inputs] = std::numeric_limits<float>::quiet_NaN();
    std::int8_t expected[simd::quantize_inputs], found[simd::quantize_inputs];
    std::int32_t expected_sum, found_sum;
    const float expected_scale = Scalar::quantize(x + 1, expected, expected_sum);
    const float found_scale = Set::quantize(x + 1, found, found_sum);
    REQUIRE((found_scale == expected_scale || (std::isnan(found_scale) && std::isnan(expected_scale))));
    REQUIRE(found_sum == expected_sum);
    REQUIRE(std::memcmp(found, expected, sizeof found) == 0);
  }
}
TEST_CASE_TEMPLATE_APPLY(quantises, Sets);

TEST_CASE_TEMPLATE_DEFINE("each instruction set takes bytes apart as plain C++ does", Set, takes_bytes_apart) {
  using Quads = simd::BasicQuads<Set>;
  using Plain = simd::BasicQuads<Scalar>;
  Random random(3);
  for (int round = 0; round < 100; ++round) {
    const Bytes a = random_bytes(random), b = random_bytes(random), c = random_bytes(random);
    const Bytes codes = random_bytes(random, 15);
    std::uint8_t table[16], tables[4][16];
    for (auto& entry : table) entry = static_cast<std::uint8_t>(random.next());
    for (auto& one : tables) {
      for (auto& entry : one) entry = static_cast<std::uint8_t>(random.next());
    }
    const auto set = [](const Bytes& bytes) { return Quads::load(bytes.data()); };
    const auto plain = [](const Bytes& bytes) { return Plain::load(bytes.data()); };
    REQUIRE(stored(set(a).pinned()) == a);
    REQUIRE(stored(set(a).low_nibbles()) == stored(plain(a).low_nibbles()));
    REQUIRE(stored(set(a).high_nibbles()) == stored(plain(a).high_nibbles()));
    REQUIRE(stored(set(a).low_6_bits()) == stored(plain(a).low_6_bits()));
    REQUIRE(stored(Quads::of_upper_bits(set(a), set(b), set(c))) ==
            stored(Plain::of_upper_bits(plain(a), plain(b), plain(c))));
    REQUIRE(stored(set(codes).look_up(table)) == stored(plain(codes).look_up(table)));
    Bytes found = a, expected = a;
    Set::count_not_above(found.data(), table);
    Scalar::count_not_above(expected.data(), table);
    REQUIRE(found == expected);
    typename Set::FloatGroup found_floats[simd::quad];
    Scalar::FloatGroup expected_floats[simd::quad];
    for (const int shift : {0, 4}) {
      Set::look_up_floats(tables, a.data(), shift, found_floats);
      Scalar::look_up_floats(tables, a.data(), shift, expected_floats);
      for (std::size_t i = 0; i < simd::quad; ++i) {
        REQUIRE(same(floats_of(found_floats[i]), floats_of(expected_floats[i])));
      }
    }
  }
}
TEST_CASE_TEMPLATE_APPLY(takes_bytes_apart, Sets);

TEST_CASE_TEMPLATE_DEFINE("each instruction set adds integers and makes floats of them", Set, adds) {
  Random random(4);
  for (int round = 0; round < 100; ++round) {
    std::array<std::int32_t, simd::lanes> numbers;
    for (auto& n : numbers) n = static_cast<std::int32_t>(random.next() % 2000001) - 1000000;
    typename Set::IntGroup ints;
    typename Set::FloatGroup floats;
    static_assert(std::size(ints) == std::size(floats));
    std::memcpy(&ints, numbers.data(), sizeof ints);
    for (std::size_t i = 0; i < std::size(ints); ++i) {
      floats[i] = Set::to_floats(Set::add_ints(ints[i], Set::broadcast(-1234567)));
    }
    Floats expected;
    for (std::size_t i = 0; i < simd::lanes; ++i) expected[i] = static_cast<float>(numbers[i] - 1234567);
    REQUIRE(same(floats_of(floats), expected));
  }
}
TEST_CASE_TEMPLATE_APPLY(adds, Sets);

TEST_CASE_TEMPLATE_DEFINE("each instruction set turns words of rows to steps of lanes", Set, turns) {
  constexpr std::size_t words = Set::transposed_words + 2;
  std::array<std::uint32_t, simd::lanes * words> rows;
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::uint32_t>(i * 0x01030507u);
  const auto row = [&](std::size_t i, std::size_t w) {
    return reinterpret_cast<const std::byte*>(rows.data() + i * words + w);
  };
  std::uint32_t panel[words][simd::lanes] = {};
  Set::transpose(row, 1, reinterpret_cast<std::byte*>(panel));
  for (std::size_t w = 0; w < words; ++w) {
    for (std::size_t i = 0; i < simd::lanes; ++i) {
      REQUIRE(panel[w][i] == (w >= 1 && w <= Set::transposed_words ? rows[i * words + w] : 0u));
    }
  }
}
TEST_CASE_TEMPLATE_APPLY(turns, Sets);

TEST_CASE_TEMPLATE_DEFINE("each instruction set takes exact sums of products of bytes", Set, multiplies) {
  Random random(5);
  for (int round = 0; round < 100; ++round) {
    check_dot<Set, 15>(random, round == 0);
    check_dot<Set, 63>(random, round == 0);
    check_dot<Set, 255>(random, round == 0);
  }
  // each code of up to 6 bits is lowered by 32, and the sum is multiplied with a signed byte
  using Dot = typename Set::template ScaledDot<Set, 32>;
  for (int round = 0; round < 100; ++round) {
    std::int8_t inputs[Dot::inputs];
    for (auto& x : inputs)
      x = static_cast<std::int8_t>(round == 0 ? -127 : static_cast<int>(random.next() % 255) - 127);
    Dot dot = Dot::from(Dot::start(inputs));
    std::array<std::int32_t, simd::lanes> expected{};
    for (std::size_t i = 0; i < Dot::inputs; i += simd::quad) {
      const Bytes codes = random_bytes(random, 63);
      std::byte input[Dot::input_bytes];
      Dot::put(inputs + i, input);
      typename Dot::Step steps[Dot::steps];
      Dot::split(simd::BasicQuads<Set>::load(codes.data()), steps);
      for (std::size_t k = 0; k < Dot::steps; ++k) dot.add(steps[k], Dot::input(input + k * simd::quad));
      for (std::size_t b = 0; b < group_bytes; ++b) {
        expected[b / simd::quad] += (std::to_integer<int>(codes[b]) - 32) * inputs[i + b % simd::quad];
      }
    }
    const Bytes scales = random_bytes(random);
    for (std::size_t byte = 0; byte < simd::quad; ++byte) {
      const simd::BasicSums<Set> sums = dot.sums(Dot::scales(simd::BasicQuads<Set>::load(scales.data()), byte));
      std::array<std::int32_t, simd::lanes> found;
      std::memcpy(found.data(), &sums, sizeof found);
      for (std::size_t i = 0; i < simd::lanes; ++i) {
        REQUIRE(found[i] == expected[i] * static_cast<std::int8_t>(scales[i * simd::quad + byte]));
      }
    }
  }
}
TEST_CASE_TEMPLATE_APPLY(multiplies, Sets);

TEST_CASE("products of pairs of small whole numbers are exact, with an instruction for them and without") {
  Random random(6);
  for (int round = 0; round < 100; ++round) {
    const auto small = [&] { return static_cast<float>(static_cast<int>(random.next() % 255) - 127); };
    float w[2 * simd::lanes], x[2];
    Floats acc;
    for (auto& v : w) v = small();
    for (auto& v : x) v = small();
    for (auto& v : acc) v = 100.0f * small();
    std::byte weights[simd::lanes * simd::pair_bytes], input[simd::pair_bytes];
    simd::put_pairs(w, 2 * simd::lanes, weights);
    simd::put_pairs(x, 2, input);
    Floats found;
    simd::add_products(simd::Pairs::load(weights), simd::Pairs::broadcast(input), simd::Lanes::load(acc.data()))
        .store(found.data());
    for (std::size_t i = 0; i < simd::lanes; ++i) {
      REQUIRE(found[i] == acc[i] + w[2 * i] * x[0] + w[2 * i + 1] * x[1]);
    }
    Scalar::PairGroup plain_weights, plain_input;
    Scalar::load_pairs(weights, plain_weights);
    Scalar::broadcast_pair(input, plain_input);
    for (std::size_t i = 0; i < simd::registers; ++i) {
      const auto sums = simd::FloatBatch::load_unaligned(acc.data() + i * simd::FloatBatch::size);
      const simd::FloatBatch plain = Scalar::add_products(plain_weights[i], plain_input[i], sums);
      for (std::size_t k = 0; k < simd::FloatBatch::size; ++k) {
        REQUIRE(plain.get(k) == found[i * simd::FloatBatch::size + k]);
      }
    }
  }
}
