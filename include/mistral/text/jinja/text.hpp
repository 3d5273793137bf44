// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Where the bytes of a text come from.
struct Mark {
  /// 0: the template's own text, in which control tokens may be written. Else data, which stays text; whoever brings
  /// data in may tell texts apart by different numbers.
  std::uint32_t origin = 0;
  bool answer = false;  ///< written inside of a `generation` block
  /// Both are equal.
  friend bool operator==(const Mark&, const Mark&) = default;
};

/// The mark of data that nobody tells apart.
inline constexpr Mark data_mark{1, false};

/// A UTF-8 text that knows of each byte whether the template wrote it or data brought it in. What is cut out of it, put
/// together or replaced keeps the marks of its bytes.
class Text {
 public:
  /// Bytes of one mark, up to `end`; the run before it says where they begin.
  struct Run {
    std::size_t end;
    Mark mark;
  };

  Text() = default;
  explicit Text(std::string bytes, Mark mark = {}) : bytes_(std::move(bytes)) {
    if (!bytes_.empty()) runs_.push_back({bytes_.size(), mark});
  }

  const std::string& bytes() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return bytes_.size(); }
  bool empty() const noexcept { return bytes_.empty(); }

  /// The runs in order, neighbours of different marks.
  const std::vector<Run>& runs() const noexcept { return runs_; }

  /// The mark of the byte at `at`, which must be within the text.
  Mark mark_at(std::size_t at) const noexcept { return run_of(at)->mark; }

  void append(std::string_view bytes, Mark mark) {
    if (bytes.empty()) return;
    bytes_ += bytes;
    end_run(mark);
  }

  void append(const Text& other) { append(other, 0, other.size()); }

  /// Appends the bytes [begin, end) of another text.
  void append(const Text& other, std::size_t begin, std::size_t end) {
    if (begin >= end) return;
    const std::size_t before = bytes_.size();
    bytes_.append(other.bytes_, begin, end - begin);
    std::size_t index = static_cast<std::size_t>(other.run_of(begin) - other.runs_.begin());
    for (;; ++index) {
      const Run run = other.runs_[index];
      end_run_at(before + (std::min)(run.end, end) - begin, run.mark);
      if (run.end >= end) return;
    }
  }

  /// The bytes [begin, end).
  Text slice(std::size_t begin, std::size_t end) const {
    Text part;
    part.append(*this, begin, end);
    return part;
  }

  /// Returns the text as if a `generation` block had written it.
  Text as_answer() const {
    Text text;
    text.bytes_ = bytes_;
    for (const Run& run : runs_) text.end_run_at(run.end, {run.mark.origin, true});
    return text;
  }

  void reserve(std::size_t bytes) { bytes_.reserve(bytes); }

 private:
  std::vector<Run>::const_iterator run_of(std::size_t at) const noexcept {
    return std::upper_bound(runs_.begin(), runs_.end(), at,
                            [](std::size_t wanted, const Run& run) { return wanted < run.end; });
  }

  void end_run(Mark mark) { end_run_at(bytes_.size(), mark); }

  void end_run_at(std::size_t end, Mark mark) {
    if (!runs_.empty() && runs_.back().mark == mark) {
      runs_.back().end = end;
    } else {
      runs_.push_back({end, mark});
    }
  }

  std::string bytes_;
  std::vector<Run> runs_;
};

}}}  // namespace mistral::jinja
