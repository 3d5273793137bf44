#!/usr/bin/env bash
# snippets.sh ROOT LIBRARIES COMPILER FLAG...: every C++ snippet of the README compiles as it stands, and together they run
# on a checkpoint of tests/data. What a snippet takes for given (prompt, token, tokens; the adapter and the ids that the one
# that trains begins with) is declared or made before it.
set -euo pipefail
root=$1 libraries=$2 compiler=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/checkpoint"
cp "$root"/tests/data/forward/gqa_w8/hf/* "$folder/checkpoint/"
cp "$root/tests/data/tokenizer/bpe600.model" "$folder/checkpoint/tokenizer.model"

# A snippet's declarations (up to the brace that closes its config) stand outside of a function, its statements inside; the
# one that trains has a block of its own, since it has another model.
awk -v out="$folder" '
  /^```cpp$/ { inside = 1; ++count; declares = 0; file = "/statements"; next }
  /^```$/ { inside = 0; next }
  !inside { next }
  /^#include <mistral\/train.hpp>/ { file = "/training" }
  /^#include/ { print > (out "/declarations"); next }
  /^inline constexpr/ { declares = 1 }
  declares { print > (out "/declarations"); if (/};/) declares = 0; next }
  { print > (out file) }
  END { print count + 0 > (out "/count") }
' "$root/README.md"
[ "$(cat "$folder/count")" -ge 3 ] || { echo "FAILED: README.md has $(cat "$folder/count") C++ snippets"; exit 1; }
{
  echo '#include <cstdio>'
  echo '#include <vector>'
  cat "$folder/declarations"
  echo 'int main() {'
  echo '  const std::vector<mistral::TokenId> prompt{1, 2, 3}, tokens{4, 5};'
  echo '  const mistral::TokenId token = 7;'
  cat "$folder/statements"
  echo '  {'
  echo '    mistral::Transformer<tiny, mistral::Lora<mistral::F32>> tuned;'
  echo '    mistral::add_adapter(tuned, {.rank = 4});'
  echo '    mistral::save_adapter(tuned, "adapter/");'
  echo '  }'
  echo '  float loss_of_training = 0.0f;'
  echo '  {'
  echo '    const std::vector<mistral::TokenId> ids(20, 7);'
  cat "$folder/training"
  echo '    loss_of_training = loss;'
  echo '  }'
  echo '  std::printf("%zu logits, %zu rows, %s, loss %f\n", logits.size(), all.rows(), text.c_str(),'
  echo '              static_cast<double>(loss_of_training));'
  echo '  return logits.size() == 97 && all.rows() == 2 && text == "text" && loss_of_training > 0.0f ? 0 : 1;'
  echo '}'
} >"$folder/main.cpp"
"$compiler" -std=c++20 -O1 -I"$root/include" "$@" "$folder/main.cpp" -o "$folder/main" $libraries
cd "$folder" && ./main
