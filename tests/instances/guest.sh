#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# guest.sh NM OBJDUMP OBJECT...: what objects that load models and tokenizers, run sessions and batches and generate texts ask
# of the system, and what they leave in a program: nothing that prints, ends the program or starts a thread, and no variable.
set -euo pipefail
nm=$1 objdump=$2
shift 2
failed=0

for object in "$@"; do
  needed=$("$nm" --undefined-only --format=posix "$object" | awk '{print $1}' | c++filt | sed 's/@.*//')
  # a failed assertion may end a debug build: that is a mistake of ours
  forbidden='^(printf|fprintf|vprintf|vfprintf|dprintf|puts|putchar|putc|fputs|fputc|perror|syslog|stdout|stderr|std::(cout|cerr|clog|wcout|wcerr|wclog)'
  forbidden+='|exit|_exit|_Exit|quick_exit|abort|atexit|raise|kill|signal|sigaction|std::terminate\(\)|std::set_terminate.*|setenv|putenv|setlocale|std::locale::global.*'
  forbidden+='|pthread_create|std::thread::_M_start_thread.*|fork|system|popen|tbb::.*global_control.*|tbb::.*task_arena_base.*initialize.*|srand|rand|std::pmr::set_default_resource.*)$'
  if found=$(grep -E "$forbidden" <<<"$needed"); then
    echo "FAILED: $object asks for $found"
    failed=1
  fi
  # the list is worth something: it has what the object does need, and a pattern that matches
  if ! grep -q '^memcpy$' <<<"$needed" || ! grep -qE "$forbidden" <<<'std::cout'; then echo "FAILED: the symbols are not what was expected"; failed=1; fi

  # Variables: what lies in sections that are written to, but for addresses that the linker fills in.
  variables=$("$objdump" --syms --demangle "$object" |
    awk '$0 ~ / O / && ($0 ~ /[ \t]\.(bss|tbss|tdata)/ || $0 ~ /[ \t]\.data/) && $0 !~ /\.data\.rel\.ro/ && $0 !~ /DW\.ref/')
  if [ -n "$variables" ]; then
    echo "FAILED: $object has variables of its own:"
    sed -n 1,5p <<<"$variables"
    failed=1
  fi
  [ $failed -ne 0 ] || echo "$(basename "$object"): $(wc -l <<<"$needed") symbols are asked for, none of which prints, ends the program or starts a thread"
done
exit $failed
