// SPDX-License-Identifier: Apache-2.0
// tokenizer_time MODEL TEXT IDS: encodes TEXT line by line, as spm_encode does, writes the ids to IDS, one line a line,
// and prints the processor seconds that encoding alone took. tokenizer_bench.sh runs it beside spm_encode.
#include <mistral/text/tokenizer.hpp>

#include <cstddef>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL TEXT IDS\n", argv[0]);
    return 2;
  }
  const mistral::Tokenizer tokenizer = mistral::Tokenizer::load(argv[1]);
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string_view> lines;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t length = rest.find('\n');
    lines.push_back(rest.substr(0, length));
    rest.remove_prefix(length == std::string_view::npos ? rest.size() : length + 1);
  }

  std::vector<std::vector<mistral::TokenId>> ids(lines.size());
  const std::clock_t start = std::clock();
  for (std::size_t i = 0; i < lines.size(); ++i) ids[i] = tokenizer.encode(lines[i]);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;

  std::ofstream out(argv[3], std::ios::binary);
  for (const auto& line : ids) {
    for (std::size_t i = 0; i < line.size(); ++i) out << (i == 0 ? "" : " ") << line[i];
    out << '\n';
  }
  std::printf("%.6f\n", seconds);
  return out.good() ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
