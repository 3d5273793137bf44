#!/usr/bin/env bash
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
failed=0
while IFS= read -r -d '' source; do
  if ! "$tool" "$source" | cmp -s - "$source"; then
    echo "FAILED: $source: run $tool -i on it"
    failed=1
  fi
done < <(find include tests examples benchmarks \( -name '*.hpp' -o -name '*.cpp' \) -not -path '*/build/*' -print0)
exit $failed
