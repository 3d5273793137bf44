// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/lanes.hpp>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/// The limits of the machine that a figure is held against, measured by plain loops beside it, in the same minute.
namespace mistral::bench {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Runs f(thread) on that many threads and gives the seconds until the last is done.
template <class F>
double timed_on(std::size_t threads, const F& f) {
  const double begin = seconds();
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < threads; ++t) others.emplace_back([&f, t] { f(t); });
  f(std::size_t{0});
  for (std::thread& thread : others) thread.join();
  return seconds() - begin;
}

/// Memory straight from the system, with or without huge pages, every page touched.
class Region {
 public:
  Region(std::size_t bytes, bool huge_pages) : bytes_(bytes) {
    void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(p);
    madvise(data_, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    auto* const words = reinterpret_cast<std::uint64_t*>(data_);
    for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); ++i) words[i] = i * 0x9e3779b97f4a7c15u;
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() { munmap(data_, bytes_); }

  const std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

/// Keeps a result alive without storing it.
template <class T>
inline void keep(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

/// Sums `bytes` from p, as S streams that lie side by side.
template <std::size_t S>
inline void read_all(const std::byte* p, std::size_t bytes) {
  constexpr std::size_t step = 2 * sizeof(simd::Lanes);
  const std::size_t stream = bytes / S / step * step;
  simd::BitsBatch sums[S][4];
  for (auto& row : sums) {
    for (auto& sum : row) sum = simd::BitsBatch(0u);
  }
  constexpr std::size_t batch = sizeof(simd::BitsBatch);
  for (std::size_t i = 0; i < stream; i += 4 * batch) {
    for (std::size_t s = 0; s < S; ++s) {
      for (std::size_t j = 0; j < 4; ++j) {
        sums[s][j] +=
            simd::BitsBatch::load_unaligned(reinterpret_cast<const std::uint32_t*>(p + s * stream + i + j * batch));
      }
    }
  }
  keep(sums);
}

/// The read bandwidth of plain loops over 2 GiB: 1 or 4 streams a thread, huge pages or not, on the threads of the
/// caller's TBB arena, which are those that the work beside it runs on.
class ReadBandwidth {
  static constexpr std::size_t bytes = std::size_t{2} << 30;

 public:
  static constexpr std::size_t memory_bytes = 2 * bytes;  ///< that it takes

  /// Each loop reads the next quarter of the memory. Turns that stand between parts of some work see the machine as the
  /// work does: quick or slow, and for as long.
  void turn() {
    const std::size_t share = bytes / 4;
    const std::size_t first = turns_++ % 4 * share;
    for (Loop& loop : loops_) {
      const double begin = seconds();
      parallel::for_ranges(share / piece, 1, [&](std::size_t from, std::size_t to) {
        for (; from < to; ++from) loop.read(loop.region->data() + first + from * piece, piece);
      });
      loop.seconds += seconds() - begin;
      loop.bytes += static_cast<double>(share);
    }
  }

  /// Bytes per second of the loop that was the best one over all turns since the last call.
  double best() {
    double rate = 0.0;
    for (Loop& loop : loops_) {
      rate = std::max(rate, loop.bytes / loop.seconds);
      loop.seconds = loop.bytes = 0.0;
    }
    return rate;
  }

  /// The same of a turn over each quarter.
  double measure() {
    for (int i = 0; i < 4; ++i) turn();
    return best();
  }

 private:
  struct Loop {
    const Region* region;
    void (*read)(const std::byte* p, std::size_t bytes);
    double seconds = 0.0;
    double bytes = 0.0;
  };

  static constexpr std::size_t piece = std::size_t{2} << 20;  // read in 60 us at 35 GB/s: threads end together

  std::size_t turns_ = 0;
  Region plain_{bytes, false};
  Region huge_{bytes, true};
  Loop loops_[4] = {{&plain_, read_all<1>}, {&plain_, read_all<4>}, {&huge_, read_all<1>}, {&huge_, read_all<4>}};
};

/// Multiply-adds of independent accumulators, as many as the registers hold beside the factors, in operations (two a
/// multiply-add) per second.
inline double fp32_peak(std::size_t threads) {
  constexpr std::size_t rounds = 10'000'000;
  constexpr std::size_t accumulators = simd::registers == 1 ? 16 : 12;  // 16 of 32 with AVX-512, 12 of 16 else
  const double time = timed_on(threads, [](std::size_t) {
    simd::FloatBatch sums[accumulators];
    for (auto& sum : sums) sum = simd::FloatBatch(1.0f);
    simd::FloatBatch factor(0.999999f);
    simd::FloatBatch term(1e-7f);
    asm volatile("" : "+m"(factor), "+m"(term));  // not constants to the compiler
    for (std::size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
      for (auto& sum : sums) sum = xsimd::fma(sum, factor, term);
    }
    keep(sums);
  });
  return static_cast<double>(2 * rounds * accumulators * simd::FloatBatch::size * threads) / time;
}

/// The same of bfloat16 pairs added to floats; 0 where the machine has no such instruction.
inline double bf16_peak([[maybe_unused]] std::size_t threads) {
#if defined(__AVX512BF16__)
  constexpr std::size_t rounds = 10'000'000;
  const double time = timed_on(threads, [](std::size_t) {
    __m512 sums[16];
    for (auto& sum : sums) sum = _mm512_set1_ps(1.0f);
    __m512bh factor = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(-0.5f));
    __m512bh term = factor;
    asm volatile("" : "+m"(factor), "+m"(term));
    for (std::size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
      for (auto& sum : sums) sum = _mm512_dpbf16_ps(sum, factor, term);
    }
    keep(sums);
  });
  return static_cast<double>(2 * rounds * 16 * 32 * threads) / time;
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  constexpr std::size_t rounds = 10'000'000;
  const double time = timed_on(threads, [](std::size_t) {
    float32x4_t sums[16];
    for (auto& sum : sums) sum = vdupq_n_f32(1.0f);
    bfloat16x8_t factor = vdupq_n_bf16(vcvth_bf16_f32(0.5f));
    bfloat16x8_t term = vdupq_n_bf16(vcvth_bf16_f32(-0.5f));
    asm volatile("" : "+w"(factor), "+w"(term));
    for (std::size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
      for (auto& sum : sums) sum = vbfdotq_f32(sum, factor, term);
    }
    keep(sums);
  });
  return static_cast<double>(2 * rounds * 16 * 8 * threads) / time;
#else
  return 0.0;
#endif
}

#if defined(__AVX512VNNI__) || defined(__AVX2__) || defined(__ARM_FEATURE_DOTPROD)
#define MISTRAL_BENCH_INT8_PEAK
#endif

/// Dot products of unsigned and signed bytes, summed in 32 bits, in operations per second: vpdpbusd, the three
/// instructions that AVX2 has for it, usdot, or sdot, for which weights must be signed; 0 where there is none of them.
inline double int8_peak([[maybe_unused]] std::size_t threads) {
#if defined(MISTRAL_BENCH_INT8_PEAK)
#if defined(__aarch64__)
  using Register = int32x4_t;
  constexpr std::size_t accumulators = 16;
  const auto all = [](int x) { return vdupq_n_s32(x); };
  const auto multiply_add = [](Register sum, Register w, Register x, Register) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
    return vusdotq_s32(sum, vreinterpretq_u8_s32(w), vreinterpretq_s8_s32(x));
#else
    return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
#endif
  };
#elif defined(__AVX512F__)
  using Register = __m512i;
  constexpr std::size_t accumulators = 16;
  const auto all = [](int x) { return _mm512_set1_epi32(x); };
  const auto multiply_add = [](Register sum, Register w, Register x, [[maybe_unused]] Register ones) {
#if defined(__AVX512VNNI__)
    // where the sum is: of the intrinsic, gcc makes copies to other registers and back
    asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), ones));
