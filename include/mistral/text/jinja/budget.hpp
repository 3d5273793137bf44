// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The limits of a template, whatever stands in it. The defaults end a hostile template within about a second, and
/// leave room for a conversation of some ten thousand messages.
struct Limits {
  std::uint64_t steps = 10'000'000;            ///< expressions evaluated, elements visited, 64 bytes of text looked at
  std::size_t bytes = std::size_t{256} << 20;  ///< of all texts and lists that are ever made, together
  std::size_t output = std::size_t{64} << 20;  ///< bytes of one text, what is rendered among them
  std::size_t depth = 400;                     ///< of calls, statements and expressions within each other
  std::size_t source = std::size_t{1} << 20;   ///< bytes of the template itself
  static constexpr std::size_t nesting = 100;  ///< of lists and dicts within each other
  static constexpr std::size_t syntax = 100;   ///< of statements and expressions within each other as they are written
  static constexpr std::int64_t range = 100'000;  ///< elements of a range()
};

/// An error of a template, or of what it is given, before its place is known.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The rest of the limits, which a rendering uses up.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), steps_(limits.steps), bytes_(limits.bytes) {}

  const Limits& limits() const noexcept { return limits_; }

  /// Takes steps. Throws Fault where none are left, as the functions below do.
  void step(std::uint64_t count = 1) {
    if (count > steps_) {
      steps_ = 0;
      throw Fault("the template takes more than " + std::to_string(limits_.steps) + " steps");
    }
    steps_ -= count;
  }

  /// Takes the steps of a look at so many bytes.
  void look(std::size_t bytes) { step(1 + bytes / 64); }

  /// Takes memory, and the steps of filling it.
  void take(std::size_t bytes) {
    look(bytes);
    if (bytes > bytes_) {
      bytes_ = 0;
      throw Fault("the template makes more than " + std::to_string(limits_.bytes) + " bytes of text and lists");
    }
    bytes_ -= bytes;
  }

  /// Takes the memory of a text of this size, which is made.
  void take_text(std::size_t size) {
    if (size > limits_.output) {
      throw Fault("the template makes a text of more than " + std::to_string(limits_.output) + " bytes");
    }
    take(size + 64);
  }

  /// Counts a level of depth while it lives.
  class Level {
   public:
    explicit Level(Budget& budget) : budget_(budget) {
      if (budget_.depth_ == budget_.limits_.depth) {
        throw Fault("the template goes deeper than " + std::to_string(budget_.limits_.depth) + " levels");
      }
      ++budget_.depth_;
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --budget_.depth_; }

   private:
    Budget& budget_;
  };

 private:
  Limits limits_;
  std::uint64_t steps_;
  std::size_t bytes_;
  std::size_t depth_ = 0;
};

}}}  // namespace mistral::jinja
