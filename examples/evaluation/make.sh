#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/evaluation/make.sh [TASK]: makes the task next_word.jsonl from nothing, as the one beside this script was made:
# fetches the package that holds its text. TASK is build/evaluation/next_word.jsonl unless said.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(cd "$here/../.." && pwd)/build/evaluation
task=${1:-$work/next_word.jsonl}
mkdir -p "$work/packages"
(  # unpacked beside the build, not installed: nothing of what it depends on is needed
  cd "$work/packages"
  [ -e usr/lib/R/site-library/janeaustenr ] || { apt-get download r-cran-janeaustenr && dpkg-deb -x r-cran-janeaustenr_*.deb .; }
)
python3 "$here/make_task.py" "$work/packages" "$task"