#endif
  };
#else
  using Register = __m256i;
  constexpr std::size_t accumulators = 12;  // and the factors: 15 of 16 registers
  const auto all = [](int x) { return _mm256_set1_epi32(x); };
  const auto multiply_add = [](Register sum, Register w, Register x, Register ones) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
  };
#endif
  constexpr std::size_t rounds = 10'000'000;
  const double time = timed_on(threads, [&](std::size_t) {
    Register sums[accumulators];
    for (Register& sum : sums) sum = all(0);
    Register w = all(0x01020304);
    Register x = all(0x05060708);
    Register ones = all(0x00010001);
    asm volatile("" : "+m"(w), "+m"(x), "+m"(ones));
    for (std::size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
      for (Register& sum : sums) {
        // or the product would be taken out of the loop
#if defined(__aarch64__)
        asm volatile("" : "+w"(x));
#elif defined(__AVX512F__) && !defined(__AVX512VNNI__)
        asm volatile("" : "+v"(x));
#elif !defined(__AVX512F__)
        asm volatile("" : "+x"(x));
#endif
        sum = multiply_add(sum, w, x, ones);
      }
    }
    keep(sums);
  });
  return static_cast<double>(2 * rounds * accumulators * sizeof(Register) * threads) / time;
#else
  return 0.0;
#endif
}

}  // namespace mistral::bench
