// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <mistral/core/abi.hpp>
#include <mistral/io/os/huge_pages.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Asks the system to back a block by small pages, whatever it does by itself (transparent_hugepage=always) and whoever
/// asked for huge ones (HugePages): of a cache that is written here and there, a page of 2 MiB for each ring would be a
/// gigabyte for a handful of tokens. Attention over a full cache is 2% slower for it, and a token less than that.
/// Blocks that an allocator may keep in a heap beside others' are left alone, since so small a cache takes little.
inline void use_small_pages([[maybe_unused]] std::span<std::byte> block) noexcept {
#if defined(MADV_NOHUGEPAGE)
  constexpr std::size_t least = std::size_t{32} << 20;  // bytes; glibc maps such blocks by themselves
  constexpr std::uintptr_t page = HugePages::page_bytes;
  if (block.size() < least) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(block.data()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(block.data()) + block.size()) / page * page;
  // a wish: a system that has no huge pages refuses it, and needs none
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_NOHUGEPAGE);
#endif
}

}}}  // namespace mistral::detail
