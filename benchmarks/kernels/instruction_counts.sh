#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# instruction_counts.sh: compiles the matrix kernels for processors that needn't be there, and prints for each what the
# innermost loop with the most products is made of, one line a kernel: what stands in for a speed that can't be measured.
#   instructions   of the loop
#   products       those that multiply weights with inputs
#   multiply-adds  that the products make, and how many an instruction of the loop
#   stores         of vector registers to the stack: the sums of the rows of a tile at the end of a block, and spills
#   calls          out of the loop
# CXX and AARCH64_CXX name the compilers (g++ and aarch64-linux-gnu-g++).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

count() {
  awk -v name="$1" '
    /^many_rows:|^one_row:/ { function_name = $1; sub(/:/, "", function_name) }
    /^[A-Za-z_]/ && !/^many_rows:|^one_row:/ { sub(/:.*/, ""); function_name = (/tile/ ? "many_rows" : /multiply_row/ ? "one_row" : "") }
    /^\.L[A-Za-z0-9_]+:/ { label = $1; sub(/:/, "", label); at[label] = n; next }
    /^[ \t]+[a-z]/ { text[n] = $0; kernel[n] = function_name; ++n }
    function weight(line) {
      if (line ~ /[ \t](vpdpbusd|vpmaddubsw)[ \t].*zmm/) return 64
      if (line ~ /[ \t](vpdpbusd|vpmaddubsw)[ \t].*ymm/) return 32
      if (line ~ /[ \t]vpmaddwd[ \t].*zmm/) return narrow ? 0 : 32
      if (line ~ /[ \t]vpmaddwd[ \t].*ymm/) return narrow ? 0 : 16
      if (line ~ /[ \t]vdpbf16ps[ \t].*zmm/) return 32
      if (line ~ /[ \t](usdot|sdot)[ \t]/) return 16
      if (line ~ /[ \t](smull|smull2|smlal|smlal2)[ \t].*b/) return 8
      if (line ~ /[ \t]bfdot[ \t]/) return 8
      return 0
    }
    END {
      for (i = 0; i < n; ++i) {
        words = split(text[i], word, /[ \t,]+/)
        target = word[words]
        if (text[i] !~ /^[ \t]+(j|b|cb|tb)/ || !(target in at) || at[target] > i) continue
        begin[++loops] = at[target]; end[loops] = i
      }
      for (l = 1; l <= loops; ++l) {
        narrow = 0
        for (i = begin[l]; i <= end[l]; ++i) if (text[i] ~ /vpmaddubsw/) narrow = 1
        products = macs = stores = calls = inner = 0
        for (m = 1; m <= loops; ++m) {  # one that asks for memory has no products
          if (m == l || begin[m] < begin[l] || end[m] > end[l]) continue
          for (i = begin[m]; i <= end[m]; ++i) if (weight(text[i]) > 0) inner = 1
        }
        for (i = begin[l]; i <= end[l]; ++i) {
          w = weight(text[i]); macs += w; products += w > 0
          stores += text[i] ~ /[ \t]vmov[a-z0-9]+[ \t]+%[xyz]mm[0-9]+, *-?[0-9]*\(%rsp\)/ || text[i] ~ /[ \t](str|stp)[ \t]+q.*\[sp/
          calls += text[i] ~ /^[ \t]+(call|bl|blr)[ \t]/
        }
        f = kernel[begin[l]]
        if (!inner && f != "" && macs > best[f]) {
          best[f] = macs; line[f] = sprintf("%5d %5d %6d %6.1f %4d %4d", end[l] - begin[l] + 1, products, macs,
                                            macs / (end[l] - begin[l] + 1), stores, calls)
        }
      }
      print name " many rows | " line["many_rows"]
      print name " one row   | " line["one_row"]
    }' "$2"
}

assembly=$(mktemp)
trap 'rm -f "$assembly"' EXIT
echo "kernel | instructions products multiply-adds (an instruction) stores calls"
for target in "AVX-512:x86-64-v4:Q8_0 Q4_0" "AVX-512 VNNI:cascadelake:Q8_0 Q4_0 Q6_K" "AVX-512 BF16:cooperlake:BF16" \
  "NEON:armv8-a:Q8_0 Q4_0" "dotprod:armv8.2-a+dotprod:Q8_0 Q4_0" "i8mm, bf16:armv8.6-a:Q8_0 Q4_0 Q6_K BF16"; do
  IFS=: read -r name march formats <<<"$target"
  compiler=${CXX:-g++}
  case $march in arm*) compiler=${AARCH64_CXX:-aarch64-linux-gnu-g++} ;; esac
  for format in $formats; do
    pairs=
    if [ "$format" = BF16 ]; then pairs=1; fi
    "$compiler" -march="$march" -DMISTRAL_FORMAT="$format" ${pairs:+-DMISTRAL_PAIRS} -DNDEBUG -std=c++20 -O3 -Iinclude -S -o "$assembly" \
      benchmarks/kernels/instruction_counts.cpp
    count "$name $format" "$assembly"
  done
done
