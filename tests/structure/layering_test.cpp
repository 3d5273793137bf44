// SPDX-License-Identifier: Apache-2.0
// The order of DESIGN section 2, and the rules that keep it: each rule is shown to catch a header that breaks it, and
// then all headers are held against all rules.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

// a header includes from its own folder and from those that stand before it
constexpr std::array folders{"core", "simd",       "parallel", "format",   "kernels",  "cache", "nn",
                             "io",   "checkpoint", "text",     "generate", "evaluate", "train", "run"};
// the same of the folders of io/; what stands in io/ itself is for all of them
constexpr std::array io_folders{"os", "json", "safetensors", "gguf", "packed"};
constexpr std::array umbrellas{"model.hpp", "train.hpp", "eigen.hpp"};

bool starts_with_any(std::string_view text, const std::vector<std::string_view>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view p) { return text.starts_with(p); });
}

struct Dependency {
  std::vector<std::string_view> prefixes;  // of what stands between < and >
  std::vector<std::string_view> homes;     // the only folders, or umbrellas, that may include it
};

const std::vector<Dependency>& dependencies() {
  static const std::vector<Dependency> all{
      {{"xsimd/"}, {"simd"}},
      // intrinsics
      {{"immintrin.h", "x86intrin.h", "arm_neon.h", "arm_sve.h", "arm_acle.h", "emmintrin.h", "xmmintrin.h",
        "pmmintrin.h", "tmmintrin.h", "smmintrin.h", "nmmintrin.h", "wmmintrin.h", "avxintrin.h"},
       {"simd/sets"}},
      {{"cpuid.h"}, {"simd"}},
      {{"tbb/", "oneapi/"}, {"parallel"}},
      {{"nlohmann/"}, {}},  // docs/decisions/0001-json.md
      {{"Eigen/", "unsupported/Eigen/"}, {"eigen.hpp", "train"}},
      // system calls
      {{"sys/", "unistd.h", "fcntl.h", "dirent.h"}, {"io/os", "simd"}},
  };
  return all;
}

std::size_t rank_of(std::string_view folder) {
  return static_cast<std::size_t>(std::find(folders.begin(), folders.end(), folder) - folders.begin());
}

/// Of "io/os/memory.hpp" the os; empty where there is none.
std::string io_folder_of(std::string_view path) {
  if (!path.starts_with("io/")) return {};
  path.remove_prefix(3);
  return std::string(path.substr(0, path.find('/') == std::string_view::npos ? 0 : path.find('/')));
}

std::size_t io_rank_of(std::string_view folder) {
  return static_cast<std::size_t>(std::find(io_folders.begin(), io_folders.end(), folder) - io_folders.begin());
}

// The only headers in simd/ with conditions: the one that chooses the instruction set, and the detection of processors.
constexpr std::array conditional{"simd/instructions.hpp", "simd/cpu.hpp"};
// What compilers define for instructions, and the headers that may ask for it: those, and the names of the ABI.
constexpr std::array instruction_macros{"__AVX",  "__SSE",       "__SSSE",     "__FMA__",  "__F16C__",        "__BMI",
                                        "__ARM_", "__aarch64__", "__x86_64__", "__i386__", "MISTRAL_EMULATED"};

bool asks_for_instructions(std::string_view path) {
  return path == "core/abi.hpp" || std::find(conditional.begin(), conditional.end(), path) != conditional.end();
}

