// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/os/memory.hpp>

#include <optional>
#include <string>

#include <doctest/doctest.h>

#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/model.hpp>

#include "../support/data.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::Scratch;

TEST_CASE("available memory is the least of what the system and the control groups leave") {
  const Scratch root;
  const auto available = [&] { return available_memory(root.path("")); };
  CHECK(available() == std::nullopt);
  root.write("proc/meminfo", "MemTotal:       24000000 kB\nMemFree:  5 kB\nMemAvailable:   1000 kB\n");
  CHECK(available() == 1024000);
  root.write("proc/self/cgroup", "0::/a/b\n");
  CHECK(available() == 1024000);
  root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.write("sys/fs/cgroup/a/b/memory.current", "400000\n");
  CHECK(available() == 1024000);
  root.write("sys/fs/cgroup/a/b/memory.max", "700000\n");
  CHECK(available() == 300000);
  // pages of files give way
  root.write("sys/fs/cgroup/a/b/memory.stat", "anon 7\ninactive_file 100000\nactive_file 50000\n");
  CHECK(available() == 450000);
  // an outer group's limit holds too, and what is over it leaves nothing
  root.write("sys/fs/cgroup/a/memory.max", "500000\n");
  root.write("sys/fs/cgroup/a/memory.current", "400000\n");
  CHECK(available() == 100000);
  root.write("sys/fs/cgroup/a/memory.current", "600000\n");
  CHECK(available() == 0);

  const Scratch first;  // version 1, and a container that sees its own group as the root
  first.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/y\n1:name=systemd:/\n");
  first.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "900\n");
  first.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "100\n");
  CHECK(available_memory(first.path("")) == 800);

  const Scratch bad;
  bad.write("proc/meminfo", "MemAvailable: lots\n");
  bad.write("proc/self/cgroup", "\n:\n::\nx\n0::\n0");
  CHECK(available_memory(bad.path("")) == std::nullopt);
}

TEST_CASE("a checkpoint that doesn't fit in memory is refused with the bytes it needs, unless that isn't wanted") {
  const auto folder = test::golden("forward/gqa_w8/hf");
  if (folder.empty()) return;
  using Model = Transformer<test::tiny, Q8_0>;
  const std::string path = folder.string();
  // the largest tensor is one of [160, 64] floats
  const std::uint64_t needed = Model::memory_bytes + 160 * 64 * 4;
  CHECK(test::error_of([&] { load<Model>(path, {.max_memory = needed - 1}); }) ==
        "[memory] " + path + ": the weights in Q8_0: expected at most " + std::to_string(needed - 1) +
            " bytes of memory, got " + std::to_string(needed) + " needed");
  CHECK(test::error_of([&] { load<Model>(path, {.max_memory = needed}); }) == "no error");
  CHECK(test::error_of([&] { load<Model>(path, {.check_memory = false, .max_memory = 1}); }) == "no error");

  const Scratch scratch;
  save_packed(test::random_model<Model>(1), scratch.path("m"));
  CHECK(test::error_of([&] {
          load<Model>(scratch.path("m"), {.max_memory = Model::memory_bytes - 1});
        }).starts_with("[memory] " + scratch.path("m") + ": the weights in Q8_0: expected at most "));
  CHECK(test::error_of([&] { load<Model>(scratch.path("m"), {.max_memory = Model::memory_bytes}); }) == "no error");
}

TEST_CASE("what sessions will take beside the weights is counted before anything is loaded") {
  const Scratch scratch;
  using Model = Transformer<test::tiny, F32>;
  save_packed(test::random_model<Model>(1), scratch.path("m"));
  constexpr std::uint64_t session = Session<Model>::memory_bytes, needed = Model::memory_bytes + session;
  const auto loading = [&](const LoadOptions& options) {
    return test::error_of([&] { load<Model>(scratch.path("m"), options); });
  };
  CHECK(loading({.max_memory = needed, .session_bytes = session}) == "no error");
  CHECK(loading({.max_memory = needed - 1}) == "no error");
  CHECK(loading({.max_memory = needed - 1, .session_bytes = session}) ==
        "[memory] " + scratch.path("m") + ": the weights in F32 and sessions of " + std::to_string(session) +
            " bytes: expected at most " + std::to_string(needed - 1) + " bytes of memory, got " +
            std::to_string(needed) + " needed");
  CHECK(loading({.check_memory = false, .max_memory = 1, .session_bytes = session}) == "no error");
  // more than 64 bits can count
  CHECK(loading({.max_memory = needed, .session_bytes = ~std::uint64_t{0}})
            .ends_with("got more than can be counted needed"));
}
