// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/os/line_reader.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <mistral/io/json/lines.hpp>

#include "../support/resident.hpp"
#include "../support/scratch.hpp"

using mistral::LineReader;
using mistral::test::error_of;
using mistral::test::Scratch;

namespace {

std::vector<std::string> lines_of(const std::string& path, std::size_t most = 10) {
  std::vector<std::string> lines;
  LineReader reader(path, "test", most);
  while (reader.next()) {
    lines.push_back(reader.too_long() ? "(too long)" : reader.line());
    CHECK(reader.number() == lines.size());
  }
  return lines;
}

using Lines = std::vector<std::string>;

// A pipe that `write(descriptor)` fills from a thread until nobody reads any more.
template <class Write>
class Filled {
 public:
  explicit Filled(Write write) {
    std::signal(SIGPIPE, SIG_IGN);
    REQUIRE(::pipe(ends_) == 0);
    thread_ = std::thread([this, write] {
      while (write(ends_[1])) {
      }
    });
  }
  ~Filled() {
    ::close(ends_[0]);
    thread_.join();
    ::close(ends_[1]);
  }
  int descriptor() const { return ends_[0]; }

 private:
  int ends_[2] = {};
  std::thread thread_;
};

}  // namespace

TEST_CASE("lines come one after the other, also those that are too long") {
  const Scratch scratch;
  CHECK(lines_of(scratch.write("a", "one\n\nthree")) == Lines{"one", "", "three"});
  CHECK(lines_of(scratch.write("a", "one\n")) == Lines{"one"});
  CHECK(lines_of(scratch.write("a", "\n\n")) == Lines{"", ""});
  CHECK(lines_of(scratch.write("a", "")).empty());
  CHECK(lines_of(scratch.write("a", "0123456789\n01234567890\nend\n")) == Lines{"0123456789", "(too long)", "end"});
  const std::string longest(200000, 'x');
  CHECK(lines_of(scratch.write("a", longest + "\nend")) == Lines{"(too long)", "end"});
  CHECK(lines_of(scratch.write("a", "a\n" + longest)) == Lines{"a", "(too long)"});
  CHECK(lines_of(scratch.write("a", longest + "\n" + longest), 200000) == Lines{longest, longest});
}

TEST_CASE("of a file that grows as much is read as there was") {
  const Scratch scratch;
  const std::string path = scratch.write("a", "one\ntwo\n");
  LineReader reader(path, "test", 100);
  std::size_t lines = 0;
  while (reader.next()) {
    std::ofstream(path, std::ios::app) << "more\nand more\n";
    REQUIRE(++lines < 10);
  }
  CHECK(lines == 2);
}

TEST_CASE("an open file is read from where it is, and stays open") {
  const Scratch scratch;
  const int file = ::open(scratch.write("a", "one\ntwo\n").c_str(), O_RDONLY);
  REQUIRE(::lseek(file, 4, SEEK_SET) == 4);
  {
    LineReader reader(file, "standard input", "test", 100);
    CHECK(reader.next());
    CHECK(reader.line() == "two");
    CHECK_FALSE(reader.next());
  }
  CHECK(::close(file) == 0);
}

TEST_CASE("a line that never ends is too long as soon as it is, and what goes on for ever is refused") {
  if (!std::filesystem::exists("/dev/zero")) return;
  const std::size_t before = mistral::test::resident_bytes();
  LineReader reader("/dev/zero", "test", std::size_t{16} << 20);
  CHECK(reader.next());
  CHECK(reader.too_long());
  CHECK(error_of([&] { reader.next(); }) ==
        "[test] /dev/zero: expected at most 256 MiB from what is no file (write it to one), got more");
  CHECK(mistral::test::resident_bytes() - before < std::size_t{64} << 20);

  CHECK(error_of([] { mistral::for_each_json_line("/dev/zero", "test", [](const auto&, std::size_t) {}); }) ==
        "[test] /dev/zero:1: expected a line of at most 16777216 bytes, got a longer one");
}

TEST_CASE("a pipe that gives lines for ever is refused") {
  const std::string block(65536, '\n');
  const Filled pipe([&](int to) { return ::write(to, block.data(), block.size()) > 0; });
  LineReader reader(pipe.descriptor(), "pipe", "test", 100);
  std::size_t lines = 0;
  CHECK(error_of([&] {
          while (reader.next()) ++lines;
        }) == "[test] pipe: expected at most 1000000 lines from what is no file (write it to one), got more");
  CHECK(lines == 1000000);
}

TEST_CASE("a line of a file that is passed over has an end within a GiB") {
  const Scratch scratch;
  const std::string path = scratch.write("a", "x");
  std::filesystem::resize_file(path, (std::uintmax_t{1} << 30) + 200000);  // of zeros: a hole
  LineReader reader(path, "test", 100);
  CHECK(reader.next());
  CHECK(reader.too_long());
  CHECK(error_of([&] { reader.next(); }) ==
        "[test] " + path + ":1: expected the end of a line within a GiB, got a longer one");
}
