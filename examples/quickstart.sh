#!/usr/bin/env bash
# examples/quickstart.sh [CHECKPOINT] [PROMPT]: installs by apt what is missing, builds the tool in build/quickstart, and
# continues the prompt with the checkpoint, a folder of Hugging Face's or Mistral's layout.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/cmake/apt_install.sh"

checkpoint=${1:-}
presets=all
prompt=${2:-Once upon a time}
if [ -z "$checkpoint" ]; then
  checkpoint=$root/../shared/data/stories260k/hf
  presets=small  # the 7B takes minutes to compile
  if [ ! -d "$checkpoint" ]; then
    echo "pass a checkpoint folder (config.json, model.safetensors, tokenizer.model): bash examples/quickstart.sh CHECKPOINT [PROMPT]" >&2
    exit 2
  fi
fi

apt_install "${mistral_packages[@]}"
(
  cd "$root"
  cmake --preset release -B build/quickstart -DMISTRAL_PRESETS="$presets"
  cmake --build build/quickstart --target mistral-tool --parallel "$(mistral_jobs)"
) >&2
exec "$root/build/quickstart/bin/mistral" generate --model "$checkpoint" --prompt "$prompt"
