#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/ctest.sh BUILD [CTEST OPTION...]: runs the tests of a build, and repeats what ctest keeps to itself: the tests
# that were skipped for want of data or tools, and the figures of the compile times.
set -uo pipefail
build=$1
shift
. "$(dirname "${BASH_SOURCE[0]}")/../cmake/apt_install.sh"
ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$(mistral_jobs)" "$@"
result=$?
log=$build/Testing/Temporary/LastTest.log
if [ -e "$log" ]; then
  grep -hE '^(SKIPPED: |.* s of processor time )' "$log" | sort | uniq -c | sed -E 's/^ *1 //'
fi
exit $result
