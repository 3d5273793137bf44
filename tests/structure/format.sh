#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# format.sh ROOT: every source of ours is as clang-format 14 leaves it. Another version formats differently: skipped.
set -euo pipefail
cd "$1"
tool=$(command -v clang-format-14 || command -v clang-format || true)
if [ -z "$tool" ]; then
  echo "SKIPPED: clang-format 14 is missing (Debian: apt-get install clang-format-14)"
  exit 77
fi
if [[ $("$tool" --version) != *"version 14."* ]]; then
  echo "SKIPPED: clang-format 14 is missing, this is $("$tool" --version)"
  exit 77
fi
if ! find include tests examples benchmarks \( -name '*.hpp' -o -name '*.cpp' -o -name '*.h' -o -name '*.c' \) -not -path '*/build/*' -print0 |
  xargs -0 -n 32 -P "$(nproc)" "$tool" --dry-run -Werror; then
  echo "FAILED: run $tool -i on the files above"
  exit 1
fi
