// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/os/atomic_file.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "../support/scratch.hpp"
#include "../support/size_limit.hpp"

namespace {

using mistral::AtomicFile;
using mistral::test::error_of;
using mistral::test::Scratch;

std::size_t files_in(const Scratch& scratch) {
  const std::filesystem::directory_iterator files(scratch.path(""));
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

}  // namespace

TEST_CASE("a committed file holds all that was written, in order") {
  const Scratch scratch;
  std::string expected;
  AtomicFile file(scratch.path("a"), "test");
  for (std::size_t i = 0; i < 3000; ++i) {  // small and large pieces, over and under the gathering
    const std::string piece(i % 500 == 0 ? 300000 : i % 300, static_cast<char>('a' + i % 26));
    expected += piece;
    file.write(piece);
  }
  const std::byte bytes[] = {std::byte{0}, std::byte{255}};
  file.write(bytes);
  expected += std::string("\0\xff", 2);
  CHECK(scratch.read("a").empty());
  file.commit();
  CHECK(scratch.read("a") == expected);
  CHECK(files_in(scratch) == 1);
}

TEST_CASE("without a commit the old file stands and nothing is left behind") {
  const Scratch scratch;
  scratch.write("a", "old");
  {
    AtomicFile file(scratch.path("a"), "test");
    file.write("new");
    CHECK(files_in(scratch) == 2);
  }
  CHECK(scratch.read("a") == "old");
  CHECK(files_in(scratch) == 1);
}

TEST_CASE("a replaced file keeps its permissions, a new one has the usual ones") {
  const Scratch scratch;
  scratch.write("a", "old");
  REQUIRE(::chmod(scratch.path("a").c_str(), 0640) == 0);
  const mode_t mask = ::umask(022);
  for (const char* name : {"a", "b"}) {
    AtomicFile file(scratch.path(name), "test");
    file.write("new");
    file.commit();
    CHECK(scratch.read(name) == "new");
  }
  ::umask(mask);
  using std::filesystem::perms;
  CHECK(std::filesystem::status(scratch.path("a")).permissions() == perms{0640});
  CHECK(std::filesystem::status(scratch.path("b")).permissions() == perms{0644});
}

TEST_CASE("a link stays a link and its target is replaced") {
  const Scratch scratch;
  scratch.write("folder/a", "old");
  std::filesystem::create_symlink("folder/a", scratch.path("link"));
  AtomicFile file(scratch.path("link"), "test");
  file.write("new");
  file.commit();
  CHECK(std::filesystem::is_symlink(scratch.path("link")));
  CHECK(scratch.read("folder/a") == "new");
}

TEST_CASE("a link to what isn't there is an error and stays as it is") {
  const Scratch scratch;
  std::filesystem::create_symlink("missing", scratch.path("link"));
  std::filesystem::create_symlink("loop", scratch.path("loop"));
  const auto writing = [&](const char* name) { return error_of([&] { AtomicFile(scratch.path(name), "test"); }); };
  CHECK(writing("link") ==
        "[test] " + scratch.path("link") + ": cannot write: it is a link to a file that isn't there");
  CHECK(writing("loop") == "[test] " + scratch.path("loop") + ": cannot write: Too many levels of symbolic links");
  CHECK(std::filesystem::is_symlink(scratch.path("link")));
  CHECK(files_in(scratch) == 2);
}

TEST_CASE("what a killed writer left goes with the next one, and a live writer's file stays") {
  const Scratch scratch;
  scratch.write("a.tmp-1-0", "of a process that has a number of a live one here");
  scratch.write("a.tmp-999999999-3", "of a process that is no more");
  scratch.write("a.tmp-x-0", "not ours");
  scratch.write("a.tmp-1-", "not ours");
  scratch.write("ab.tmp-1-0", "another file's");
  const int other = ::open(scratch.write("a.tmp-2-0", "live").c_str(), O_RDONLY);
  REQUIRE(::flock(other, LOCK_EX) == 0);
  AtomicFile live(scratch.path("a"), "test");  // of another thread, say
  live.write("first");
  const ::pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(scratch.path("a"), "test");
    file.write(std::string(1000000, 'x'));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(files_in(scratch) == 6);  // the child has taken away two, and left one

  AtomicFile file(scratch.path("a"), "test");
  file.write("second");
  file.commit();
  CHECK(scratch.read("a") == "second");
  live.commit();
  CHECK(scratch.read("a") == "first");
  CHECK(files_in(scratch) == 5);
  for (const char* name : {"a.tmp-x-0", "a.tmp-1-", "ab.tmp-1-0", "a.tmp-2-0"}) {
    CHECK(std::filesystem::exists(scratch.path(name)));
  }
  ::close(other);
  mistral::remove_stale_temporaries(scratch.path("a"));
  CHECK_FALSE(std::filesystem::exists(scratch.path("a.tmp-2-0")));
}

TEST_CASE("a handler of a signal can take away what the process is writing") {
  const Scratch scratch;
  scratch.write("a", "old");
  scratch.write("a.tmp-1-0", "another's");
  const int own = ::open(scratch.write("notes.tmp-" + std::to_string(::getpid()) + "-x", "not ours").c_str(), O_RDONLY);
  AtomicFile a(scratch.path("a"), "test");
  AtomicFile b(scratch.path("b"), "test");
  a.write("new");
  b.write("new");
  b.finish();
  scratch.write("a.tmp-1-0", "another's");
  CHECK(files_in(scratch) == 5);
  mistral::remove_own_temporaries();
  CHECK(files_in(scratch) == 3);
  CHECK(scratch.read("a") == "old");
  CHECK(scratch.read("a.tmp-1-0") == "another's");
  CHECK(error_of([&] { a.commit(); }) == "[test] " + scratch.path("a") + ": cannot write: No such file or directory");
  ::close(own);
}

TEST_CASE("files that are finished appear when they are committed, and take no more room") {
  const Scratch scratch;
  scratch.write("a", "old");
  AtomicFile a(scratch.path("a"), "test");
  a.write("new");
  a.finish();
  a.finish();
  CHECK(scratch.read("a") == "old");
  {
    const mistral::test::SizeLimit full(0);
    a.commit();
  }
  CHECK(scratch.read("a") == "new");
  CHECK(error_of([&] { a.commit(); }).find("it is written already") != std::string::npos);
  CHECK(error_of([&] { a.write("more"), a.commit(); }).find("it is written already") != std::string::npos);
  CHECK(scratch.read("a") == "new");
  CHECK(files_in(scratch) == 1);
}

TEST_CASE("two writers of one file do not disturb each other: the last to commit wins") {
  const Scratch scratch;
  AtomicFile a(scratch.path("a"), "test");
  AtomicFile b(scratch.path("a"), "test");
  a.write("first");
  b.write("second");
  b.commit();
  a.commit();
  CHECK(scratch.read("a") == "first");
  CHECK(files_in(scratch) == 1);
}

TEST_CASE("a disk that fills up is an error, and the old file stays whole") {
  const Scratch scratch;
  const std::string target = scratch.write("a", "old");
  for (const std::size_t size : {std::size_t{5000}, std::size_t{2000000}}) {  // seen by commit, seen by write
    const mistral::test::SizeLimit full(4096);
    const std::string message = error_of([&] {
      AtomicFile file(target, "test");
      file.write(std::string(size, 'x'));
      CHECK(size == 5000);
      file.commit();
    });
    CHECK(message == "[test] " + target + ": cannot write: File too large");
    CHECK(scratch.read("a") == "old");
    CHECK(files_in(scratch) == 1);
  }
}

TEST_CASE("a file whose write failed cannot be committed after all") {
  const Scratch scratch;
  const std::string target = scratch.path("a");
  AtomicFile file(target, "test");
  {
    const mistral::test::SizeLimit full(4096);
    CHECK_THROWS_AS(file.write(std::string(2000000, 'x')), mistral::Error);
  }
  CHECK(error_of([&] { file.write("more"), file.commit(); }).starts_with("[test] " + target + ": cannot write: "));
  CHECK(files_in(scratch) == 0);
}

TEST_CASE("a file that cannot be written is refused with a line that says why") {
  const Scratch scratch;
  const auto writing = [](const std::string& path) {
    return error_of([&] {
      AtomicFile file(path, "test");
      file.write("x");
      file.commit();
    });
  };
  scratch.write("file", "x");
  CHECK(writing(scratch.path("missing/a")) ==
        "[test] " + scratch.path("missing/a") + ": cannot write: No such file or directory");
  CHECK(writing(scratch.path("")) == "[test] " + scratch.path("") + ": cannot write: Is a directory");
  CHECK(writing(scratch.path("file/a")) == "[test] " + scratch.path("file/a") + ": cannot write: Not a directory");
  CHECK(writing("") == "[test] : cannot write: No such file or directory");
  CHECK(writing(std::string("a\0b", 3)) == "[test] a\\x00b: cannot write: a path holds no zero byte");
}

TEST_CASE("what is no regular file is written directly, and its errors show") {
  const auto writing = [](const std::string& path) {
    return error_of([&] {
      AtomicFile file(path, "test");
      file.write("x");
      file.commit();
    });
  };
  CHECK(writing("/dev/null") == "no error");
  if (std::filesystem::exists("/dev/full")) {
    CHECK(writing("/dev/full") == "[test] /dev/full: cannot write: No space left on device");
  }
  int ends[2] = {};
  REQUIRE(::pipe(ends) == 0);
  CHECK(writing("/dev/fd/" + std::to_string(ends[1])) == "no error");
  char byte = 0;
  CHECK(::read(ends[0], &byte, 1) == 1);
  CHECK(byte == 'x');
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("writing to an open file of the process appends to it and does not replace it") {
  const Scratch scratch;
  const std::string target = scratch.write("a", "old");
  const int open_file = ::open(target.c_str(), O_WRONLY);
  REQUIRE(open_file >= 0);
  AtomicFile file("/dev/fd/" + std::to_string(open_file), "test");
  file.write("new");
  file.commit();
  ::close(open_file);
  CHECK(scratch.read("a") == "oldnew");
}
