#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh PROGRAM SOURCE WORK SECONDS: runs a fuzz target from its seeds, in the folder WORK. An input that fails is left
# there as crash-*, timeout-* or oom-*. $MISTRAL_DATA, or ../shared/data beside the project, holds the golden data.
set -euo pipefail
program=$1 source=$2 work=$3 seconds=$4
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
data=${MISTRAL_DATA:-$root/../shared/data}
largest=65536  # a large seed makes each run slow, and what is wrong with a file shows in a small one

read -r -a patterns < <(sed -n '2s|^// seeds: ||p' "$source") || true  # line 1 names the licence
if [ ${#patterns[@]} -eq 0 ]; then
  echo "FAILED: the second line of $source isn't '// seeds: PATTERN...'"
  exit 1
fi
mkdir -p "$work/corpus" "$work/seeds"
rm -f "$work"/seeds/* "$work"/crash-* "$work"/timeout-* "$work"/oom-*

seeds=0
take() {
  cp "$1" "$work/seeds/$(cksum <"$1" | tr ' ' '-')"
  seeds=$((seeds + 1))
}
for folder in "$root/tests/data" "$data"; do
  [ -d "$folder" ] || continue
  for pattern in "${patterns[@]}"; do
    while IFS= read -r -d '' file; do take "$file"; done < <(find "$folder" -type f -name "$pattern" -size "-$((largest / 1024 + 1))k" -print0)
  done
done
name=$(basename "$source" .cpp)
name=${name%_fuzz}
if [ -d "$root/tests/fuzz/$name" ]; then
  while IFS= read -r -d '' file; do take "$file"; done < <(find "$root/tests/fuzz/$name" -type f -print0)
fi
[ $seeds -gt 0 ] || echo "SKIPPED: no seeds for the fuzz target $name (${patterns[*]}): it starts from nothing"

echo "$name: $seeds seeds, $seconds s"
"$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=$largest -print_final_stats=1 \
  -artifact_prefix="$work/" "$work/corpus" "$work/seeds"
