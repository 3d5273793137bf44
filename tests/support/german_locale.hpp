// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>
#include <sys/wait.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <locale>
#include <string>

#include "scratch.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MISTRAL_TEST_LEAKS 1
#endif
#endif
#ifdef MISTRAL_TEST_LEAKS
#include <sanitizer/lsan_interface.h>
#endif

namespace mistral::test {

/// While it lives, the process has the locale de_DE.UTF-8, in C and in C++, in which a decimal comma stands in 0,1 and
/// a full stop in 1.000. Says so loudly where the system can't make one.
class GermanLocale {
 public:
  GermanLocale() {
    const std::string command = "localedef -i de_DE -f UTF-8 '" + scratch_.path("de_DE.UTF-8") + "' >/dev/null 2>&1";
    const char* const before = std::getenv("LOCPATH");
    if (before != nullptr) locpath_ = before;
    ::setenv("LOCPATH", scratch_.path("").c_str(), 1);
#ifdef MISTRAL_TEST_LEAKS
    const __lsan::ScopedDisabler known;  // glibc never frees the list of folders that it makes of LOCPATH
#endif
    if (std::system(command.c_str()) == 0 && std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr) {
      cpp_ = std::locale::global(std::locale("de_DE.UTF-8"));
      set_ = true;
    } else {
      std::fprintf(stderr, "SKIPPED: numbers with a decimal comma: this system can't make the locale de_DE.UTF-8\n");
    }
  }
  GermanLocale(const GermanLocale&) = delete;
  GermanLocale& operator=(const GermanLocale&) = delete;
  ~GermanLocale() {
    if (set_) std::locale::global(cpp_);
    std::setlocale(LC_ALL, "C");
    if (locpath_.empty()) {
      ::unsetenv("LOCPATH");
    } else {
      ::setenv("LOCPATH", locpath_.c_str(), 1);
    }
  }

  /// Whether the locale is there.
  explicit operator bool() const noexcept { return set_; }

 private:
  Scratch scratch_;
  std::string locpath_;
  std::locale cpp_;
  bool set_ = false;
};

}  // namespace mistral::test
