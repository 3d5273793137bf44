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
  cmake -S "$source" -B "$build" -DMISTRAL_ROOT="$root" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug "$@" | tee "$build/configured.txt"
  # configuring says when the instruction set is the plainest, and only then
  if [ "$(uname -m)" = x86_64 ] && [ -z "${CXXFLAGS:-}" ]; then
    said=$(grep -c "mistral: compiling for plain x86-64" "$build/configured.txt" || true)
    case " $* " in *" -DMISTRAL_NATIVE=ON "*) expected=0 ;; *) expected=1 ;; esac
    if [ "$said" != "$expected" ]; then
      echo "FAILED: expected $expected lines on the instruction set, got $said"
      exit 1
    fi
  fi
  cmake --build "$build"
fi
if [ "$kind" = kernels ]; then
  # the units use what is compiled once, and compile none of it themselves
  symbols=$(nm -C "$build"/CMakeFiles/consumer.dir/*.o)
  once='(kernels::(matmul<|OnlineSoftmax<[^>]*>::run)|CheckpointReader::read<|Tokenizer::load_from<|detail::open_to_load<)'
  if ! grep -qE "^ +U .*kernels::matmul<" <<<"$symbols" || ! grep -qE "^ +U .*load_from<" <<<"$symbols"; then
    echo "FAILED: the units don't use the kernels"
    exit 1
  fi
  if grep -E " [VWTt] ([^(]* )?mistral::[^(]*$once" <<<"$symbols"; then
    echo "FAILED: the units compile the above themselves"
    exit 1
  fi
fi
"$build/consumer"
