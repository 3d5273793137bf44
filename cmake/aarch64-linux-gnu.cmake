# SPDX-License-Identifier: Apache-2.0
# Builds for 64-bit Arm with Debian's cross compiler (g++-aarch64-linux-gnu), against the libraries of the same system
# (dpkg --add-architecture arm64; libtbb-dev:arm64), and runs the tests under qemu-user.
# MISTRAL_QEMU_CPU is the processor that qemu plays: cortex-a72 is plain Armv8.0, max has all that qemu knows.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(MISTRAL_QEMU_CPU max CACHE STRING "The processor that qemu-aarch64 plays for the tests")
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-cpu;${MISTRAL_QEMU_CPU}")

# Headers alone, but Debian keeps where they are among the files of the machine that compiles.
file(GLOB xsimd_DIR LIST_DIRECTORIES true /usr/lib/*/cmake/xsimd /usr/share/cmake/xsimd)
list(GET xsimd_DIR 0 xsimd_DIR)
