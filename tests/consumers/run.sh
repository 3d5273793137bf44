#!/usr/bin/env bash
# run.sh KIND ROOT PREFIX BUILD [CMAKE OPTION...]: builds the consumer KIND from nothing in the folder BUILD, and runs it.
# It finds mistral installed in PREFIX or, where it takes the source, in ROOT.
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
else
  cmake -S "$source" -B "$build" -DMISTRAL_ROOT="$root" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug "$@"
  cmake --build "$build"
fi
"$build/consumer"
