#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# example.sh ROOT PROGRAM: runs a program that takes a checkpoint on the golden one; it must write something.
set -euo pipefail
checkpoint=${MISTRAL_DATA:-$1/../shared/data}/stories260k/hf
if [ ! -d "$checkpoint" ]; then
  echo "SKIPPED: $(basename "$2"): golden data $checkpoint is missing"
  exit 77
fi
text=$("$2" "$checkpoint" "Once upon a time")
echo "$text"
[ ${#text} -gt 50 ]
