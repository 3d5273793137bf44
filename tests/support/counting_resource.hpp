// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory_resource>

namespace mistral::test {

/// Counts the bytes that are taken from it, and gives them by operator new.
struct CountingResource final : std::pmr::memory_resource {
  std::size_t taken = 0;  ///< in all
  std::size_t held = 0;   ///< of these, not yet given back
  bool aligned = true;    ///< all to the start of a cache line

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    taken += bytes;
    held += bytes;
    aligned = aligned && alignment == 64;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    held -= bytes;
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace mistral::test
