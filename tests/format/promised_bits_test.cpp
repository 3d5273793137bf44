// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "../support/promised_bits.hpp"

using namespace mistral;

TEST_CASE("weights are packed to the bits that they are packed to everywhere, and so is all that is promised bitwise") {
  for (const std::string& name : test::wrong_bits()) FAIL_CHECK(name << " has other bits");
}