/// What is wrong with the header at `path` (relative to include/mistral) that holds `content`: a line a fault.
std::vector<std::string> faults_of(const std::string& path, const std::string& content) {
  std::vector<std::string> faults;
  const auto fault = [&](const std::string& what) { faults.push_back(path + ": " + what); };

  const bool umbrella = std::find(umbrellas.begin(), umbrellas.end(), path) != umbrellas.end();
  const std::string folder = path.find('/') == std::string::npos ? path : path.substr(0, path.find('/'));
  if (!umbrella && rank_of(folder) == folders.size()) fault("stands in no folder of DESIGN section 2");
  const bool instruction_set = path.starts_with("simd/sets/");
  const std::string io_folder = io_folder_of(path);
  if (!io_folder.empty() && io_rank_of(io_folder) == io_folders.size()) fault("stands in no folder of io/");
  if (content.find("#pragma once\n") == std::string::npos) fault("lacks #pragma once");

  std::istringstream lines(content);
  std::string line;
  int count = 0;
  bool reason = false;
  for (; std::getline(lines, line); ++count) {
    if (count < 15 && line.find("onger than 400 lines") != std::string::npos) reason = true;
    const std::string at = "line " + std::to_string(count + 1) + ": ";
    std::string_view text = line;
    const auto skip_blanks = [&] { text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size())); };

    skip_blanks();
    if (text.starts_with("namespace mistral") &&
        !text.starts_with("namespace mistral { inline namespace MISTRAL_ABI {")) {
      fault(at + "opens a namespace other than mistral { inline namespace MISTRAL_ABI");
    }
    const std::string_view code = text.substr(0, text.find("//"));
    if (!instruction_set && code.find("_mm") != std::string_view::npos &&
        starts_with_any(code.substr(code.find("_mm")), {"_mm_", "_mm256_", "_mm512_"})) {
      fault(at + "an intrinsic outside simd/sets/");
    }
    for (const std::string_view macro : instruction_macros) {
      if (code.find(macro) == std::string_view::npos || asks_for_instructions(path)) continue;
      fault(at + std::string(macro) + ": the instruction set is chosen in simd/instructions.hpp");
    }

    if (!text.starts_with('#')) continue;
    text.remove_prefix(1);
    skip_blanks();
    if (folder == "simd" && !asks_for_instructions(path) && starts_with_any(text, {"if", "elif", "else"})) {
      fault(at + "a condition in simd/ outside simd/instructions.hpp and simd/cpu.hpp");
    }
    if (!text.starts_with("include")) continue;
    text.remove_prefix(7);
    skip_blanks();
    if (!text.starts_with('<') || text.find('>') == std::string_view::npos) {
      fault(at + "expected #include <...>");
      continue;
    }
    const std::string header(text.substr(1, text.find('>') - 1));

    if (header.starts_with("mistral/")) {
      const std::string name = header.substr(8);
      if (umbrella || (name == "c.h" && folder == "run")) continue;  // the C interface stands beside the umbrellas
      if (name.find('/') == std::string::npos) {
        fault(at + "includes the umbrella " + name);
      } else if (rank_of(name.substr(0, name.find('/'))) > rank_of(folder)) {
        fault(at + folder + "/ stands above " + name);
      } else if (!io_folder.empty() && !io_folder_of(name).empty() &&
                 io_rank_of(io_folder_of(name)) > io_rank_of(io_folder)) {
        fault(at + "io/" + io_folder + "/ stands above " + name);
      }
      continue;
    }
    for (const Dependency& dependency : dependencies()) {
      if (!starts_with_any(header, dependency.prefixes)) continue;
      if (instruction_set && starts_with_any("simd/sets", dependency.homes)) continue;
      if (std::find(dependency.homes.begin(), dependency.homes.end(), folder) == dependency.homes.end() &&
          std::find(dependency.homes.begin(), dependency.homes.end(), "io/" + io_folder) == dependency.homes.end()) {
        fault(at + "<" + header + "> is for " +
              (dependency.homes.empty() ? "no header" : std::string(dependency.homes.front()) + " only"));
      }
    }
    // the names of the standard library have neither a folder nor an ending
    if (folder == "core" && header.find_first_of("./") != std::string::npos) {
      fault(at + "core/ includes the standard library only, not <" + header + ">");
    }
  }
  if (count > 400 && !reason) {
    fault(std::to_string(count) + " lines: past 400, the first lines say 'Longer than 400 lines: <the reason>'");
  }
  return faults;
}

std::vector<std::string> faults_of(const std::string& path, const std::string& before, const std::string& after) {
  return faults_of(path, before + "#pragma once\n" + after);
}

}  // namespace

TEST_CASE("a header that keeps the rules has no faults") {
  CHECK(faults_of("kernels/matmul.hpp", "",
                  "#include <cstddef>\n#include <mistral/kernels/a.hpp>\n#include <mistral/core/b.hpp>\n")
            .empty());
  CHECK(faults_of("simd/sets/a.hpp", "", "#include <immintrin.h>\n# include <xsimd/xsimd.hpp>\n  _mm_pause();\n")
            .empty());
  CHECK(faults_of("io/os/mapped_file.hpp", "", "#include <sys/mman.h>\n").empty());
  CHECK(faults_of("run/a.hpp", "", "#include <mistral/c.h>\n").empty());
  CHECK(faults_of("model.hpp", "", "#include <mistral/generate/session.hpp>\n#include <mistral/core/a.hpp>\n").empty());
  CHECK(faults_of("eigen.hpp", "", "#include <Eigen/Core>\nnamespace mistral { inline namespace MISTRAL_ABI {\n")
            .empty());
}

TEST_CASE("a header that includes from a folder below it is caught") {
  CHECK(faults_of("kernels/a.hpp", "", "#include <mistral/cache/ring_buffer.hpp>\n").size() == 1);
  CHECK(faults_of("core/a.hpp", "", "#include <mistral/simd/dot.hpp>\n").size() == 1);
  CHECK(faults_of("nn/a.hpp", "", "  #  include <mistral/train/loss.hpp>\n").size() == 1);
  CHECK(faults_of("nn/a.hpp", "", "#include <mistral/model.hpp>\n").size() == 1);
  CHECK(faults_of("nn/a.hpp", "", "#include <mistral/c.h>\n").size() == 1);
  CHECK(faults_of("nn/a.hpp", "", "#include <mistral/elsewhere/a.hpp>\n").size() == 1);
  CHECK(faults_of("elsewhere/a.hpp", "", "").size() == 1);
  CHECK(faults_of("io/os/a.hpp", "", "#include <mistral/io/json/json.hpp>\n").size() == 1);
  CHECK(faults_of("io/elsewhere/a.hpp", "", "").size() == 1);
}

