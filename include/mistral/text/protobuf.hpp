// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Walks the fields of one protobuf message (the wire format of protobuf.dev/programming-guides/encoding) without
/// owning or copying it. Every length is checked against what is left of the message; what doesn't fit is an Error that
/// names the file and the byte.
///
///     while (reader.next()) {
///       switch (reader.field()) { case 1: use(reader.bytes()); break; default: reader.skip(); }
///     }
class ProtobufReader {
 public:
  /// `name` is the file that errors name; `offset` is where the message starts in it.
  ProtobufReader(std::span<const std::byte> message, std::string_view name, std::size_t offset = 0)
      : message_(message), name_(name), offset_(offset) {}

  /// Goes to the next field; false at the end of the message. The field's value must then be read or skipped.
  bool next() {
    if (at_ == message_.size()) return false;
    const std::uint64_t tag = read_varint();
    if (tag > 0xffffffffu || (tag >> 3) == 0) fail("a field number", "1 ... 536870911", std::to_string(tag >> 3));
    field_ = static_cast<std::uint32_t>(tag >> 3);
    wire_ = static_cast<std::uint32_t>(tag & 7u);
    return true;
  }

  std::uint32_t field() const noexcept { return field_; }

  std::uint64_t varint() {
    expect_wire(0);
    return read_varint();
  }

  bool boolean() { return varint() != 0; }

  float float32() {
    expect_wire(5);
    return std::bit_cast<float>(read_little_endian_32());
  }

  /// The bytes of a string or bytes field; they stay where they are.
  std::string_view text() {
    const std::span<const std::byte> value = bytes();
    return {reinterpret_cast<const char*>(value.data()), value.size()};
  }

  /// A reader of the field's nested message.
  ProtobufReader message() {
    const std::span<const std::byte> value = bytes();
    return {value, name_, offset_ + at_ - value.size()};
  }

  void skip() {
    switch (wire_) {
      case 0:
        read_varint();
        return;
      case 1:
        take(8);
        return;
      case 2:
        bytes();
        return;
      case 5:
        take(4);
        return;
      default:
        fail("a wire type", "0, 1, 2 or 5", std::to_string(wire_));
    }
  }

 private:
  [[noreturn]] void fail(std::string_view what, std::string_view expected, std::string_view found) const {
    throw Error("tokenizer",
                std::string(name_) + ": not a SentencePiece model: " + std::string(what) + " at byte " +
                    std::to_string(offset_ + at_),
                expected, found);
  }

  void expect_wire(std::uint32_t wire) const {
    if (wire_ != wire) {
      fail("the wire type of field " + std::to_string(field_), std::to_string(wire), std::to_string(wire_));
    }
  }

  std::span<const std::byte> take(std::uint64_t count) {
    const std::size_t left = message_.size() - at_;
    if (count > left) fail("a field's length", "at most " + std::to_string(left), std::to_string(count));
    const auto value = message_.subspan(at_, static_cast<std::size_t>(count));
    at_ += static_cast<std::size_t>(count);
    return value;
  }

  std::span<const std::byte> bytes() {
    expect_wire(2);
    return take(read_varint());
  }

  std::uint64_t read_varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = std::to_integer<std::uint64_t>(take(1)[0]);
      value |= (byte & 0x7fu) << shift;
      if (byte < 0x80u) return value;
    }
    fail("a varint", "at most 10 bytes", "more");
  }

  std::uint32_t read_little_endian_32() {
    const auto raw = take(4);
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(raw[i]) << (8 * i);
    return value;
  }

  std::span<const std::byte> message_;
  std::string_view name_;
  std::size_t offset_ = 0;
  std::size_t at_ = 0;
  std::uint32_t field_ = 0;
  std::uint32_t wire_ = 0;
};

}}}  // namespace mistral::detail
