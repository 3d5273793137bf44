// SPDX-License-Identifier: Apache-2.0
// seeds: *.json
// Holds our reader of JSON against nlohmann-json: both accept the input, with the same values, or both refuse it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/io/json/parser.hpp>

#include "../support/clean_message.hpp"
#include "../support/json_oracle.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto oracle = mistral::test::JsonOracle::read(text);
  std::optional<mistral::JsonDocument> ours;
  try {
    ours = mistral::parse_json(text, "fuzz", "input");
  } catch (const mistral::Error& error) {
    mistral::test::check_message(error);
  }
  if (ours.has_value() != oracle.accepts()) std::abort();
  if (ours && !mistral::test::same_json(*ours, ours->root, oracle.value)) std::abort();
  return 0;
}
