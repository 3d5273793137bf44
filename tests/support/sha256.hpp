// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mistral::test {

/// SHA-256 (FIPS 180-4) of some bytes, as 64 hexadecimal digits.
inline std::string sha256(std::span<const std::byte> bytes) {
  // The constants are the first 32 bits of the fractions of square and cube roots of the first primes: computed here
  // in 64-bit integers, since doubles would do for the square roots alone.
  const auto root_fraction = [](std::uint64_t prime, int degree) {
    // the largest r with r^degree <= prime x 2^(32 degree), in 128 bits and more by comparing digit by digit
    std::uint64_t root = 0;
    for (int bit = 37; bit >= 0; --bit) {
      const std::uint64_t next = root | std::uint64_t{1} << bit;
      unsigned __int128 power = static_cast<unsigned __int128>(next) * next;
      unsigned __int128 bound = static_cast<unsigned __int128>(prime) << 64;
      if (degree == 3) {
        // next^3 <= prime x 2^96  <=>  floor(next^2 / 2^32) x next + rest <= prime x 2^64
        const unsigned __int128 high = (power >> 32) * next;
        const unsigned __int128 low = (power & 0xffffffffu) * next;
        power = high + (low >> 32);
      }
      if (power < bound || (degree == 2 && power == bound)) root = next;
    }
    return static_cast<std::uint32_t>(root);
  };
  static const auto constants = [&] {
    std::vector<std::uint64_t> primes;
    for (std::uint64_t n = 2; primes.size() < 64; ++n) {
      bool prime = true;
      for (const std::uint64_t p : primes) prime = prime && n % p != 0;
      if (prime) primes.push_back(n);
    }
    std::array<std::uint32_t, 72> all{};
    for (std::size_t i = 0; i < 8; ++i) all[i] = root_fraction(primes[i], 2);
    for (std::size_t i = 0; i < 64; ++i) all[8 + i] = root_fraction(primes[i], 3);
    return all;
  }();

  std::vector<std::byte> message(bytes.begin(), bytes.end());
  message.push_back(std::byte{0x80});
  while (message.size() % 64 != 56) message.push_back(std::byte{0});
  for (int shift = 56; shift >= 0; shift -= 8) {
    message.push_back(static_cast<std::byte>(std::uint64_t{bytes.size()} * 8 >> shift & 0xff));
  }

  std::array<std::uint32_t, 8> hash;
  for (std::size_t i = 0; i < 8; ++i) hash[i] = constants[i];
  for (std::size_t chunk = 0; chunk < message.size(); chunk += 64) {
    std::array<std::uint32_t, 64> w;
    for (std::size_t i = 0; i < 16; ++i) {
      w[i] = 0;
      for (std::size_t k = 0; k < 4; ++k) w[i] = w[i] << 8 | std::to_integer<std::uint32_t>(message[chunk + 4 * i + k]);
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
      const std::uint32_t b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    auto [a, b, c, d, e, f, g, h] = hash;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t one = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t first = h + one + ((e & f) ^ (~e & g)) + constants[8 + i] + w[i];
      const std::uint32_t two = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t second = two + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::uint32_t rest[] = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) hash[i] += rest[i];
  }
  std::string text;
  for (const std::uint32_t word : hash) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 0xf];
  }
  return text;
}

}  // namespace mistral::test
