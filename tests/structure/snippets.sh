#!/usr/bin/env bash
# snippets.sh ROOT LIBRARIES COMPILER FLAG...: every C++ snippet of the README compiles as it stands, and together they run
# on a checkpoint of tests/data. What a snippet takes for given (prompt, token, tokens) is declared before it.
set -euo pipefail
root=$1 libraries=$2 compiler=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/checkpoint"
cp "$root"/tests/data/forward/gqa_w8/hf/* "$folder/checkpoint/"
cp "$root/tests/data/tokenizer/bpe600.model" "$folder/checkpoint/tokenizer.model"

# A snippet's declarations (up to the brace that closes its config) stand outside of a function, its statements inside.
awk -v out="$folder" '
  /^```cpp$/ { inside = 1; ++count; declares = 0; next }
  /^```$/ { inside = 0; next }
  !inside { next }
  /^#include/ { print > (out "/declarations"); next }
  /^inline constexpr/ { declares = 1 }
  declares { print > (out "/declarations"); if (/};/) declares = 0; next }
  { print > (out "/statements") }
  END { print count + 0 > (out "/count") }
' "$root/README.md"
[ "$(cat "$folder/count")" -ge 2 ] || { echo "FAILED: README.md has $(cat "$folder/count") C++ snippets"; exit 1; }
{
  echo '#include <cstdio>'
  echo '#include <vector>'
  cat "$folder/declarations"
  echo 'int main() {'
  echo '  const std::vector<mistral::TokenId> prompt{1, 2, 3}, tokens{4, 5};'
  echo '  const mistral::TokenId token = 7;'
  cat "$folder/statements"
  echo '  std::printf("%zu logits, %zu rows, %s\n", logits.size(), all.rows(), text.c_str());'
  echo '  return logits.size() == 97 && all.rows() == 2 && text == "text" ? 0 : 1;'
  echo '}'
} >"$folder/main.cpp"
"$compiler" -std=c++20 -O1 -I"$root/include" "$@" "$folder/main.cpp" -o "$folder/main" $libraries
cd "$folder" && ./main
