#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# against_pytorch.sh [small|tiny] [STEPS]: LoRA training beside PyTorch's, step by step in turn, from the same weights, the
# same adapter and the same batch, in float32. `small` is a model of 229 million parameters (dim 1024, 12 layers, hidden
# 3584, 16 heads over 4, vocabulary 32000) with adapters of rank 32 beside all matrices and the head, 4 sequences of 512
# tokens; `tiny` checks in a second what the other measures. AdamW, rate 1e-3, gradients clipped to a norm of 0.3.
#
# PyTorch's half is plain_mistral.py: a linear layer and two small ones beside it, attention with a mask. Neither takes
# activations again in the backward. The base and the adapter are written by Python as Hugging Face's and PEFT's files and
# read by this library; at the end it is the other way round: the trained adapter is read by PyTorch, whose logits must be
# those of the library. Losses must agree within 1e-3 at each step. The first step warms up and doesn't count. Of
# multiply-adds are counted 2 x parameters x tokens for the forward and for the inputs' gradient each; the adapters, the
# attention and the optimizer go uncounted.
#
# Needs Debian's python3-torch; for a fair comparison libopenblas0 too, which serves it then. $PYTHON is another Python that
# has torch, $THREADS is how many threads both use, $WORK keeps the files, $BUILD is the build folder. A variable such as
# OPENBLAS_CORETYPE reaches PyTorch as it is.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shape=${1:-small}
steps=${2:-5}
threads=${THREADS:-$(nproc)}
case $shape in
  small) matrices=196345856 tokens=2048 ;;  # parameters without the embedding, which multiplies nothing
  tiny) matrices=135232 tokens=80 ;;
  *) echo "usage: against_pytorch.sh [small|tiny] [STEPS]" >&2; exit 2 ;;
esac
python=
for candidate in "${PYTHON:-python3}" /usr/bin/python3; do  # Debian's packages belong to Debian's Python
  if "$candidate" -c 'import torch' 2>/dev/null; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
  echo "SKIPPED: python3-torch is missing (Debian: apt-get install python3-torch libopenblas0)"
  exit 0
fi

build=${BUILD:-$root/build/bench}
(cd "$root" && cmake --preset bench -B "$build" && cmake --build "$build" --target lora_steps) >&2
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
rm -f "$work"/*.in "$work"/*.out
mkfifo "$work"/{theirs,ours}.{in,out}
half="$root/benchmarks/train/pytorch_lora.py"
"$python" "$half" make "$work" "$shape"
blas=$(readlink -f "$(ldconfig -p | awk '/libblas.so.3 / { print $NF; exit }')" || true)
echo "PyTorch $("$python" -c 'import torch; print(torch.__version__)'), ${blas:-its own BLAS}, OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-}, $threads threads"

export OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads
"$python" "$half" steps "$work" "$threads" <"$work/theirs.in" >"$work/theirs.out" &
theirs=$!
"$build/bin/lora_steps" "$work" "$threads" <"$work/ours.in" >"$work/ours.out" &
ours=$!
exec 3>"$work/theirs.in" 4<"$work/theirs.out" 5>"$work/ours.in" 6<"$work/ours.out"
: >"$work/steps"
for ((step = 0; step < steps; step++)); do
  echo >&3
  read -r their_loss their_seconds <&4
  echo >&5
  read -r our_loss our_seconds peak <&6
  echo "$their_loss $our_loss $their_seconds $our_seconds $peak" >>"$work/steps"
  echo "step $((step + 1)): loss $their_loss, ours $our_loss; $their_seconds s, ours $our_seconds s" >&2
done
exec 3>&-
read -r their_memory <&4
wait "$theirs"
exec 5>&-
read -r our_memory <&6
wait "$ours"

awk -v tokens="$tokens" -v matrices="$matrices" -v theirs="$their_memory" -v ours="$our_memory" '
  function sorted(v, n,    i, j, x) {
    for (i = 2; i <= n; i++) { x = v[i]; for (j = i - 1; j > 0 && v[j] > x; j--) v[j + 1] = v[j]; v[j + 1] = x }
  }
  function figure(v, n, form) {
    sorted(v, n)
    return sprintf(form " (" form " ... " form ")", n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2, v[1], v[n])
  }
  { off = $1 > $2 ? $1 - $2 : $2 - $1; if (off > most) most = off }
  NR > 1 {
    n++
    t[n] = tokens / $3; o[n] = tokens / $4; r[n] = $3 / $4
    tp[n] = 400 * matrices * tokens / $3 / $5; op[n] = 400 * matrices * tokens / $4 / $5
  }
  END {
    printf "loss: %d steps, at most %.1e apart\n", NR, most
    if (n) {
      printf "PyTorch: %s tokens/s, %s%% of the fp32 peak, %.2f GB at most\n", figure(t, n, "%.1f"), figure(tp, n, "%.1f"), theirs / 1e9
      printf "ours:    %s tokens/s, %s%% of the fp32 peak, %.2f GB at most\n", figure(o, n, "%.1f"), figure(op, n, "%.1f"), ours / 1e9
      printf "ours is %s times as fast, in %.2f of its memory\n", figure(r, n, "%.2f"), ours / theirs
    }
    if (!(most <= 1e-3)) { print "FAILED: the losses differ"; exit 1 }
  }' "$work/steps"
"$python" "$half" check "$work"
