#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/soak.sh [SECONDS]: 64 conversations of random lengths over one model, called off at random, for 5 minutes or as
# long as is said: constant memory, and every text is the one that it is alone. For a nightly run; CI takes seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cmake/apt_install.sh

apt_install "${mistral_test_packages[@]}"
cmake --preset dev -B build/soak -DMISTRAL_TEST_FOLDERS=generate -DMISTRAL_BUILD_EXAMPLES=OFF -DMISTRAL_TEST_PROJECT=OFF
cmake --build build/soak --parallel "$(mistral_jobs)" --target test_generate
MISTRAL_SOAK_SECONDS="${1:-300}" build/soak/bin/test_generate --test-case="a soak of*"
