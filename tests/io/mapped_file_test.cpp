// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/os/mapped_file.hpp>

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "../support/scratch.hpp"

namespace {

using mistral::Error;
using mistral::MappedFile;
using mistral::test::error_of;
using mistral::test::Scratch;

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

TEST_CASE("a mapped file shows the bytes of the file") {
  const Scratch scratch;
  const MappedFile file = MappedFile::open(scratch.write("a", "hello"), "test");
  CHECK(text_of(file) == "hello");
}

TEST_CASE("a mapped file can be moved, and the last owner unmaps it") {
  const Scratch scratch;
  MappedFile a = MappedFile::open(scratch.write("a", "first"), "test");
  MappedFile b = MappedFile::open(scratch.write("b", "second"), "test");
  MappedFile c = std::move(a);
  CHECK(text_of(c) == "first");
  c = std::move(b);
  CHECK(text_of(c) == "second");
}

TEST_CASE("a file that cannot be mapped is refused with a line that says why") {
  const Scratch scratch;
  const auto opening = [](const std::string& path) { return error_of([&] { MappedFile::open(path, "test"); }); };

  CHECK(opening(scratch.path("missing")) ==
        "[test] " + scratch.path("missing") + ": cannot open: No such file or directory");
  CHECK(opening(scratch.path("")) == "[test] " + scratch.path("") + ": expected a file, got a directory");
  CHECK(opening(scratch.write("empty", "")) == "[test] " + scratch.path("empty") + ": the file is empty");
  CHECK(opening("/dev/null") == "[test] /dev/null: expected a regular file, got a device, a pipe or a socket");
  CHECK(opening(scratch.write("a", "x") + "/b") == "[test] " + scratch.path("a/b") + ": cannot open: Not a directory");
  CHECK(opening("") == "[test] : cannot open: No such file or directory");
  CHECK(opening(std::string("a\0b", 3)) == "[test] a\\x00b: cannot open: a path holds no zero byte");
  CHECK(opening("a\nb") == "[test] a\\x0ab: cannot open: No such file or directory");

  REQUIRE(::mkfifo(scratch.path("pipe").c_str(), 0600) == 0);
  CHECK(opening(scratch.path("pipe")) ==
        "[test] " + scratch.path("pipe") + ": expected a regular file, got a device, a pipe or a socket");

  scratch.write("secret", "x");
  REQUIRE(::chmod(scratch.path("secret").c_str(), 0) == 0);
  if (::geteuid() != 0) {  // root may read everything
    CHECK(opening(scratch.path("secret")) == "[test] " + scratch.path("secret") + ": cannot open: Permission denied");
  }
}

TEST_CASE("a small file is read, and stays what it was when somebody changes or cuts it") {
  const Scratch scratch;
  const std::string content(100000, 'x');
  const MappedFile file = MappedFile::open(scratch.write("a", content), "test");
  scratch.write("a", std::string(100000, 'y'));
  CHECK(text_of(file) == content);
  std::filesystem::resize_file(scratch.path("a"), 1);
  CHECK(text_of(file) == content);  // of a mapped file, touching what is gone ends the program
}

TEST_CASE("a file of more bytes than its reader wants is refused before it is read") {
  const Scratch scratch;
  const std::string path = scratch.write("a", "hello");
  CHECK(text_of(MappedFile::open(path, "test", 5)) == "hello");
  CHECK(error_of([&] { MappedFile::open(path, "test", 4); }) == "[test] " + path + ": expected at most 4 bytes, got 5");
}

TEST_CASE("released parts of a mapped file can still be read") {
  const Scratch scratch;
  std::string content(MappedFile::read_bytes + 3 * 65536 + 17, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 % 251);
  const MappedFile file = MappedFile::open(scratch.write("a", content), "test");
  CHECK(text_of(file) == content);
  file.release({});
  const std::size_t parts[][2] = {
      {0, 0}, {1, 3}, {0, 65536}, {5, 70000}, {65536, 131089}, {0, content.size()}, {content.size(), 0}};
  for (const auto& part : parts) {
    file.release(file.bytes().subspan(part[0], part[1]));
    CHECK(text_of(file) == content);
  }
}
