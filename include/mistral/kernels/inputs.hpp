#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <mistral/core/buffer.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/format/integer_format.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Inputs that share a scale.
inline constexpr std::size_t input_block = 32;

/// Quantises 32 activations: codes[i] = round(x[i] / scale) with scale = max|x| / 127, so that an activation is off by
/// at most half of the scale. Returns the scale: NaN, with codes of 0, where an activation isn't finite, so that the
/// outputs are NaN too.
inline float quantize_block(const float* x, std::int8_t* codes, std::int32_t& sum) noexcept {
#if defined(__AVX2__)
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 v[4];
  __m256 largest = _mm256_setzero_ps();
  __m256 probe = _mm256_setzero_ps();  // x - x: 0, or NaN for what isn't finite
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v[i]));
    probe = _mm256_or_ps(probe, _mm256_sub_ps(v[i], v[i]));
  }
  const bool finite = _mm256_movemask_ps(_mm256_cmp_ps(probe, probe, _CMP_UNORD_Q)) == 0;
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  half = _mm_max_ss(half, _mm_movehdup_ps(half));
  const float magnitude = finite ? _mm_cvtss_f32(half) : 0.0f;
  const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;  // below, the quotient would overflow
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i n[4];
  for (int i = 0; i < 4; ++i) {
    n[i] = finite ? _mm256_cvtps_epi32(_mm256_mul_ps(v[i], factor)) : _mm256_setzero_si256();
  }
  const __m256i sums = _mm256_add_epi32(_mm256_add_epi32(n[0], n[1]), _mm256_add_epi32(n[2], n[3]));
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  sum = _mm_cvtsi128_si32(s);
  // Packing works within halves of registers: the permutation puts the fours of bytes back in order.
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes),
                      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
#else
  float magnitude = 0.0f;
  bool finite = true;
  for (std::size_t i = 0; i < input_block; ++i) {
    finite &= std::isfinite(x[i]);
    magnitude = std::max(magnitude, std::abs(x[i]));
  }
  if (!finite) magnitude = 0.0f;
  const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;
  sum = 0;
  for (std::size_t i = 0; i < input_block; ++i) {
    const auto code = finite ? static_cast<std::int32_t>(std::nearbyint(x[i] * inverse)) : 0;
    codes[i] = static_cast<std::int8_t>(code);
    sum += code;
  }
#endif
  return finite ? magnitude / 127.0f : std::numeric_limits<float>::quiet_NaN();
}

/// Activations (tokens, cols) as weights of the format F are multiplied with them: floats as they are.
template <WeightFormat F>
struct Inputs {
  Rows<const float> x;

  std::size_t rows() const noexcept { return x.rows(); }
  std::size_t cols() const noexcept { return x.cols(); }
};

/// For integer formats: bytes with a scale and a first value of the sum for each block of 32, all row after row.
template <IntegerFormat F>
struct Inputs<F> {
  using Dot = simd::Dot<F::max_code>;
  static constexpr std::size_t block_bytes = input_block / simd::quad * Dot::input_bytes;

  const std::byte* codes;       ///< (tokens, blocks, block_bytes) quads in the form that Dot reads
  const float* scales;          ///< (tokens, blocks)
  const std::int32_t* offsets;  ///< (tokens, blocks) -zero x (sum of the block's codes)
  std::size_t tokens;
  std::size_t inputs;

  std::size_t rows() const noexcept { return tokens; }
  std::size_t cols() const noexcept { return inputs; }
  std::size_t blocks() const noexcept { return (inputs + input_block - 1) / input_block; }
};

/// Memory for what `prepare` makes of activations: none for formats that take floats.
template <WeightFormat F>
class InputBuffer {
 public:
  InputBuffer(std::size_t, std::size_t) noexcept {}
  static constexpr std::size_t bytes(std::size_t, std::size_t) noexcept { return 0; }

  /// Activations (tokens, cols), ready to be multiplied with any number of matrices of the format.
  Inputs<F> prepare(Rows<const float> x) noexcept { return {x}; }
};

template <IntegerFormat F>
class InputBuffer<F> {
 public:
  /// For up to `tokens` rows of up to `cols` inputs.
  InputBuffer(std::size_t tokens, std::size_t cols)
      : codes_(tokens * blocks(cols) * Inputs<F>::block_bytes),
        scales_(tokens * blocks(cols)),
        offsets_(tokens * blocks(cols)) {}

  static constexpr std::size_t bytes(std::size_t tokens, std::size_t cols) noexcept {
    return tokens * blocks(cols) * (Inputs<F>::block_bytes + sizeof(float) + sizeof(std::int32_t));
  }

  /// Quantises activations (tokens, cols), each row by itself. Valid until the next call.
  Inputs<F> prepare(Rows<const float> x) noexcept {
    const std::size_t count = blocks(x.cols());
    assert(x.rows() * count <= scales_.size());
    parallel::for_ranges(x.rows(), rows_per_task(x.cols()), [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t) {
        for (std::size_t b = 0; b < count; ++b) put(x.row(t).subspan(b * input_block), t * count + b);
      }
    });
    return {codes_.data(), scales_.data(), offsets_.data(), x.rows(), x.cols()};
  }

 private:
  static constexpr std::size_t blocks(std::size_t cols) noexcept { return (cols + input_block - 1) / input_block; }

  void put(std::span<const float> x, std::size_t block) noexcept {
    float padded[input_block] = {};
    const float* values = x.data();
    if (x.size() < input_block) {  // the end of a row: inputs that aren't there are zeros
      std::copy(x.begin(), x.end(), padded);
      values = padded;
    }
    std::int8_t codes[input_block];
    std::int32_t sum = 0;
    scales_.data()[block] = quantize_block(values, codes, sum);
    offsets_.data()[block] = -F::zero * sum;
    std::byte* out = codes_.data() + block * Inputs<F>::block_bytes;
    for (std::size_t i = 0; i < input_block; i += simd::quad, out += Inputs<F>::Dot::input_bytes) {
      const std::int8_t four[simd::quad] = {codes[i], codes[i + 1], codes[i + 2], codes[i + 3]};
      Inputs<F>::Dot::put(four, out);
    }
  }

  Buffer<std::byte> codes_;
  Buffer<float> scales_;
  Buffer<std::int32_t> offsets_;
};

}  // namespace mistral::inline MISTRAL_ABI::kernels
