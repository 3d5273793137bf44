#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""abi_names.py ROOT COMPILER...: two units never share a symbol unless they have the same version and instructions.

Asks the preprocessor what core/abi.hpp calls its namespace: with none of the features that simd/cpu.hpp knows, with each
alone, with all, with all but one (of those that compilers can leave out), and with random ones. All names must differ, and begin with the
version of CMakeLists.txt, and have 24 characters at most.
"""
import random
import re
import subprocess
import sys
from pathlib import Path

ROOT, COMPILER = Path(sys.argv[1]), sys.argv[2:]
project = re.search(r"^project\(mistral VERSION (\d+)\.(\d+)\.(\d+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
version = "v" + "_".join(project.groups())
cpu = (ROOT / "include/mistral/simd/cpu.hpp").read_text().split("compiled_features() noexcept {")[1].split("return set;")[0]
conditions = re.findall(r"^#if(?:def)? (.*)$", cpu, re.MULTILINE)
features = sorted(set(re.findall(r"__[A-Z0-9_]+", " ".join(conditions))))
arm = [feature for feature in features if feature.startswith("__ARM_")]
x86 = [feature for feature in features if feature not in arm]
chain = ["__SSE3__", "__SSSE3__", "__SSE4_1__", "__SSE4_2__", "__AVX__", "__AVX2__", "__AVX512F__"]  # each brings those before it
failed = False


def fail(what):
    global failed
    failed = True
    print(f"FAILED: {what}")


def name_of(defined, processor):
    macros = [f"-U{name}" for name in (*features, "__x86_64__", "__aarch64__")] + [f"-D{name}=1" for name in (processor, *defined)]
    unit = "#include <mistral/core/abi.hpp>\nMISTRAL_ABI MISTRAL_VERSION_NAME\n"
    command = [*COMPILER, "-std=c++20", *macros, f"-I{ROOT}/include", "-E", "-P", "-x", "c++", "-"]
    words = subprocess.run(command, input=unit, capture_output=True, text=True, check=True).stdout.split()
    if len(words) != 2 or words[1] != version or not re.fullmatch(version + r"(_[a-z0-9_]+)", words[0]):
        fail(f"expected {version}_... and {version}, got {' '.join(words)}")
    if len(words[0]) > 24:
        fail(f"expected 24 characters at most, got {words[0]}")
    return words[0]


if len(x86) < 25 or len(arm) < 9:
    fail(f"simd/cpu.hpp: expected the macros of its features, got {len(x86)} of x86 and {len(arm)} of Arm")
random.seed(1)
names = {}
for processor, all_of_it in (("__x86_64__", x86), ("__aarch64__", arm)):
    sets = [[], *([feature] for feature in all_of_it), all_of_it]
    sets += [[feature for feature in all_of_it if feature != left_out] for left_out in all_of_it
             if left_out not in chain]
    for _ in range(30):
        brought = chain[: random.randrange(len(chain) + 1)]
        sets.append([feature for feature in all_of_it
                     if feature in brought or feature not in chain and random.random() < 0.5])
    for defined in sets:
        name = name_of(defined, processor)
        if name in names and names[name] != (processor, defined):
            differ = set(defined) ^ set(names[name][1])
            fail(f"{name} is two sets of instructions, which differ in {' '.join(sorted(differ))}")
        names[name] = (processor, defined)
print(f"{len(names)} sets of instructions have names of their own, such as {name_of(x86, '__x86_64__')}")
sys.exit(1 if failed else 0)
