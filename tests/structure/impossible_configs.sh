#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# impossible_configs.sh ROOT COMPILER FLAG...: a config that no transformer has doesn't compile, and the message names the
# field; the config that each of them is made from does compile. Nor does the training of weights that can't be trained,
# nor a hook that nobody would call or that may throw where nothing may, nor a session over a temporary model.
set -euo pipefail
root=$1 compiler=$2
shift 2
failed=0

compile() {  # compile FIELDS...: what the compiler says to the good config with these fields changed
  local changes=''
  for change in "$@"; do changes+="config.$change; "; done
  "$compiler" -std=c++20 -fsyntax-only -I"$root/include" "${flags[@]}" -x c++ - 2>&1 <<CPP || true
#include <mistral/core/config.hpp>
constexpr mistral::ModelConfig good{.dim = 64, .n_layers = 3, .head_dim = 16, .hidden_dim = 160, .n_heads = 4,
                                    .n_kv_heads = 2, .window_size = 8, .context_len = 64, .vocab_size = 97,
                                    .rope_theta = 10000.0f, .norm_eps = 1e-5f};
constexpr mistral::ModelConfig changed() { mistral::ModelConfig config = good; $changes return config; }
static_assert(mistral::CheckedConfig<changed()>::value);
CPP
}

expect() {  # expect FIELD MESSAGE CHANGE...: the message names the field
  local message=$2 said
  said=$(compile "${@:3}")
  if grep -qF "$message" <<<"$said" && grep -qF "ModelConfig::$1" <<<"$said"; then
    echo "ok: ${*:3}"
  else
    echo "FAILED: ${*:3}: expected '$message', the compiler said: $(head -n 3 <<<"$said")"
    failed=1
  fi
}

flags=("$@")
said=$(compile)
[ -z "$said" ] || { echo "FAILED: the good config doesn't compile: $said"; exit 1; }
for field in dim n_layers head_dim hidden_dim n_heads n_kv_heads context_len vocab_size; do
  expect "$field" "ModelConfig::$field must not be 0" "$field = 0"
done
expect head_dim "ModelConfig::head_dim must be even" "head_dim = 15"
expect head_dim "ModelConfig::head_dim must be at most" "head_dim = 258"
expect n_heads "ModelConfig::n_heads must be divisible by ModelConfig::n_kv_heads" "n_kv_heads = 3"
expect rope_theta "ModelConfig::rope_theta must be positive" "rope_theta = 0.0f"
expect norm_eps "ModelConfig::norm_eps must be positive" "norm_eps = -1e-5f"

# the transformer itself holds its config against this too
said=$("$compiler" -std=c++20 -fsyntax-only -I"$root/include" "${flags[@]}" -x c++ - 2>&1 <<CPP || true
#include <mistral/train.hpp>
constexpr mistral::ModelConfig good{.dim = 64, .n_layers = 3, .head_dim = 16, .hidden_dim = 160, .n_heads = 4,
                                    .n_kv_heads = 2, .window_size = 8, .context_len = 64, .vocab_size = 97};
constexpr mistral::ModelConfig changed() { mistral::ModelConfig config = good; config.head_dim = 15; return config; }
mistral::Transformer<changed(), mistral::F32>* odd() { return new mistral::Transformer<changed(), mistral::F32>(); }
void train(mistral::Transformer<good, mistral::Q4_0>& model) { mistral::Trainer trainer{model}; }
using Session = mistral::Session<mistral::Transformer<good, mistral::F32>>;
struct Residuals { void residual(const mistral::Residual&) {} };
struct Scores { void scores(const mistral::LayerRows&) {} };
struct Heads { template <class Rows> void heads(const Rows&) {} };
void watch(Session& session, const Residuals& tape) { session.decode(1, tape); }
void watch(Session& session, Scores tape) { session.decode(1, tape); }
void watch(Session& session, const Heads& tape) { session.decode(1, tape); }
struct Between { void between(mistral::Rows<float>) {} };
struct Gate { void gate(mistral::Rows<float>) {} };
void watch(Session& session, Between tape) { session.decode(1, tape); }
void watch(Session& session, Gate tape) { session.decode(1, tape); }
Session over_a_temporary() { return Session{mistral::Transformer<good, mistral::F32>()}; }
CPP
)
refuses() {  # refuses MESSAGE WHAT
  if grep -qF "$1" <<<"$said"; then
    echo "ok: $2"
  else
    echo "FAILED: $2: the compiler said: $(head -n 3 <<<"$said")"
    failed=1
  fi
}
refuses "ModelConfig::head_dim must be even" "a transformer of an impossible config"
refuses "this model's weights can't be trained" "a trainer of Q4_0"
refuses "tape: residual() would not be called" "a hook that isn't const in a tape that is"
refuses "tape: scores() would not be called" "a hook that takes something else"
refuses "tape: heads() would not be called" "a hook that is a template, isn't const, and stands in a tape that is"
refuses "tape: between() must be noexcept" "a hook that may throw where nothing may"
refuses "tape: gate() must be noexcept" "a hook on the gate that may throw"
refuses "deleted" "a session over a temporary model"
exit $failed
