// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/os/folders.hpp>

#include <doctest/doctest.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "../support/scratch.hpp"

using mistral::FolderLock;
using mistral::FolderToFill;
using mistral::make_folder;
using mistral::test::error_of;
using mistral::test::Scratch;

TEST_CASE("a folder is made once, and what is no folder is refused") {
  const Scratch scratch;
  const auto making = [&](const std::string& path) { return error_of([&] { make_folder(path, "test"); }); };
  CHECK(make_folder(scratch.path("new"), "test"));
  CHECK_FALSE(make_folder(scratch.path("new"), "test"));
  std::filesystem::create_symlink("new", scratch.path("link"));
  CHECK_FALSE(make_folder(scratch.path("link"), "test"));
  CHECK(making(scratch.path("no/where")) ==
        "[test] " + scratch.path("no/where") + ": cannot create: No such file or directory");
  CHECK(making(scratch.write("file", "x")) == "[test] " + scratch.path("file") + ": cannot create: Not a directory");
  std::filesystem::create_symlink("missing", scratch.path("dangling"));
  CHECK(making(scratch.path("dangling")) ==
        "[test] " + scratch.path("dangling") + ": cannot create: it is a link to a folder that isn't there");
  CHECK(making(std::string("a\0b", 3)) == "[test] a\\x00b: cannot create: a path holds no zero byte");
}

TEST_CASE("a folder that was made and isn't filled goes with what was put there, and no other does") {
  const Scratch scratch;
  const auto fill = [&](const std::string& name, bool keep) {
    FolderToFill folder(scratch.path(name), "test");
    CHECK(folder.file("a") == scratch.path(name + "/a"));
    scratch.write(name + "/a", "x");
    (void)folder.file("never written");
    if (keep) folder.keep();
  };
  fill("made", false);
  CHECK_FALSE(std::filesystem::exists(scratch.path("made")));
  fill("kept", true);
  CHECK(scratch.read("kept/a") == "x");
  fill("kept", false);  // it was there before
  CHECK(scratch.read("kept/a") == "x");
  {
    const FolderToFill folder(scratch.path("others"), "test");
    scratch.write("others/mine", "x");
  }
  CHECK(scratch.read("others/mine") == "x");
}

TEST_CASE("a folder has one lock, which goes with its holder however that ends") {
  const Scratch scratch;
  const std::string folder = scratch.path("");
  const std::string held =
      "[test] " + folder + ": expected a folder that no other run writes to, got one that another writes to now";
  {
    const FolderLock lock(folder, "test");
    CHECK(error_of([&] { FolderLock(folder, "test"); }) == held);
  }
  CHECK(error_of([&] { FolderLock(folder, "test"); }) == "no error");
  int ready[2] = {};
  REQUIRE(::pipe(ready) == 0);
  const ::pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(folder, "test");
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK(error_of([&] { FolderLock(folder, "test"); }) == held);
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(error_of([&] { FolderLock(folder, "test"); }) == "no error");
  CHECK(std::filesystem::is_empty(folder));
  CHECK(error_of([&] { FolderLock(scratch.path("missing"), "test"); }) ==
        "[test] " + scratch.path("missing") + ": cannot open: No such file or directory");
  ::close(ready[0]);
  ::close(ready[1]);
}
