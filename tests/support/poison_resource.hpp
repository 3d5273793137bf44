// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <memory_resource>

namespace mistral::test {

/// Gives memory of operator new in which every number is a NaN, and every offset absurd, until it is written.
struct PoisonResource final : std::pmr::memory_resource {
  std::size_t taken = 0;  ///< bytes in all

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    taken += bytes;
    return std::memset(std::pmr::new_delete_resource()->allocate(bytes, alignment), 0xFF, bytes);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    std::memset(p, 0xFF, bytes);
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

/// Makes a resource the standard's default while it lives.
class DefaultResource {
 public:
  explicit DefaultResource(std::pmr::memory_resource& memory) : before_(std::pmr::set_default_resource(&memory)) {}
  ~DefaultResource() { std::pmr::set_default_resource(before_); }
  DefaultResource(const DefaultResource&) = delete;
  DefaultResource& operator=(const DefaultResource&) = delete;

 private:
  std::pmr::memory_resource* before_;
};

}  // namespace mistral::test
