// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The types of GGUF's metadata; the numbers are the format's.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// A type of values: what errors call it, and the bytes of a value, 0 where they vary.
struct GgufTypeInfo {
  std::string_view name;
  std::size_t bytes;
};

inline constexpr GgufTypeInfo gguf_type_infos[] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},    {"u32", 4},
                                                   {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
                                                   {"u64", 8}, {"i64", 8}, {"f64", 8}};

constexpr const GgufTypeInfo& info(GgufType type) noexcept { return gguf_type_infos[static_cast<std::size_t>(type)]; }

/// A key of GGUF's metadata and its value, which stays in the file.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;   ///< of an array: what its elements are
  std::uint64_t count = 1;           ///< of an array: how many there are
  std::span<const std::byte> bytes;  ///< the value as the file holds it: a string's characters, an array's elements
};

namespace detail {

/// Reads GGUF's little-endian values one after the other, none past the end.
class GgufCursor {
 public:
  static constexpr std::string_view where = "gguf";
  static constexpr int max_depth = 4;  // of arrays in arrays

  /// `file` is what errors call the file, and must outlive the cursor.
  GgufCursor(std::span<const std::byte> bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  std::size_t position() const noexcept { return position_; }
  std::size_t left() const noexcept { return bytes_.size() - position_; }

  /// The next `count` bytes, which hold `what`.
  std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
    if (count > left()) throw at(what, std::to_string(count) + " bytes", std::to_string(left()) + " up to the end");
    position_ += static_cast<std::size_t>(count);
    return bytes_.subspan(position_ - static_cast<std::size_t>(count), static_cast<std::size_t>(count));
  }

  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::string_view string(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const std::span<const std::byte> text = take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  /// The number of things of at least `smallest` bytes each that still have to come.
  std::uint64_t count(std::uint64_t smallest, std::string_view what) {
    const auto number_of = number<std::uint64_t>(what);
    if (number_of > left() / smallest) {
      throw Error(where, std::string(file_).append(": ").append(what), "at most " + std::to_string(left() / smallest),
                  std::to_string(number_of));
    }
    return number_of;
  }

  GgufEntry entry() {
    GgufEntry entry;
    entry.key = string("a key");
    if (entry.key.empty() || entry.key.size() > (std::numeric_limits<std::uint16_t>::max)()) {
      throw at("a key", "1 ... 65535 bytes", std::to_string(entry.key.size()));
    }
    const std::string what = "the value of '" + printable(entry.key) + "'";
    entry.type = type(what);
    if (entry.type == GgufType::string) {
      const std::string_view text = string(what);
      entry.bytes = std::as_bytes(std::span(text.data(), text.size()));
    } else if (entry.type == GgufType::array) {
      entry.element = type(what);
      entry.count = number<std::uint64_t>(what);
      const std::size_t begin = position_;
      skip(entry.element, entry.count, what, 1);
      entry.bytes = bytes_.subspan(begin, position_ - begin);
    } else {
      entry.bytes = take(info(entry.type).bytes, what);
      check_booleans(entry.type, entry.bytes, what);
    }
    return entry;
  }

 private:
  GgufType type(std::string_view what) {
    const auto number_of = number<std::uint32_t>(what);
    if (number_of >= std::size(gguf_type_infos)) {
      throw at(what, "a type of 0 ... " + std::to_string(std::size(gguf_type_infos) - 1), std::to_string(number_of));
    }
    return static_cast<GgufType>(number_of);
  }

  /// Steps over the elements of an array that lies in `depth` - 1 others.
  void skip(GgufType element, std::uint64_t count, std::string_view what, int depth) {
    const auto hold = [&](std::size_t smallest) {
      if (count <= left() / smallest) return;
      throw at(what, "an array of at most " + std::to_string(left() / smallest) + " elements", std::to_string(count));
    };
    if (element == GgufType::string) {
      hold(sizeof(std::uint64_t));
      for (std::uint64_t i = 0; i < count; ++i) string(what);
    } else if (element == GgufType::array) {
      if (depth == max_depth) throw at(what, "at most " + std::to_string(max_depth) + " arrays in each other", "more");
      hold(sizeof(std::uint32_t) + sizeof(std::uint64_t));
      for (std::uint64_t i = 0; i < count; ++i) {
        const GgufType inner = type(what);
        const auto inner_count = number<std::uint64_t>(what);
        skip(inner, inner_count, what, depth + 1);
      }
    } else {
      hold(info(element).bytes);
      check_booleans(element, take(count * info(element).bytes, what), what);
    }
  }

  void check_booleans(GgufType type, std::span<const std::byte> bytes, std::string_view what) const {
    if (type != GgufType::boolean) return;
    for (const std::byte byte : bytes) {
      if (byte > std::byte{1}) throw at(what, "0 or 1", std::to_string(std::to_integer<int>(byte)));
    }
  }

  Error at(std::string_view what, std::string_view expected, std::string_view found) const {
    return Error(where, std::string(file_).append(": ").append(what).append(" at byte ") + std::to_string(position_),
                 expected, found);
  }

  std::span<const std::byte> bytes_;
  std::string_view file_;
  std::size_t position_ = 0;
};

}  // namespace detail

/// The metadata of a GGUF file. What is asked for and not there, or of another type, is an Error
/// `[gguf] file: key 'llama.block_count': expected ..., got ...`.
class GgufMetadata {
 public:
  /// `entries` in the order of the file, of which errors say `file`. Throws where a key is there twice.
  GgufMetadata(std::vector<GgufEntry> entries, std::string file)
      : entries_(std::move(entries)), file_(std::move(file)) {
    std::sort(entries_.begin(), entries_.end(), [](const GgufEntry& a, const GgufEntry& b) { return a.key < b.key; });
    const auto twice = std::adjacent_find(entries_.begin(), entries_.end(),
                                          [](const GgufEntry& a, const GgufEntry& b) { return a.key == b.key; });
    if (twice != entries_.end()) throw Error(where, what(twice->key) + " is there twice");
  }

