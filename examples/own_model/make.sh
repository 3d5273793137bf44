#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/own_model/make.sh [FOLDER]: makes the model `breeze` from nothing, as the one in breeze/ was made: fetches the
# packages that hold its text, trains a vocabulary and the model, and says how well it predicts what it hasn't seen. Takes
# about ten minutes on two cores. Ended and run again it goes on where it was. FOLDER is build/own_model/breeze unless said.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/build/own_model
folder=${1:-$work/breeze}
steps=${MISTRAL_STEPS:-800}
. "$root/cmake/apt_install.sh"

apt_install "${mistral_packages[@]}" sentencepiece python3
mkdir -p "$work/packages" "$folder"

# 1. Text. The packages are unpacked beside the build, not installed: nothing of what they depend on is needed.
if [ ! -e "$work/text/train.txt" ]; then
  (
    cd "$work/packages"
    apt-get download bible-kjv bible-kjv-text r-cran-janeaustenr python3-networkx
    for package in *.deb; do dpkg-deb -x "$package" .; done
  )
  python3 "$here/text.py" "$work/packages" "$work/text.new"
  mv "$work/text.new" "$work/text"
fi

# 2. Vocabulary: byte-pair encoding with byte fallback, and nothing done to the text, as Mistral's own is made. The ids
# of the special pieces are Mistral's.
if [ ! -e "$folder/tokenizer.model" ]; then
  tr '\f' '\n' <"$work/text/train.txt" | grep -v '^$' >"$work/text/lines.txt"
  spm_train --input="$work/text/lines.txt" --model_prefix="$work/tokenizer" --model_type=bpe --vocab_size=2048 \
    --byte_fallback=true --character_coverage=0.9999 --split_digits=true --allow_whitespace_only_pieces=true \
    --normalization_rule_name=identity --remove_extra_whitespaces=false --max_sentence_length=1000000 \
    --unk_id=0 --bos_id=1 --eos_id=2 --pad_id=-1 --num_threads=1 --minloglevel=1
  cp "$work/tokenizer.model" "$folder/tokenizer.model"
fi

# 3. The model.
(cd "$root" && cmake --preset release -B "$work/build") >&2
cmake --build "$work/build" --target own_model mistral-tool --parallel "$(mistral_jobs)" >&2
"$work/build/bin/own_model" train "$folder" "$folder/tokenizer.model" "$work/text/train.txt" "$work/text/held_out.txt" \
  "$steps"

# 4. What it is.
python3 "$here/plot.py" "$folder/metrics.jsonl" "$folder/loss.svg"
"$work/build/bin/own_model" score "$folder" "$work"/text/held_out*.txt
"$work/build/bin/mistral" generate --model "$folder" --prompt "The next morning" --temperature 0.7 --seed 1 \
  --max-tokens 200 --ignore-eos
