#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kernels_once.sh NM KERNELS... -- TEST...: no test compiles a kernel that stands in the objects KERNELS, nor another of
# those functions for a format that isn't listed in tests/support/kernels.hpp. Theirs are compiled with other options: a
# product would be the sum of parts that round differently, and one row's bits no longer those of many.
set -euo pipefail
nm=$1
shift
kernels=()
while [ "$1" != -- ]; do
  kernels+=("$1")
  shift
done
shift
weak() {  # weak OBJECT...: the functions of ours that they define and the linker may replace by another's, one a line
  "$nm" --defined-only --demangle "$@" | sed -nE 's/^[0-9a-f]+ [WVu] //p' | grep -E '(^| )mistral::' | sort -u
}

ours=$(weak "${kernels[@]}" | grep -E '\bkernels::' || true)
products='\bkernels::(matmul(_add|_transposed)?<|multiply_rows?<|multiply_depth\(|OnlineSoftmax<[^>]*>::run\()'
if ! grep -qE "$products" <<<"$ours"; then
  echo "FAILED: found no kernels in ${kernels[*]}"
  exit 1
fi
theirs=$(weak "$@")
if [ -z "$theirs" ]; then
  echo "FAILED: the tests define nothing of ours: $*"
  exit 1
fi
twice=$({ comm -12 <(echo "$ours") <(echo "$theirs"); grep -E "$products" <<<"$theirs" || true; } | sort -u)
if [ -n "$twice" ]; then
  printf 'FAILED: tests compile these themselves, which tests/support/kernels.hpp must list:\n%s\n' "$twice"
  exit 1
fi
echo "$(wc -l <<<"$ours") functions of the kernels, none of them in $# objects of tests"
