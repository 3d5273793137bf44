#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/run.sh [CTEST OPTION...]: installs by apt what is missing, builds the tests in build/tests, and runs them all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cmake/apt_install.sh

apt_install "${mistral_test_packages[@]}"
# warnings are errors in CI; elsewhere a compiler newer than ours may warn of what ours doesn't
cmake --preset dev -B build/tests -DCMAKE_COMPILE_WARNING_AS_ERROR="${MISTRAL_WERROR:-OFF}" -DMISTRAL_TESTS_TOGETHER=4
cmake --build build/tests --parallel "$(mistral_jobs)"
bash tests/ctest.sh build/tests "$@"
