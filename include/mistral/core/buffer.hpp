// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <span>
#include <type_traits>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Asks for memory whose values are written before they are read: it isn't touched to zero it.
struct Uninitialized {};

/// Where memory is taken from: what a caller makes of huge pages, of the memory beside a processor, or to count. It
/// must outlive whatever it gave memory to. Where none is named it is the standard's default resource as it is then,
/// which is operator new unless the program has set another.
using MemoryResource = std::pmr::memory_resource;

/// Owned memory for `size` values of T, zeroed unless told otherwise, at the start of a cache line: what weights,
/// caches and activations live in. Allocates once, when it is made; moves, and doesn't copy. Without a resource (null)
/// it takes no memory and has no values: it only says how many belong there, for one that is moved into it.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::size_t alignment = 64;  ///< bytes: a cache line

  Buffer() = default;
  /// `size` values of no particular value.
  Buffer(std::size_t size, Uninitialized, MemoryResource* memory = std::pmr::get_default_resource())
      : data_(memory == nullptr ? nullptr : static_cast<T*>(memory->allocate(size * sizeof(T), alignment)),
              Free{memory, size * sizeof(T)}),
        size_(size) {}
  /// `size` values of 0.
  explicit Buffer(std::size_t size, MemoryResource* memory = std::pmr::get_default_resource())
      : Buffer(size, Uninitialized{}, memory) {
    if (memory != nullptr) std::uninitialized_value_construct_n(data_.get(), size);
  }

  /// Its memory: `size()` values from `data()` on.
  ///@{
  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

  /// Where its memory was taken from; null where it has none.
  MemoryResource* memory() const noexcept { return data_.get_deleter().memory; }
  std::span<T> span() noexcept { return {data_.get(), size_}; }
  std::span<const T> span() const noexcept { return {data_.get(), size_}; }
  ///@}

 private:
  struct Free {
    MemoryResource* memory = nullptr;
    std::size_t bytes = 0;
    void operator()(T* p) const noexcept { memory->deallocate(p, bytes, alignment); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};

}}  // namespace mistral
