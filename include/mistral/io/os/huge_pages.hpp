// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory_resource>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <mistral/core/buffer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Memory for weights in pages of 2 MiB, where the system has them: Linux, unless /sys/kernel/mm/transparent_hugepage
/// says `never`; elsewhere it is another's memory as it is. Reading all weights for each token meets a page of 4 KiB
/// about every hundred nanoseconds (at 40 GB/s), and the processor remembers the places of a few thousand: each of the
/// others costs a walk through tables that are in no cache either.
///
/// Give it to `load`, to sessions, or to the whole program by std::pmr::set_default_resource. The last leaves the
/// caches of sessions and batches in small pages: they are written here and there, and would take a huge page for each
/// ring.
class HugePages final : public MemoryResource {
 public:
  static constexpr std::size_t page_bytes = std::size_t{2} << 20;  ///< and what it begins at

  /// Takes all of it from `memory`, of which blocks of a page and more begin at one.
  explicit HugePages(MemoryResource* memory = std::pmr::new_delete_resource()) noexcept : memory_(memory) {}

 private:
  /// The end of a block, less than a page, is left in small ones: nothing is taken that isn't used.
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    void* const block = memory_->allocate(bytes, alignment_of(bytes, alignment));
#if defined(MADV_HUGEPAGE)
    // a wish: where it can't be had, pages are small
    if (bytes >= page_bytes) (void)madvise(block, bytes / page_bytes * page_bytes, MADV_HUGEPAGE);
#endif
    return block;
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
    memory_->deallocate(block, bytes, alignment_of(bytes, alignment));
  }
  bool do_is_equal(const MemoryResource& other) const noexcept override { return this == &other; }

  static std::size_t alignment_of(std::size_t bytes, std::size_t alignment) noexcept {
    return bytes < page_bytes ? alignment : (std::max)(alignment, page_bytes);
  }

  MemoryResource* memory_;
};

}}  // namespace mistral
