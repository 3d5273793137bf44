// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/folders.hpp>

#include "../support/scratch.hpp"

// The system's calls of this program, which do as they are told and keep a record: what a failing disk answers can't be
// had otherwise.
#if defined(__linux__) && defined(SYS_fsync) && defined(SYS_renameat2)

namespace {

struct Calls {
  int failing_fsync = 0;   // the n-th fails
  int failing_rename = 0;  // the same
  int fsyncs = 0;
  int renames = 0;
  std::vector<std::string> record = {};
};

Calls* calls = nullptr;  // null: as always

bool is_folder(int file) {
  struct ::stat status = {};
  return ::fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

extern "C" int fsync(int file) {
  if (calls != nullptr) {
    calls->record.push_back(is_folder(file) ? "fsync folder" : "fsync file");
    if (++calls->fsyncs == calls->failing_fsync) {
      errno = EIO;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_fsync, file));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  if (calls != nullptr) {
    calls->record.push_back("rename");
    if (++calls->renames == calls->failing_rename) {
      errno = EIO;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_renameat2, -100, from, -100, to, 0));
}

namespace {

using mistral::AtomicFile;
using mistral::test::error_of;
using mistral::test::Scratch;

std::string write_new(const std::string& path, Calls& told) {
  calls = &told;
  const std::string message = error_of([&] {
    AtomicFile file(path, "test");
    file.write("new");
    file.commit();
  });
  calls = nullptr;
  return message;
}

std::size_t files_in(const Scratch& scratch) {
  const std::filesystem::directory_iterator files(scratch.path(""));
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

}  // namespace

TEST_CASE("a file is on the disk before it has its name, and its folder behind that") {
  const Scratch scratch;
  Calls told;
  CHECK(write_new(scratch.path("a"), told) == "no error");
  CHECK(told.record == std::vector<std::string>{"fsync file", "rename", "fsync folder"});
}

TEST_CASE("a disk that fails when all is written leaves the old file and nothing else") {
  const Scratch scratch;
  const std::string target = scratch.write("a", "old");
  Calls no_sync{.failing_fsync = 1};
  CHECK(write_new(target, no_sync) == "[test] " + target + ": cannot write: Input/output error");
  Calls no_rename{.failing_rename = 1};
  CHECK(write_new(target, no_rename) == "[test] " + target + ": cannot write: Input/output error");
  CHECK(scratch.read("a") == "old");
  CHECK(files_in(scratch) == 1);
}

TEST_CASE("a folder that can't be brought to the disk is no failure: the file has its name, and is whole") {
  const Scratch scratch;
  const std::string target = scratch.write("a", "old");
  Calls no_folder{.failing_fsync = 2};
  CHECK(write_new(target, no_folder) == "no error");
  CHECK(scratch.read("a") == "new");
  CHECK(files_in(scratch) == 1);
}

TEST_CASE("a new folder is brought to the disk in the one that holds it") {
  const Scratch scratch;
  Calls told;
  calls = &told;
  CHECK(mistral::make_folder(scratch.path("new/"), "test"));
  CHECK_FALSE(mistral::make_folder(scratch.path("new"), "test"));
  calls = nullptr;
  CHECK(told.record == std::vector<std::string>{"fsync folder"});
}

#endif
