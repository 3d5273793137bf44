#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Asks for memory whose values are written before they are read: it isn't touched to zero it.
struct Uninitialized {};

/// Owned memory for `size` values of T, zeroed unless told otherwise, at the start of a cache line: what weights,
/// caches and activations live in. Allocates once, when it is made; moves, and doesn't copy.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::size_t alignment = 64;

  Buffer() = default;
  Buffer(std::size_t size, Uninitialized)
      : data_(static_cast<T*>(::operator new (size * sizeof(T), std::align_val_t{alignment}))), size_(size) {}
  explicit Buffer(std::size_t size) : Buffer(size, Uninitialized{}) {
    std::uninitialized_value_construct_n(data_.get(), size);
  }

  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  std::span<T> span() noexcept { return {data_.get(), size_}; }
  std::span<const T> span() const noexcept { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(T* p) const noexcept { ::operator delete (p, std::align_val_t{alignment}); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};

}  // namespace mistral::inline MISTRAL_ABI
