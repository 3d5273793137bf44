// SPDX-License-Identifier: Apache-2.0
// bits [all]: whether this build gives the bits that are promised of every build (../support/promised_bits.hpp). Names
// what differs, and ends with 1; with `all`, prints the table that the header holds.
#include <cstdio>
#include <string>
#include <vector>

#include "../support/promised_bits.hpp"

int main(int argc, char**) {
  if (argc > 1) {
    for (const auto& [name, sum] : mistral::test::promised_bits()) {
      std::printf("    {\"%s\", \"%s\"},\n", name.c_str(), sum.c_str());
    }
    return 0;
  }
  const std::vector<std::string> wrong = mistral::test::wrong_bits();
  std::printf(" bits%s", wrong.empty() ? "" : " (OTHERS:");
  for (const std::string& name : wrong) std::printf(" %s;", name.c_str());
  std::printf("%s\n", wrong.empty() ? "" : ")");
  return wrong.empty() ? 0 : 1;
}
