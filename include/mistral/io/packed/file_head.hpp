// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/file_kind.hpp>
#include <mistral/io/os/atomic_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a kind of this library's own files begins. Little-endian:
///
///   8 bytes   magic
///   u32       version
///   u32       0
///   u64       bytes of the header
///   u64       checksum of the header
///   header    what the kind of file says of itself
struct FileHead {
  static constexpr std::size_t preamble_bytes = 32;

  std::string_view where;  ///< of errors: `[where] file: ...`
  std::string_view magic;  ///< 8 bytes
  std::uint32_t version;
  std::uint64_t max_header_bytes;
  std::string_view remedy{};  ///< what is to be done about a file of another version

  /// The header of a file, whose sum is right. `name`: the file's, fit for a line. Throws Error for another kind of
  /// file, another version, and for damage.
  std::span<const std::byte> read(std::span<const std::byte> file, const std::string& name) const {
    if (file.size() < preamble_bytes) {
      throw Error(where, name + ": the file", "at least " + std::to_string(preamble_bytes) + " bytes",
                  std::to_string(file.size()));
    }
    if (std::memcmp(file.data(), magic.data(), magic.size()) != 0) {
      const std::optional<FileKind> kind = file_kind(file);
      if (kind && *kind != FileKind::packed && *kind != FileKind::session) {
        throw foreign_file(file, *kind, where, name, "a file of this library's own");
      }
      throw Error(where, name + ": the magic", "'" + printable(magic) + "'",
                  "'" + printable({reinterpret_cast<const char*>(file.data()), magic.size()}) + "'");
    }
    const std::uint64_t found = number(file, 8);  // the version, and 0
    if (found != version) {
      std::string expected = std::to_string(version);
      if (!remedy.empty()) expected.append(" (").append(remedy).append(")");
      throw Error(where, name + ": the version", expected, std::to_string(found));
    }
    const std::uint64_t size = number(file, 16);
    const std::uint64_t limit = (std::min<std::uint64_t>)(file.size() - preamble_bytes, max_header_bytes);
    if (size > limit) {
      throw Error(where, name + ": the header", "at most " + std::to_string(limit) + " bytes", std::to_string(size));
    }
    const auto header = file.subspan(preamble_bytes, static_cast<std::size_t>(size));
    check_sum(where, name + ": the header's checksum", number(file, 24), header);
    return header;
  }

  void write(AtomicFile& file, std::string_view header) const {
    const auto put = [&](auto value) { file.write(std::as_bytes(std::span(&value, 1))); };
    file.write(magic);
    put(version);
    put(std::uint32_t{0});
    put(std::uint64_t{header.size()});
    put(checksum(std::as_bytes(std::span(header))));
    file.write(header);
  }

  /// Throws Error where the sum of `bytes` is not what the file says, `said`.
  static void check_sum(std::string_view where, const std::string& what, std::uint64_t said,
                        std::span<const std::byte> bytes) {
    const std::uint64_t sum = checksum(bytes);
    if (sum != said) throw Error(where, what, checksum_text(said), checksum_text(sum));
  }

  /// The eight bytes at `at` as a number.
  static std::uint64_t number(std::span<const std::byte> bytes, std::size_t at) noexcept {
    static_assert(std::endian::native == std::endian::little, "files are read as they lie in memory");
    std::uint64_t value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
};

}}  // namespace mistral
