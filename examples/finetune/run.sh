#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/finetune/run.sh [FOLDER]: the tutorial of docs/tutorial.md as one command. Installs by apt what is missing, builds
# the tool, makes instructions of the installed Python's standard library (docstring in, code out), and tunes the small model
# in examples/own_model/breeze on them as QLoRA does: a base in NF4 that stays as it is, and an adapter beside it. Shows the
# validation loss before and after, and answers of both; merges the adapter into the weights at the end. All that it makes
# goes to FOLDER, build/finetune/run unless said; where that holds an interrupted run, it is gone on with.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/cmake/apt_install.sh"
folder=${1:-$root/build/finetune/run}
model=$root/examples/own_model/breeze

apt_install "${mistral_packages[@]}" python3
(
  cd "$root"
  cmake --preset release -B build/finetune
  cmake --build build/finetune --target mistral-tool --parallel "$(mistral_jobs)"
) >&2
mistral=$root/build/finetune/bin/mistral

mkdir -p "$folder"
python3 "$root/examples/finetune/make_dataset.py" "$folder/data"

"$mistral" finetune --model "$model" --weights nf4 --data "$folder/data/train.jsonl" --validation "$folder/data/validation.jsonl" \
  --out "$folder/adapter" --resume --keep-activations --learning-rate 6e-3 --epochs 1 --eval-every 84 --samples 2 --sample-tokens 80

"$mistral" merge --model "$model" --adapter "$folder/adapter" --out "$folder/merged" --weights f32
"$mistral" generate --model "$folder/merged" --temperature 0 --max-tokens 80 \
  --prompt "[INST] Return the number of items in the queue.

def qsize(self): [/INST]"