  /// All entries, sorted by key.
  std::span<const GgufEntry> entries() const noexcept { return entries_; }

  /// The entry of that key, null where there is none.
  const GgufEntry* find(std::string_view key) const noexcept {
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), key,
                                        [](const GgufEntry& e, std::string_view wanted) { return e.key < wanted; });
    return found != entries_.end() && found->key == key ? &*found : nullptr;
  }
  bool has(std::string_view key) const noexcept { return find(key) != nullptr; }

  /// An integer of any width, from `low` to `high`.
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high) const {
    const GgufEntry& entry = get(key);
    return integer_in(entry, entry.type, entry.bytes.data(), low, high);
  }

  /// Returns the key's integer, or the one that all of an array are: what a writer has that keeps a number for each
  /// layer.
  std::int64_t uniform_integer(std::string_view key, std::int64_t low, std::int64_t high) const {
    const GgufEntry& entry = get(key);
    if (entry.type != GgufType::array) return integer_in(entry, entry.type, entry.bytes.data(), low, high);
    const std::vector<std::int64_t> all = integers(key, low, high);
    if (all.empty()) throw unexpected(key, "an integer");
    for (const std::int64_t one : all) {
      if (one == all[0]) continue;
      throw Error(where, what(key), "the same number for every layer",
                  std::to_string(all[0]) + " and " + std::to_string(one));
    }
    return all[0];
  }

  /// A float of either width, or an integer of any.
  double number(std::string_view key) const {
    const GgufEntry& entry = get(key);
    if (is_integer(entry.type)) {
      return entry.type == GgufType::u64 ? static_cast<double>(value<std::uint64_t>(entry.bytes.data()))
                                         : static_cast<double>(integer_at(entry.type, entry.bytes.data()).first);
    }
    if (entry.type == GgufType::f32) return static_cast<double>(value<float>(entry.bytes.data()));
    if (entry.type == GgufType::f64) return value<double>(entry.bytes.data());
    throw unexpected(key, "a number");
  }

  bool boolean(std::string_view key) const {
    const GgufEntry& entry = get(key, GgufType::boolean, "true or false");
    return entry.bytes[0] != std::byte{0};
  }

  std::string_view string(std::string_view key) const {
    const GgufEntry& entry = get(key, GgufType::string, "a string");
    return {reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()};
  }

  /// How many elements the array of that key has.
  std::uint64_t array_size(std::string_view key) const { return get(key, GgufType::array, "an array").count; }

  std::vector<std::string_view> strings(std::string_view key) const {
    const GgufEntry& entry = array(key, GgufType::string, "an array of strings");
    std::vector<std::string_view> all;
    detail::GgufCursor cursor(entry.bytes, file_);
    for (std::uint64_t i = 0; i < entry.count; ++i) all.push_back(cursor.string("a string"));
    return all;
  }

  std::vector<float> floats(std::string_view key) const {
    const GgufEntry& entry = array(key, GgufType::f32, "an array of f32");
    std::vector<float> all(static_cast<std::size_t>(entry.count));
    if (!all.empty()) std::memcpy(all.data(), entry.bytes.data(), entry.bytes.size());
    return all;
  }

  /// An array of u8, or of i8, which writers in languages without unsigned bytes make.
  std::string octets(std::string_view key) const {
    const GgufEntry& entry = get(key, GgufType::array, "an array of u8");
    if (entry.element > GgufType::i8) throw unexpected(key, "an array of u8");
    return {reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()};
  }

  /// An array of integers of any width, from `low` to `high` each.
  std::vector<std::int64_t> integers(std::string_view key, std::int64_t low, std::int64_t high) const {
    const GgufEntry& entry = get(key, GgufType::array, "an array of integers");
    if (!is_integer(entry.element)) throw unexpected(key, "an array of integers");
    std::vector<std::int64_t> all;
    const std::size_t width = info(entry.element).bytes;
    for (std::size_t i = 0; i < entry.bytes.size(); i += width) {
      all.push_back(integer_in(entry, entry.element, entry.bytes.data() + i, low, high));
    }
    return all;
  }

  /// For the caller's own checks: `[gguf] file: key 'key': expected ..., got <the value>`.
  Error unexpected(std::string_view key, std::string_view expected) const {
    const GgufEntry* const entry = find(key);
    return Error(where, what(key), expected, entry != nullptr ? describe(*entry) : "nothing");
  }

  /// The file, as errors call it.
  const std::string& file() const noexcept { return file_; }

 private:
  static constexpr std::string_view where = "gguf";

  const GgufEntry& get(std::string_view key) const {
    if (const GgufEntry* const entry = find(key)) return *entry;
    throw Error(where, what(key) + " is missing");
  }
  const GgufEntry& get(std::string_view key, GgufType type, std::string_view expected) const {
    const GgufEntry& entry = get(key);
    if (entry.type != type) throw unexpected(key, expected);
    return entry;
  }
  const GgufEntry& array(std::string_view key, GgufType element, std::string_view expected) const {
    const GgufEntry& entry = get(key, GgufType::array, expected);
    if (entry.element != element) throw unexpected(key, expected);
    return entry;
  }

  std::string what(std::string_view key) const { return file_ + ": key '" + printable(key) + "'"; }

  template <class T>
  static T value(const std::byte* from) noexcept {
    T out;
    std::memcpy(&out, from, sizeof out);
    return out;
  }

  static bool is_integer(GgufType type) noexcept {
    return type < GgufType::f32 || type == GgufType::u64 || type == GgufType::i64;
  }

  std::int64_t integer_in(const GgufEntry& entry, GgufType type, const std::byte* from, std::int64_t low,
                          std::int64_t high) const {
    const auto expected = [&] { return "an integer from " + std::to_string(low) + " to " + std::to_string(high); };
    if (type == GgufType::f32 || type == GgufType::f64) {  // 8.0 is a whole number too
      const double real = type == GgufType::f32 ? static_cast<double>(value<float>(from)) : value<double>(from);
      constexpr double exact = 9007199254740992.0;  // 2^53
      const bool whole =
          real >= -exact && real <= exact && static_cast<double>(static_cast<std::int64_t>(real)) == real;
      if (!whole || static_cast<std::int64_t>(real) < low || static_cast<std::int64_t>(real) > high) {
        throw unexpected(entry.key, expected());
      }
      return static_cast<std::int64_t>(real);
    }
    if (!is_integer(type)) throw unexpected(entry.key, expected());
    const auto [integer, fits] = integer_at(type, from);
    if (fits && integer >= low && integer <= high) return integer;
    throw Error(where, what(entry.key), expected(), integer_text(type, from));
  }

  /// The integer, and whether 63 bits hold it.
  static std::pair<std::int64_t, bool> integer_at(GgufType type, const std::byte* from) noexcept {
    switch (type) {
      case GgufType::u8:
        return {value<std::uint8_t>(from), true};
      case GgufType::i8:
        return {value<std::int8_t>(from), true};
      case GgufType::u16:
        return {value<std::uint16_t>(from), true};
      case GgufType::i16:
        return {value<std::int16_t>(from), true};
      case GgufType::u32:
        return {value<std::uint32_t>(from), true};
      case GgufType::i32:
        return {value<std::int32_t>(from), true};
      case GgufType::u64:
        return {value<std::int64_t>(from), value<std::int64_t>(from) >= 0};
      default:
        return {value<std::int64_t>(from), true};
    }
  }

  static std::string integer_text(GgufType type, const std::byte* from) {
    return type == GgufType::u64 ? std::to_string(value<std::uint64_t>(from))
                                 : std::to_string(integer_at(type, from).first);
  }

  static std::string describe(const GgufEntry& entry) {
    const std::byte* const from = entry.bytes.data();
    switch (entry.type) {
      case GgufType::string:
        return "'" + printable({reinterpret_cast<const char*>(from), entry.bytes.size()}, 60) + "'";
      case GgufType::array:
        return "an array of " + std::to_string(entry.count) + " " + std::string(info(entry.element).name);
      case GgufType::boolean:
        return *from != std::byte{0} ? "true" : "false";
      case GgufType::f32:
        return number_text(value<float>(from));
      case GgufType::f64:
        return number_text(value<double>(from));
      default:
        return integer_text(entry.type, from);
    }
  }

  std::vector<GgufEntry> entries_;
  std::string file_;
};

}}  // namespace mistral
