// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstddef>
#include <span>

#include <mistral/core/buffer.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// One block of memory that is given out in parts, one behind the other, and given back as a whole. A cache has some
/// hundred rings: in a block of their own they cost one request to the system, and its pages hold nothing else, so that
/// what is never written is never taken. It must outlive the buffers that it gave memory to.
class Arena final : public MemoryResource {
 public:
  /// Takes `bytes` from `memory`: the sum of part_bytes() over all that is asked of it later.
  Arena(std::size_t bytes, MemoryResource* memory) : block_(bytes, Uninitialized{}, memory) {}

  /// Returns the bytes that a part of so many takes: each begins at a cache line.
  static constexpr std::size_t part_bytes(std::size_t bytes) noexcept {
    return (bytes + alignment - 1) / alignment * alignment;
  }

  /// The whole block.
  std::span<std::byte> block() noexcept { return block_.span(); }

 private:
  static constexpr std::size_t alignment = Buffer<std::byte>::alignment;

  void* do_allocate(std::size_t bytes, [[maybe_unused]] std::size_t aligned_to) override {
    assert(aligned_to <= alignment && part_bytes(bytes) <= block_.size() - used_ && "arena: more than it was made for");
    void* const part = block_.data() + used_;
    used_ += part_bytes(bytes);
    return part;
  }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const MemoryResource& other) const noexcept override { return this == &other; }

  Buffer<std::byte> block_;
  std::size_t used_ = 0;
};

}}}  // namespace mistral::detail
