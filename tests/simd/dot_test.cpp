// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <cstring>

#include <doctest/doctest.h>

#include <mistral/core/random.hpp>
#include <mistral/simd/scaled_dot.hpp>

using namespace mistral;

namespace {

// Eight quads of a block, 16 rows of codes and one of inputs, through Dot and as plain sums.
template <unsigned MaxCode>
void check_block(const std::array<std::array<std::uint8_t, simd::Quads::bytes>, 8>& codes,
                 const std::array<std::int8_t, 32>& inputs) {
  using Dot = simd::Dot<MaxCode>;
  Dot dot = Dot::zero();
  std::array<std::int32_t, simd::lanes> expected{};
  for (std::size_t i = 0; i < 8; ++i) {
    const std::int8_t four[simd::quad] = {inputs[4 * i], inputs[4 * i + 1], inputs[4 * i + 2], inputs[4 * i + 3]};
    std::byte input[Dot::input_bytes];
    Dot::put(four, input);
    typename Dot::Step steps[Dot::steps];
    Dot::split(simd::Quads::load(reinterpret_cast<const std::byte*>(codes[i].data())), steps);
    for (std::size_t k = 0; k < Dot::steps; ++k) dot.add(steps[k], Dot::input(input + k * simd::quad));
    for (std::size_t lane = 0; lane < simd::lanes; ++lane) {
      for (std::size_t k = 0; k < simd::quad; ++k) {
        expected[lane] += static_cast<std::int32_t>(codes[i][lane * simd::quad + k]) * four[k];
      }
    }
  }
  constexpr std::int32_t offset = -12345;
  float sums[simd::lanes];
  dot.sums().plus(offset).store(sums);
  for (std::size_t lane = 0; lane < simd::lanes; ++lane) {
    REQUIRE(sums[lane] == static_cast<float>(expected[lane] + offset));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("a dot product of bytes is the exact sum, whatever the codes and the inputs", Max,
                   std::integral_constant<unsigned, 15>, std::integral_constant<unsigned, 63>,
                   std::integral_constant<unsigned, 255>) {
  Random random(1);
  std::array<std::array<std::uint8_t, simd::Quads::bytes>, 8> codes;
  std::array<std::int8_t, 32> inputs;
  for (int round = 0; round < 200; ++round) {
    for (auto& quads : codes) {
      for (auto& code : quads) code = static_cast<std::uint8_t>(random.next() % (Max::value + 1));
    }
    for (auto& x : inputs) x = static_cast<std::int8_t>(static_cast<int>(random.next() % 255) - 127);
    check_block<Max::value>(codes, inputs);
  }
  // all at their limits: what a sum that saturates, or takes a byte for another sign, gets wrong
  for (auto& quads : codes) quads.fill(static_cast<std::uint8_t>(Max::value));
  for (const int x : {127, -127}) {
    inputs.fill(static_cast<std::int8_t>(x));
    check_block<Max::value>(codes, inputs);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] = static_cast<std::int8_t>(i % 2 == 0 ? 127 : -127);
  check_block<Max::value>(codes, inputs);
}

TEST_CASE("sums of 16 inputs are multiplied with a signed scale of each lane, exactly") {
  using Dot = simd::ScaledDot<32>;
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    const auto extreme = [&](int low, int high) {
      const auto span = static_cast<std::uint64_t>(high - low + 1);
      return round == 0 ? high : round == 1 ? low : low + static_cast<int>(random.next() % span);
    };
    std::int8_t inputs[Dot::inputs];
    for (auto& x : inputs) x = static_cast<std::int8_t>(extreme(-127, 127));
    std::byte scale_bytes[simd::Quads::bytes];
    for (auto& s : scale_bytes) s = static_cast<std::byte>(extreme(-128, 127));
    Dot dot = Dot::from(Dot::start(inputs));
    std::array<std::int32_t, simd::lanes> expected{};
    for (std::size_t i = 0; i < Dot::inputs; i += simd::quad) {
      std::byte codes[simd::Quads::bytes];
      for (auto& c : codes) c = static_cast<std::byte>(extreme(0, 63));
      const std::int8_t four[simd::quad] = {inputs[i], inputs[i + 1], inputs[i + 2], inputs[i + 3]};
      std::byte input[Dot::input_bytes];
      Dot::put(four, input);
      typename Dot::Step steps[Dot::steps];
      Dot::split(simd::Quads::load(codes), steps);
      for (std::size_t k = 0; k < Dot::steps; ++k) dot.add(steps[k], Dot::input(input + k * simd::quad));
      for (std::size_t lane = 0; lane < simd::lanes; ++lane) {
        for (std::size_t k = 0; k < simd::quad; ++k) {
          expected[lane] += (std::to_integer<int>(codes[lane * simd::quad + k]) - 32) * four[k];
        }
      }
    }
    for (std::size_t byte = 0; byte < simd::quad; ++byte) {
      float sums[simd::lanes];
      dot.sums(Dot::scales(simd::Quads::load(scale_bytes), byte)).plus(0).store(sums);
      for (std::size_t lane = 0; lane < simd::lanes; ++lane) {
        const int scale = static_cast<std::int8_t>(scale_bytes[lane * simd::quad + byte]);
        REQUIRE(sums[lane] == static_cast<float>(expected[lane] * scale));
      }
    }
  }
}

TEST_CASE("nibbles, table entries and pairs of bits are taken from each byte of quads") {
  Random random(2);
  std::byte bytes[simd::Quads::bytes];
  for (auto& b : bytes) b = static_cast<std::byte>(random.next());
  const simd::Quads quads = simd::Quads::load(bytes);
  std::byte same[simd::Quads::bytes], low[simd::Quads::bytes], high[simd::Quads::bytes];
  quads.store(same);
  quads.low_nibbles().store(low);
  quads.high_nibbles().store(high);
  std::uint8_t table[16];
  for (auto& entry : table) entry = static_cast<std::uint8_t>(random.next());
  std::byte found[simd::Quads::bytes];
  quads.low_nibbles().look_up(table).store(found);
  CHECK(std::memcmp(same, bytes, sizeof bytes) == 0);
  for (std::size_t i = 0; i < simd::Quads::bytes; ++i) {
    CHECK(low[i] == (bytes[i] & std::byte{15}));
    CHECK(high[i] == (bytes[i] >> 4));
    CHECK(std::to_integer<int>(found[i]) == table[std::to_integer<std::size_t>(low[i])]);
  }
  std::byte six[simd::Quads::bytes], joined[simd::Quads::bytes];
  quads.low_6_bits().store(six);
  simd::Quads::of_upper_bits(quads, simd::Quads::load(low), simd::Quads::load(found)).store(joined);
  for (std::size_t i = 0; i < simd::Quads::bytes; ++i) {
    CHECK(six[i] == (bytes[i] & std::byte{63}));
    CHECK(joined[i] == ((bytes[i] >> 6) | ((low[i] >> 6) << 2) | ((found[i] >> 6) << 4)));
  }
}
