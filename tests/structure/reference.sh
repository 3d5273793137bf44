#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# reference.sh ROOT: docs/Doxyfile makes the reference without a warning: every public name has a docstring, and every
# header that model.hpp, train.hpp and eigen.hpp include, or a document's snippet does, is in it.
set -euo pipefail
cd "$1"
if ! command -v doxygen >/dev/null; then
  echo "SKIPPED: doxygen is missing"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
{ cat docs/Doxyfile; echo "OUTPUT_DIRECTORY = $folder"; } | doxygen -
for name in classTransformer classSession classTokenizer classTrainer structModelConfig conceptWeightFormat; do
  kind=${name%%[A-Z]*}
  file=$folder/${kind}mistral_1_1${name#"$kind"}.html
  [ -e "$file" ] || { echo "FAILED: expected $(basename "$file")"; exit 1; }
done
included=$(sed -nE 's/^#include <(mistral\/.*)>$/include\/\1/p' include/mistral/{model,train,eigen}.hpp README.md docs/*.md docs/*/*.md)
for header in $(grep -v /parallel/ <<<"$included" | sort -u); do
  if ! grep -qF "$header" docs/Doxyfile; then
    echo "FAILED: docs/Doxyfile doesn't name $header"
    exit 1
  fi
done
