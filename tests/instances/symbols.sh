#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# symbols.sh NM READELF FOLDER OBJECT...: what objects of one source for several processors define, as compiled (OBJECT) and
# as linked (FOLDER/*.o). As compiled they share symbols, of which a linker would keep one: of what is linked only the
# instances are global. Nothing of them runs before main.
set -euo pipefail
nm=$1 readelf=$2 folder=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

defined() { "$nm" --defined-only --extern-only --format=posix "$1" | awk '{print $1}' | sort -u; }

for object in "$@"; do defined "$object"; done | sort | uniq -d >"$work/shared"
others=$(wc -l <"$work/shared")
echo "in two objects as compiled: $others symbols, such as"
c++filt <"$work/shared" | cut -c1-100 | sed -n 1,5p
# the test is worth something: there are symbols that the linker would merge
if [ "$others" -eq 0 ]; then echo "FAILED: expected symbols that both objects define"; failed=1; fi

instance='^_ZN7mistral[0-9]+v[0-9a-z_]+9instances[0-9]+mistral_instance_[A-Za-z0-9_]+E$'
count=0
for object in "$folder"/*.o; do
  count=$((count + 1))
  global=$(defined "$object")
  if ! grep -qE "$instance" <<<"$global"; then
    echo "FAILED: $object shows no instance"
    failed=1
  fi
  if grep -qvE "$instance" <<<"$global"; then
    echo "FAILED: $object defines more than instances: $(grep -vE "$instance" <<<"$global" | c++filt | sed -n 1,3p)"
    failed=1
  fi
  if "$readelf" --sections --wide "$object" | grep -qE '\.(init_array|ctors)'; then
    echo "FAILED: $object has code that runs before main, on any processor"
    failed=1
  fi
done
if [ "$count" -ne $# ]; then echo "FAILED: expected $# objects in $folder, got $count"; failed=1; fi
exit $failed
