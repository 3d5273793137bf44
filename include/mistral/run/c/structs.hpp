// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How structs and results go between a caller of mistral/c.h and the library, who may know different versions of them.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/run/c/call.hpp>

#include <mistral/c.h>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Bytes of a struct in the version that brought it, up to the end of its last member then: what a caller's must have
/// at least.
template <class T>
inline constexpr std::size_t c_least_size = sizeof(T);
template <>
inline constexpr std::size_t c_least_size<mistral_load_options> = offsetof(mistral_load_options, threads);

/// Returns the `size` of a caller's struct.
template <class T>
std::size_t c_size_of(const T& theirs, const char* name) {
  constexpr std::size_t most = 65536;  // more is no size of a struct but memory that was not set
  const std::size_t size = theirs.size;
  if (size >= c_least_size<T> && size <= most) return size;
  const std::string expected = "its size, " + std::to_string(sizeof(T)) + " in this version";
  c_refuse((std::string(name) + "->size").c_str(), expected.c_str(), std::to_string(size));
}

/// Takes a caller's options over the defaults; null leaves these. What a later version added may stand there as zeros
/// only, since nothing that is asked for is left out silently.
template <class T>
T c_options(const T* theirs, T options, const char* name) {
  if (theirs == nullptr) return options;
  const std::size_t size = c_size_of(*theirs, name);
  const char* const bytes = reinterpret_cast<const char*>(theirs);
  if (size > sizeof(T) && std::any_of(bytes + sizeof(T), bytes + size, [](char byte) { return byte != 0; })) {
    c_refuse(name, "options of this library's version", "options of a later one");
  }
  std::memcpy(&options, theirs, (std::min)(size, sizeof(T)));
  return options;
}

/// Hands a struct to a caller, whose `size` stays as it is; members that this version lacks are zero.
template <class T>
void c_give(T ours, T& theirs, const char* name) {
  const std::size_t size = c_size_of(theirs, name);
  ours.size = size;
  std::memset(&theirs, 0, size);
  std::memcpy(&theirs, &ours, (std::min)(size, sizeof(T)));
}

/// Writes defaults to as much of a struct as the caller knows.
template <class T>
void c_give_defaults(T ours, T* theirs, std::size_t size, const char* name) {
  T probe{};
  probe.size = size;
  (void)c_size_of(probe, name);
  ours.size = size;
  std::memset(&c_given(theirs, name), 0, size);
  std::memcpy(theirs, &ours, (std::min)(size, sizeof(T)));
}

/// Copies values to a caller's room, and says how many they are.
template <class T>
void c_copy(std::span<const T> values, std::size_t extra, T* room, std::size_t capacity, std::size_t& count) {
  count = values.size();
  if (room == nullptr && capacity == 0) return;
  (void)c_span(room, capacity, "room for the result");
  if (capacity < values.size() + extra) {
    throw CFailure(
        MISTRAL_ERROR_ROOM,
        Error("c", "capacity", "at least " + std::to_string(values.size() + extra), std::to_string(capacity)).what());
  }
  std::copy(values.begin(), values.end(), room);
  std::fill_n(room + values.size(), extra, T{});
}

template <std::size_t N>
void c_name(char (&to)[N], std::string_view name) noexcept {
  std::memcpy(to, name.data(), (std::min)(name.size(), N - 1));
}

}}}  // namespace mistral::detail
