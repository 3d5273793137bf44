// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// All weight formats of the library, and what can be done with all of them: visit them, name them, find one by its
/// name. A new format is a header, its include here, and its name in the list of format/format_names.hpp.

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/format_names.hpp>
#include <mistral/format/iq4_nl.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q4_k.hpp>
#include <mistral/format/q6_k.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/format/weight_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Gives a template all formats as its arguments, in the order of the list: `WithAllFormats<std::tuple>`.
template <template <class...> class T>
using WithAllFormats = T<MISTRAL_ALL_FORMATS>;

namespace detail {

template <WeightFormat... Fs>
struct FormatList {
  static constexpr std::size_t size = sizeof...(Fs);

  template <class Visitor>
  static constexpr void visit(Visitor& visitor) {
    (static_cast<void>(visitor(std::type_identity<Fs>{})), ...);
  }

  /// Until the visitor returns true.
  template <class Visitor>
  static constexpr bool visit_until(Visitor& visitor) {
    return (visitor(std::type_identity<Fs>{}) || ...);
  }
};

/// Whether two names are the same but for the case of their letters.
constexpr bool same_format_name(std::string_view a, std::string_view b) noexcept {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

}  // namespace detail

/// The number of the library's weight formats.
inline constexpr std::size_t format_count = WithAllFormats<detail::FormatList>::size;

/// Calls visit(std::type_identity<F>{}) for each format F, in the order of the list.
template <class Visitor>
constexpr void for_each_format(Visitor&& visit) {
  WithAllFormats<detail::FormatList>::visit(visit);
}

/// Calls visit(std::type_identity<F>{}) for the format F of that name, `q4_0` as well as `Q4_0`. Returns whether there
/// is one.
template <class Visitor>
constexpr bool with_format(std::string_view name, Visitor&& visit) {
  const auto visit_named = [&]<class F>(std::type_identity<F> format) {
    if (!detail::same_format_name(F::name, name)) return false;
    visit(format);
    return true;
  };
  return WithAllFormats<detail::FormatList>::visit_until(visit_named);
}

/// Lists the names of all formats, `F32, F16, BF16, ...`, for messages and help.
inline constexpr std::string_view format_names = MISTRAL_FORMAT_NAMES;

/// Lists the names of the formats that GGUF files have, in the order of the list.
inline std::string gguf_format_names() {
  std::string names;
  for_each_format([&]<class F>(std::type_identity<F>) {
    if constexpr (GgufFormat<F>) names.append(names.empty() ? "" : ", ").append(F::name);
  });
  return names;
}

}}  // namespace mistral
