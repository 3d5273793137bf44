#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stands in for the tool `mistral`: mistral inspect --model CHECKPOINT --config NAME
if [ "$1 $2 $4" != "inspect --model --config" ] || [ ! -f "$3/config.json" ]; then
  echo "mistral: expected inspect --model CHECKPOINT --config NAME, got $*" >&2
  exit 2
fi
echo "inline constexpr mistral::ModelConfig $5{
    .dim = 128, .n_layers = 4, .head_dim = 32, .hidden_dim = 384, .n_heads = 4, .n_kv_heads = 2,
    .window_size = 64, .context_len = 1024, .vocab_size = 2048};"
