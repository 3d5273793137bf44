// SPDX-License-Identifier: Apache-2.0
#include "endings.hpp"

#include <cxxabi.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>
#include <typeinfo>

#include <mistral/core/printable.hpp>
#include <mistral/io/os/temporaries.hpp>

namespace mistral::tool {

namespace {

// What handlers of signals read. Nothing here takes memory or a lock once it is set.
pthread_t main_thread;
char folders[4][PATH_MAX];
std::atomic<std::size_t> folder_count{0};
char build_folder[PATH_MAX];
std::atomic<bool> builds{false};
std::atomic<int> children[4] = {};
std::terminate_handler default_terminate = nullptr;

void say(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void clean_up() noexcept {
  remove_own_temporaries();
  for (std::size_t i = folder_count; i-- > 0;) (void)::rmdir(folders[i]);  // not where something is in it
  for (const std::atomic<int>& child : children) {
    if (const int number = child; number > 0) (void)::kill(number, SIGTERM);
  }
  if (!builds) return;
  for (const char* const name : {"model.cpp", "kernels.cpp", "common.cpp", "model.o", "kernels.o", "common.o",
                                 "model.map", "model.so", "0.log", "1.log", "2.log"}) {  // as compiler.cpp names them
    char path[PATH_MAX + 16];
    const std::size_t size = std::strlen(build_folder);
    std::memcpy(path, build_folder, size);
    path[size] = '/';
    std::memcpy(path + size + 1, name, std::strlen(name) + 1);
    (void)::unlink(path);
  }
  (void)::rmdir(build_folder);
}

// The file that is mapped at `address`, as the system lists it, in `line`; empty where it says none.
std::string_view mapped_at(std::uintptr_t address, char (&line)[PATH_MAX + 200]) noexcept {
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (maps < 0) return {};
  static char block[4096];
  std::size_t size = 0;
  std::string_view found;
  for (ssize_t count = 0; found.empty() && (count = ::read(maps, block, sizeof block)) > 0;) {
    for (ssize_t i = 0; i < count && found.empty(); ++i) {
      if (block[i] != '\n') {
        if (size < sizeof line) line[size++] = block[i];
        continue;
      }
      // 7f00-7f01 r--p 00000000 fe:01 123   /a/path
      const std::string_view text(line, size);
      size = 0;
      std::uintptr_t bounds[2] = {};
      std::size_t bound = 0;
      for (const char c : text.substr(0, text.find(' '))) {
        if (c == '-') {
          bound = 1;
        } else {
          bounds[bound] = bounds[bound] * 16 + static_cast<std::uintptr_t>(c <= '9' ? c - '0' : c - 'a' + 10);
        }
      }
      const std::size_t path = text.find('/');
      if (address >= bounds[0] && address < bounds[1] && path != std::string_view::npos) found = text.substr(path);
    }
  }
  ::close(maps);
  return found;
}

[[noreturn]] void wait_for_the_end() noexcept {
  for (;;) ::pause();
}

// Many threads may read a file that is cut: the first says so.
void end_by_bus_error(int signal, siginfo_t* info, void*) {
  static std::atomic_flag first = ATOMIC_FLAG_INIT;
  if (first.test_and_set()) wait_for_the_end();
  static char line[PATH_MAX + 200];
  const std::string_view path = mapped_at(reinterpret_cast<std::uintptr_t>(info->si_addr), line);
  if (info->si_code != BUS_ADRERR || (path.empty() && ::access("/proc/self/maps", R_OK) == 0)) {
    std::signal(signal, SIG_DFL);  // no file's fault: when this returns, it happens again
    return;
  }
  static char message[10 * PATH_MAX];
  std::size_t size = 0;
  const auto add = [&](std::string_view text) {
    size = static_cast<std::size_t>(std::copy(text.begin(), text.end(), message + size) - message);
  };
  add("mistral: error: ");
  for (std::string_view rest = path; !rest.empty() && size < sizeof message - 200;) {
    const detail::Shown shown = detail::shown_in_line(rest);
    add({shown.text, shown.size});
    rest.remove_prefix(shown.taken);
  }
  add(path.empty() ? "a mapped file: " : ": ");
  add("cannot read: the file was made shorter while it was in use, or its disk fails\n");
  clean_up();
  say({message, size});
  ::_exit(1);
}

[[noreturn]] void end_by_terminate() {
  // where memory runs out in what may not throw
  const std::type_info* const thrown = abi::__cxa_current_exception_type();
  if (thrown != nullptr && *thrown == typeid(std::bad_alloc)) {
    clean_up();
    ::_exit(out_of_memory());
  }
  default_terminate();
  std::abort();
}

// Before any object of the program is made, whose constructor may find no memory.
[[gnu::constructor(101)]] void watch_terminate() { default_terminate = std::set_terminate(end_by_terminate); }

}  // namespace

void end_by(int signal) {
  // The thread that writes files makes no more of them while it is in here.
  if (::pthread_equal(::pthread_self(), main_thread) == 0 && signal != SIGPIPE) {
    ::pthread_kill(main_thread, signal);
    return;
  }
  clean_up();
  std::signal(signal, SIG_DFL);
  std::raise(signal);  // which comes when this returns, if not at once
}

void watch_endings() {
  main_thread = ::pthread_self();
  // A reader that has seen enough (`mistral generate | head`) ends us quietly, whatever our parent made of the signal.
  std::signal(SIGPIPE, end_by);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU}) {
    // what our parent has us ignore (nohup, a shell's background) stays ignored
    if (std::signal(signal, end_by) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a file that reaches its limit is an error of the write
  struct ::sigaction bus = {};
  bus.sa_sigaction = end_by_bus_error;
  bus.sa_flags = SA_SIGINFO;
  ::sigemptyset(&bus.sa_mask);
  ::sigaction(SIGBUS, &bus, nullptr);
}

void remove_if_ended(const std::string& folder) {
  struct ::stat status = {};
  const std::size_t at = folder_count;
  if (at == std::size(folders) || folder.size() >= PATH_MAX || ::lstat(folder.c_str(), &status) == 0) return;
  std::memcpy(folders[at], folder.c_str(), folder.size() + 1);
  folder_count = at + 1;
}

void remove_build_if_ended(const std::string& folder) {
  builds = false;
  if (folder.empty() || folder.size() >= PATH_MAX) return;
  std::memcpy(build_folder, folder.c_str(), folder.size() + 1);
  builds = true;
}

void end_with_us(int child) noexcept {
  for (std::atomic<int>& place : children) {
    int none = 0;
    if (place.compare_exchange_strong(none, child)) return;
  }
}

void forget_child(int child) noexcept {
  for (std::atomic<int>& place : children) {
    int known = child;
    if (place.compare_exchange_strong(known, 0)) return;
  }
}

int out_of_memory() noexcept {
  say("mistral: error: out of memory (mistral inspect says what a model needs)\n");
  return 1;
}

}  // namespace mistral::tool
