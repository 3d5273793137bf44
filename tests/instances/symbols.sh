#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# symbols.sh NM READELF FOLDER OBJECT...: what objects of one source for several processors define, as compiled (OBJECT) and
# as linked (FOLDER/*.o). No symbol of the library is in two of them, and of what is linked none at all is, since only the
# instances are global; nothing of them runs before main.
set -euo pipefail
nm=$1 readelf=$2 folder=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

defined() { "$nm" --defined-only --extern-only --format=posix "$1" | awk '{print $1}' | sort -u; }

for object in "$@"; do defined "$object"; done | sort | uniq -d >"$work/shared"
ours=$(c++filt <"$work/shared" | grep -cE 'mistral::v[0-9]' || true)
others=$(wc -l <"$work/shared")
echo "in two objects as compiled: $others symbols, of which $ours are the library's; the others are such as"
c++filt <"$work/shared" | cut -c1-100 | sed -n 1,5p
if [ "$ours" -ne 0 ]; then
  echo "FAILED: two units with different flags share symbols of the library:"
  c++filt <"$work/shared" | grep -E 'mistral::v[0-9]' | sed -n 1,5p
  failed=1
fi
# the test is worth something: there are symbols of others' that the linker would merge
if [ "$others" -eq 0 ]; then echo "FAILED: expected symbols that both objects define"; failed=1; fi

count=0
for object in "$folder"/*.o; do
  count=$((count + 1))
  global=$(defined "$object")
  if grep -qvE '^mistral_instance_' <<<"$global"; then
    echo "FAILED: $object defines more than instances: $(grep -vE '^mistral_instance_' <<<"$global" | c++filt | sed -n 1,3p)"
    failed=1
  fi
  if "$readelf" --sections --wide "$object" | grep -qE '\.(init_array|ctors)'; then
    echo "FAILED: $object has code that runs before main, on any processor"
    failed=1
  fi
done
if [ "$count" -ne $# ]; then echo "FAILED: expected $# objects in $folder, got $count"; failed=1; fi
exit $failed
