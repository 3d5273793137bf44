// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the functions of mistral/c.h begin and end: their statuses, the message of the last failure, and what all of
/// them check of their arguments.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/stop_token.hpp>

#include <mistral/c.h>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The failure of a function of the C interface, where it is no Error.
class CFailure : public std::runtime_error {
 public:
  CFailure(mistral_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  mistral_status status() const noexcept { return status_; }

 private:
  mistral_status status_;
};

inline constexpr std::size_t c_message_bytes = 4096;

/// Returns the last error of this thread: room that is there before memory is short.
inline char* c_message() noexcept {
  static thread_local char text[c_message_bytes] = "";
  return text;
}

/// Keeps a message, or its beginning up to a character's end.
inline mistral_status c_fail(mistral_status status, const char* message) noexcept {
  std::size_t size = std::strlen(message);
  if (size >= c_message_bytes) {
    size = c_message_bytes - 1;
    while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xc0u) == 0x80u) --size;
  }
  std::memcpy(c_message(), message, size);
  c_message()[size] = '\0';
  return status;
}

/// Calls take(status, message) with what the exception that is being handled says.
template <class Take>
mistral_status c_take_exception(const Take& take) {
  try {
    throw;
  } catch (const CFailure& failure) {
    return take(failure.status(), failure.what());
  } catch (const Cancelled& error) {
    return take(mistral_status{MISTRAL_ERROR_STOPPED}, error.what());
  } catch (const Error& error) {
    return take(mistral_status{MISTRAL_ERROR_DATA}, error.what());
  } catch (const std::bad_alloc&) {
    return take(mistral_status{MISTRAL_ERROR_MEMORY}, "[c] there is no memory left");
  } catch (const std::exception& error) {
    return take(mistral_status{MISTRAL_ERROR_INTERNAL}, error.what());
  } catch (...) {
    return take(mistral_status{MISTRAL_ERROR_INTERNAL}, "[c] an error without a message");
  }
}

/// Runs what a function of the interface does.
template <class Function>
mistral_status c_call(const Function& function) noexcept {
  try {
    function();
    return MISTRAL_OK;
  } catch (...) {
    return c_take_exception(c_fail);
  }
}

[[noreturn]] inline void c_refuse(const char* name, const char* expected, const std::string& found) {
  throw CFailure(MISTRAL_ERROR_ARGUMENT, Error("c", name, expected, found).what());
}

/// Returns what a pointer points to, which must not be null.
template <class T>
T& c_given(T* pointer, const char* name) {
  if (pointer == nullptr) c_refuse(name, "a pointer", "null");
  return *pointer;
}

/// Returns `count` values, of which there may be none.
template <class T>
std::span<T> c_span(T* values, std::size_t count, const char* name) {
  if (values == nullptr && count != 0) c_refuse(name, "a pointer", "null");
  return {values, count};
}

}}}  // namespace mistral::detail
