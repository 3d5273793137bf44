#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh KIND ROOT PREFIX BUILD [CMAKE OPTION...]: builds the consumer KIND from nothing in the folder BUILD, and runs it.
# It finds mistral installed in PREFIX or, where it takes the source, in ROOT. KIND vcpkg installs it by the port's portfile
# first; its consumer is the Conan package's, which runs where no Conan is.
set -euo pipefail
kind=$1 root=$2 prefix=$3 build=$4
shift 4
source=$root/tests/consumers/$kind
rm -rf "$build"
mkdir -p "$build"
if [ "$kind" = pkg_config ]; then
  if ! command -v pkg-config >/dev/null; then
    echo "SKIPPED: pkg-config is missing"
    exit 77
  fi
  PKG_CONFIG_PATH=$prefix/share/pkgconfig make -C "$build" -f "$source/Makefile"
elif [ "$kind" = vcpkg ]; then
  cmake -DROOT="$root" -DCURRENT_PACKAGES_DIR="$build/packages" -P "$source/install.cmake"
  cmake -S "$root/tests/consumers/test_package" -B "$build" -DCMAKE_PREFIX_PATH="$build/packages" -DCMAKE_BUILD_TYPE=Debug
  cmake --build "$build"
  exec "$build/golden_logits" "$root/tests/data/forward/gqa_w8"
else
  cmake -S "$source" -B "$build" -DMISTRAL_ROOT="$root" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug "$@"
  cmake --build "$build"
fi
"$build/consumer"
