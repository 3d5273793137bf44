#!/usr/bin/env bash
# matrix/run.sh [FOLDER]: one program (golden.cpp) built by each compiler for each processor and run, on the processor
# itself or, for Arm, under qemu; prints the matrix. What a cell reaches: docs/instruction_sets.md. FOLDER keeps what is
# built; MATRIX_JOBS is how many cells are made at once. Ends with 1 where a cell fails; one whose processor this isn't is
# built alone.
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

# what /proc/cpuinfo calls the instructions that a processor must have
needs() {
  case $1 in
    x86-64) ;;
    x86-64-v3) echo avx2 fma bmi2 f16c movbe ;;
    x86-64-v4) echo avx512f avx512bw avx512cd avx512dq avx512vl ;;
    cooperlake) echo avx512_vnni avx512_bf16 ;;
  esac
}

build() {  # build COMPILER PROCESSOR: gcc 12 takes the operands of its own AVX-512 headers for uninitialized
  local compiler=$1 flags=(-std=c++20 -O2 -Iinclude -Wall -Wextra -Wconversion -Wshadow -Werror "-march=$2")
  local link=(-ltbb -pthread)
  case $2 in
    armv8*)
      link=(-L/usr/lib/aarch64-linux-gnu "${link[@]}")
      if [ "$compiler" = g++-12 ]; then compiler=aarch64-linux-gnu-g++-12; else flags+=(--target=aarch64-linux-gnu); fi
      flags+=(-idirafter /usr/include)
      ;;
  esac
  case $compiler in *g++-12) flags+=(-Wno-uninitialized -Wno-maybe-uninitialized) ;; esac
  "$compiler" "${flags[@]}" tests/matrix/golden.cpp -o "$folder/$1-$2" "${link[@]}"
}

run() {  # run COMPILER PROCESSOR
  local first="$folder/${compilers[0]}-${processors[0]}.logits" program="$folder/$1-$2" with=() flag
  for flag in $(needs "$2"); do
    grep -qwm1 "$flag" /proc/cpuinfo || { echo "built alone: this processor lacks $flag"; return 0; }
  done
  case $2 in
    armv8-a) with=(qemu-aarch64 -cpu cortex-a72) ;;
    armv8*) with=(qemu-aarch64 -cpu max) ;;
  esac
  if [ "$program.logits" = "$first" ]; then set -- "$first"; else set -- "$program.logits" "$first"; fi
  "${with[@]}" "$program" "$golden" "$@"
}

cell() {  # cell COMPILER PROCESSOR: what it says goes to a file, and whether it is good to another
  local begun=$SECONDS name=$folder/$1-$2
  if build "$1" "$2" >"$name.log" 2>&1 && run "$1" "$2" >"$name.says" 2>>"$name.log"; then
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
while [ -n "$(jobs -p)" ]; do wait -n || status=1; done

for compiler in "${compilers[@]}"; do
  for processor in "${processors[@]}"; do
    wanted "$compiler" "$processor" || continue
    printf '%-12s %-22s %s\n' "$compiler" "$processor" "$(cat "$folder/$compiler-$processor.says")"
  done
done
[ "$status" -eq 0 ] && echo "every cell gives the golden logits"
exit "$status"
