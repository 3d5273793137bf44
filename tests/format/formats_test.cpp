// SPDX-License-Identifier: Apache-2.0
#include <mistral/format/formats.hpp>

#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/checkpoint/write_gguf.hpp>

using namespace mistral;

TEST_CASE("the list holds each format once, under the name that the format has") {
  std::vector<std::string> names;
  std::string text;
  for_each_format([&]<class F>(std::type_identity<F>) {
    names.emplace_back(F::name);
    text.append(text.empty() ? "" : ", ").append(F::name);
  });
  CHECK(names.size() == format_count);
  CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
  CHECK(text == format_names);
}

TEST_CASE("a format is found by its name, whatever the case of its letters") {
  for_each_format([]<class F>(std::type_identity<F>) {
    std::string lower(F::name);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    for (const std::string& name : {std::string(F::name), lower}) {
      CAPTURE(name);
      int same = 0, other = 0;
      CHECK(with_format(name, [&]<class G>(std::type_identity<G>) { ++(std::is_same_v<F, G> ? same : other); }));
      CHECK(same == 1);
      CHECK(other == 0);
    }
  });
  for (const char* const name : {"", "Q4", "Q4_0 ", "Q4_00", "float"}) {
    CHECK(!with_format(name, [](auto) { FAIL("another format was found"); }));
  }
}

TEST_CASE("a format of GGUF files is the type of its own name there, with a number for the file") {
  std::string names;
  for_each_format([&]<class F>(std::type_identity<F>) {
    CAPTURE(F::name);
    if constexpr (GgufFormat<F>) {
      constexpr GgmlType type = detail::ggml_type_of<F>();
      REQUIRE(is_ggml_type(F::file_type));
      CHECK(info(type).name == F::name);
      CHECK(info(type).model != 1024);
      names.append(names.empty() ? "" : ", ").append(F::name);
    }
  });
  CHECK(gguf_format_names() == names);
  CHECK(!GgufFormat<NF4>);
  CHECK(!GgufFormat<Exact<Q4_0>>);
}