TEST_CASE("a dependency outside the folder that it belongs to is caught") {
  CHECK(faults_of("kernels/a.hpp", "", "#include <xsimd/xsimd.hpp>\n").size() == 1);
  CHECK(faults_of("kernels/a.hpp", "", "#include <immintrin.h>\n").size() == 1);
  CHECK(faults_of("kernels/a.hpp", "", "  const auto v = _mm256_setzero_ps();\n").size() == 1);
  CHECK(faults_of("kernels/a.hpp", "", "#include <oneapi/tbb/parallel_for.h>\n").size() == 1);
  CHECK(faults_of("io/a.hpp", "", "#include <nlohmann/json.hpp>\n").size() == 1);
  CHECK(faults_of("kernels/a.hpp", "", "#include <Eigen/Core>\n").size() == 1);
  CHECK(faults_of("core/a.hpp", "", "#include <sys/mman.h>\n").size() == 2);
  CHECK(faults_of("core/a.hpp", "", "#include <unistd.h>\n").size() == 2);
  CHECK(faults_of("checkpoint/a.hpp", "", "#include <fcntl.h>\n").size() == 1);
  CHECK(faults_of("io/json/a.hpp", "", "#include <fcntl.h>\n").size() == 1);
}

TEST_CASE("an instruction set that is asked for outside the header that chooses it is caught") {
  const std::string condition = "#if defined(__AVX2__)\n#endif\n";
  CHECK(faults_of("simd/instructions.hpp", "", condition).empty());
  CHECK(faults_of("simd/cpu.hpp", "", condition + "#include <cpuid.h>\n").empty());
  CHECK(faults_of("core/abi.hpp", "", condition).empty());
  CHECK(faults_of("kernels/a.hpp", "", condition).size() == 1);
  CHECK(faults_of("nn/a.hpp", "", "#ifdef __ARM_FEATURE_DOTPROD\n#endif\n").size() == 1);
  CHECK(faults_of("io/os/a.hpp", "", "#if defined(__linux__)\n#else\n#endif\n").empty());
  CHECK(faults_of("simd/a.hpp", "", "# ifndef NDEBUG\n# endif\n").size() == 1);
  CHECK(faults_of("simd/sets/a.hpp", "", "#if 1\n#elif 0\n#else\n#endif\n").size() == 3);
  CHECK(faults_of("simd/a.hpp", "", "#include <immintrin.h>\n").size() == 1);
  CHECK(faults_of("simd/cpu.hpp", "", "#include <arm_neon.h>\n").size() == 1);
  CHECK(faults_of("simd/a.hpp", "", "  const auto v = _mm256_setzero_ps();\n").size() == 1);
}

TEST_CASE("a header that is not a header of this library is caught") {
  CHECK(faults_of("core/a.hpp", "namespace mistral { inline namespace MISTRAL_ABI {\n}}\n").size() == 1);
  CHECK(faults_of("core/a.hpp", "", "namespace mistral {\n}\n").size() == 1);
  CHECK(faults_of("core/a.hpp", "", "namespace mistral::inline MISTRAL_ABI {\n}\n").size() == 1);
  CHECK(faults_of("core/a.hpp", "", "#include \"b.hpp\"\n").size() == 1);
}

TEST_CASE("a header past 400 lines needs a reason in its first lines") {
  CHECK(faults_of("core/a.hpp", "", std::string(399, '\n')).empty());
  CHECK(faults_of("core/a.hpp", "", std::string(400, '\n')).size() == 1);
  CHECK(faults_of("core/a.hpp", "// Longer than 400 lines: one table.\n", std::string(400, '\n')).empty());
}

TEST_CASE("all headers keep the rules") {
  const auto root = std::filesystem::path(MISTRAL_SOURCE_DIR) / "include" / "mistral";
  std::size_t headers = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file() || entry.path() == root / "c.h") continue;
    CHECK_MESSAGE(entry.path().extension() == ".hpp", entry.path().string());
    std::ostringstream content;
    content << std::ifstream(entry.path()).rdbuf();
    for (const std::string& fault : faults_of(entry.path().lexically_relative(root).generic_string(), content.str())) {
      FAIL_CHECK(fault);
    }
    ++headers;
  }
  CHECK(headers > 0);
}

TEST_CASE("the C interface includes what C99 has, and nothing of ours") {
  std::ifstream header(std::filesystem::path(MISTRAL_SOURCE_DIR) / "include" / "mistral" / "c.h");
  std::vector<std::string> includes;
  for (std::string line; std::getline(header, line);) {
    if (line.starts_with("#include")) includes.push_back(line);
  }
  CHECK(includes == std::vector<std::string>{"#include <stddef.h>", "#include <stdint.h>"});
}
