#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/quickstart.sh: installs by apt what is missing, builds the tool in build/quickstart, and has the small model in
# examples/own_model/breeze tell a story, well past its window.
# examples/quickstart.sh CHECKPOINT [PROMPT]: the same with a checkpoint of yours, a folder of Hugging Face's or Mistral's
# layout: it continues the prompt.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/cmake/apt_install.sh"

if [ $# -eq 0 ]; then
  prompt="The next morning"
  generate=(--model "$root/examples/own_model/breeze" --max-tokens 400 --ignore-eos --temperature 0.7 --top-p 0.95
    --seed 1 --verbose)
else
  prompt=${2:-Once upon a time}
  generate=(--model "$1")
fi

apt_install "${mistral_packages[@]}"
(
  cd "$root"
  cmake --preset release -B build/quickstart
  cmake --build build/quickstart --target mistral-tool --parallel "$(mistral_jobs)"
) >&2
if [ $# -eq 0 ]; then printf '%s' "$prompt"; fi  # a story is read from its beginning
exec "$root/build/quickstart/bin/mistral" generate "${generate[@]}" --prompt "$prompt"
