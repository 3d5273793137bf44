// SPDX-License-Identifier: Apache-2.0
// mistral-fingerprint INCLUDE OUT: writes a header with the fingerprint of the library's headers, for the build.
#include <cstdio>
#include <fstream>
#include <string>

#include "fingerprint.hpp"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string fingerprint = mistral::tool::fingerprint_of(argv[1]);
  std::ofstream out(argv[2]);
  out << "// SPDX-License-Identifier: Apache-2.0\n// Made by mistral-fingerprint.\n#pragma once\n\n"
         "namespace mistral::tool {\n\ninline constexpr char header_fingerprint[] = \""
      << fingerprint << "\";\n\n}  // namespace mistral::tool\n";
  out.close();
  return fingerprint.empty() || !out ? 1 : 0;
}
