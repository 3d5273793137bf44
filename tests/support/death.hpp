// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

namespace mistral::test {

/// What a process that runs `action` writes to standard error before an assertion ends it; "it ended by itself" where
/// none does, and which signal where another ends it.
template <class Action>
std::string assertion_of(const Action& action) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("cannot make a pipe");
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("cannot make a process");
  if (child == 0) {
    for (const int number : {SIGABRT, SIGSEGV}) ::signal(number, SIG_DFL);  // without doctest's report
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::alarm(60);  // a hang is a failure too
    ::dup2(ends[1], STDERR_FILENO);
    action();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  char text[4096];
  for (ssize_t count; (count = ::read(ends[0], text, sizeof text)) > 0;)
    said.append(text, static_cast<std::size_t>(count));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) return "it ended by itself";
  return WTERMSIG(status) == SIGABRT ? said : "signal " + std::to_string(WTERMSIG(status));
}

}  // namespace mistral::test
