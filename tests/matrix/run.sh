#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# matrix/run.sh [FOLDER]: one program (golden.cpp) built by each compiler for each processor and run, on the processor
# itself or, for Arm, under qemu; and a smaller one (bits.cpp), of what must be the same bits in every build, with each of
# the flags that let a compiler round otherwise or keep it from that. Prints the matrix. What a cell reaches:
# docs/instruction_sets.md. FOLDER keeps what is built; MATRIX_JOBS is how many cells are made at once. Ends with 1 where
# a cell fails; one whose processor this isn't is built alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. cmake/apt_install.sh
apt_install g++-12 libxsimd-dev libtbb-dev clang-14 clang-19 g++-12-aarch64-linux-gnu qemu-user libtbb-dev:arm64
folder=${1:-build/matrix}
golden=tests/data/forward/gqa_w8
rm -rf "$folder"
mkdir -p "$folder"

compilers=(g++-12 clang++-14 clang++-19)
processors=(x86-64 x86-64-v3 x86-64-v4 cooperlake armv8-a armv8.2-a+dotprod armv8.6-a+i8mm+bf16)

# Which cells there are: of sdot, which newer processors of Arm have beside usdot, one is enough.
wanted() { [ "$2" != armv8.2-a+dotprod ] || [ "$1" = g++-12 ]; }

# the cells of bits.cpp: a compiler, a processor, flags
flagged=()
for compiler in g++-12 clang++-14; do
  for flags in -O0 -O1 -O3 "-O2 -ffp-contract=off" "-O2 -ffp-contract=on" "-O2 -ffp-contract=fast"; do
    flagged+=("$compiler x86-64-v3 $flags")
  done
  flagged+=("$compiler native -O3 -ffp-contract=fast")
done
flagged+=("g++-12 x86-64 -O0" "g++-12 armv8-a -O1" "g++-12 armv8-a -O3 -ffp-contract=fast")

# what /proc/cpuinfo calls the instructions that a processor must have
needs() {
  case $1 in
    x86-64 | native) ;;
    x86-64-v3) echo avx2 fma bmi2 f16c movbe ;;
    x86-64-v4) echo avx512f avx512bw avx512cd avx512dq avx512vl ;;
    cooperlake) echo avx512_vnni avx512_bf16 ;;
  esac
}

cell_name() {  # cell_name COMPILER PROCESSOR FLAG...
  local IFS=+
  echo "$folder/$1-$2${3:+"+${*:3}"}"
}

# build PROGRAM SOURCE COMPILER PROCESSOR FLAG...: gcc 12 takes the operands of its own AVX-512 headers for uninitialized
build() {
  local program=$1 source=$2 compiler=$3 processor=$4
  shift 4
  local flags=(-std=c++20 "$@" -Iinclude -Wall -Wextra -Wconversion -Wshadow -Werror "-march=$processor")
  local link=(-ltbb -pthread)
  case $processor in
    armv8*)
      link=(-L/usr/lib/aarch64-linux-gnu "${link[@]}")
      if [ "$compiler" = g++-12 ]; then compiler=aarch64-linux-gnu-g++-12; else flags+=(--target=aarch64-linux-gnu); fi
      flags+=(-idirafter /usr/include)
      ;;
  esac
  case $compiler in *g++-12) flags+=(-Wno-uninitialized -Wno-maybe-uninitialized) ;; esac
  "$compiler" "${flags[@]}" "tests/matrix/$source" -o "$program" "${link[@]}"
}

run() {  # run PROCESSOR PROGRAM ARGUMENT...
  local with=() flag
  for flag in $(needs "$1"); do
    grep -qwm1 "$flag" /proc/cpuinfo || { echo "built alone: this processor lacks $flag"; return 0; }
  done
  case $1 in
    armv8-a) with=(qemu-aarch64 -cpu cortex-a72) ;;
    armv8*) with=(qemu-aarch64 -cpu max) ;;
  esac
  shift
  "${with[@]}" "$@"
}

# cell COMPILER PROCESSOR FLAG...: what it says goes to a file, and whether it is good to another. With flags it is one of
# bits.cpp, else of golden.cpp.
cell() {
  local begun=$SECONDS name
  local first="$folder/${compilers[0]}-${processors[0]}.logits" compiler=$1 processor=$2 source=bits.cpp arguments=()
  name=$(cell_name "$@")
  shift 2
  if [ $# -eq 0 ]; then
    source=golden.cpp
    arguments=("$golden" "$name.logits")
    [ "$name.logits" = "$first" ] || arguments+=("$first")
    set -- -O2
  fi
  if build "$name" "$source" "$compiler" "$processor" "$@" >"$name.log" 2>&1 &&
    run "$processor" "$name" "${arguments[@]}" >"$name.says" 2>>"$name.log"; then
    sed -i "s/^/ok: /; s/\$/ ($((SECONDS - begun)) s)/" "$name.says"
  else
    { echo "FAILED:"; cat "$name.log"; } >>"$name.says"
    return 1
  fi
}

status=0
cell "${compilers[0]}" "${processors[0]}" || status=1  # which all others are held against
jobs=${MATRIX_JOBS:-$(mistral_jobs)}
for compiler in "${compilers[@]}"; do
  for processor in "${processors[@]}"; do
    [ "$compiler-$processor" != "${compilers[0]}-${processors[0]}" ] && wanted "$compiler" "$processor" || continue
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || status=1; done
    cell "$compiler" "$processor" &
  done
done
for words in "${flagged[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || status=1; done
  read -ra words <<<"$words"
  cell "${words[@]}" &
done
while [ -n "$(jobs -p)" ]; do wait -n || status=1; done

for compiler in "${compilers[@]}"; do
  for processor in "${processors[@]}"; do
    wanted "$compiler" "$processor" || continue
    printf '%-12s %-22s %s\n' "$compiler" "$processor" "$(cat "$folder/$compiler-$processor.says")"
  done
done
for words in "${flagged[@]}"; do
  read -ra words <<<"$words"
  printf '%-12s %-22s %-22s %s\n' "${words[0]}" "${words[1]}" "${words[*]:2}" "$(cat "$(cell_name "${words[@]}").says")"
done
[ "$status" -eq 0 ] && echo "every cell gives the golden logits, and the promised bits"
exit "$status"
