// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

#include <mistral/core/buffer.hpp>
#include <mistral/io/os/huge_pages.hpp>

#include "../support/counting_resource.hpp"

using namespace mistral;

namespace {

/// The flags of the mapping that holds an address, of which `hg` says that huge pages were asked for.
std::string flags_of_mapping(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx ", &begin, &end) == 2) here = begin <= at && at < end;
    if (here && line.rfind("VmFlags:", 0) == 0) return line + " ";
  }
  return "";
}

}  // namespace

TEST_CASE("blocks of a huge page and more begin at one, smaller ones are another's as they are, and all go back") {
  test::CountingResource counted;
  HugePages huge(&counted);
  constexpr std::size_t large = 3 * HugePages::page_bytes + 4096;
  {
    const Buffer<std::byte> small(100, &huge);
    CHECK(counted.aligned);  // to a cache line, as a buffer asks
    const Buffer<std::byte> matrix(large, &huge);
    CHECK_FALSE(counted.aligned);
    CHECK(reinterpret_cast<std::uintptr_t>(matrix.data()) % HugePages::page_bytes == 0);
    CHECK(counted.held == large + 100);
    CHECK(std::all_of(matrix.span().begin(), matrix.span().end(), [](std::byte b) { return b == std::byte{0}; }));
  }
  CHECK(counted.held == 0);
}

TEST_CASE("the system is asked for huge pages for a large block, but for its end") {
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) {
    std::fprintf(stderr, "SKIPPED: this system has no huge pages\n");
    return;
  }
  HugePages huge;
  constexpr std::size_t bytes = 32 * HugePages::page_bytes;  // more than what glibc takes from its heap
  const Buffer<std::byte> matrix(bytes + HugePages::page_bytes / 2, Uninitialized{}, &huge);
  CHECK(flags_of_mapping(matrix.data()).find(" hg ") != std::string::npos);
  CHECK(flags_of_mapping(matrix.data() + bytes - 1).find(" hg ") != std::string::npos);
  CHECK(flags_of_mapping(matrix.data() + bytes).find(" hg ") == std::string::npos);
}
