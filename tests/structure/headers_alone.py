#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""headers_alone.py INCLUDE COMPILER FLAG...: each header of INCLUDE compiles alone.

Most of the time would go to parsing the same headers again and again. So some, BASES, are compiled beforehand, and a header
begins with one of them only where that is among those it includes, itself or through others: what its own lines see,
which stand below its includes, is the same with and without. That those others compile alone is shown by their own turn.

Headers of instruction sets compile where the compiler is told of the instructions: those of another processor are left out.
"""
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INCLUDE, COMPILER = Path(sys.argv[1]), sys.argv[2:]
BASES = ["mistral/nn/transformer.hpp", "mistral/text/tokenizer.hpp", "mistral/io/packed/packed_file.hpp",
         "mistral/kernels/inputs.hpp", "mistral/simd/lanes.hpp", "mistral/io/json/json.hpp"]  # the richest first
SETS = "mistral/simd/sets/"
RICHEST = {"__x86_64__": "-march=cooperlake", "__aarch64__": "-march=armv8.6-a+dotprod+i8mm+bf16"}  # has all sets of its kind
HEADERS = sorted(path.relative_to(INCLUDE).as_posix() for path in INCLUDE.rglob("*.hpp"))
MACROS = subprocess.run([*COMPILER, "-dM", "-E", "-x", "c++", "/dev/null"], stdout=subprocess.PIPE, text=True, check=True).stdout
PROCESSOR = next((name for name in RICHEST if f"#define {name} " in MACROS), None)


def foreign(header):
    """Whether it is an instruction set of another processor."""
    if not header.startswith(SETS) or header.endswith(("/scalar.hpp", "/instruction_set.hpp", "/basic_quads.hpp")):
        return False
    return PROCESSOR != ("__aarch64__" if header.startswith(f"{SETS}neon") else "__x86_64__")


def includes_of(header):
    """The headers of ours that it includes. One of them below code would see what a base shows above."""
    text = (INCLUDE / header).read_text(encoding="utf-8")
    return re.findall(r"^ *# *include <(mistral/.*?)>", text, re.MULTILINE)


def all_includes(header, known={}):
    if header not in known:
        known[header] = set()
        for included in includes_of(header):
            known[header] |= {included} | all_includes(included)
    return known[header]


def compile_header(header, folder, base=None):
    """What the compiler says against it, or nothing."""
    begin = ["-include", str(folder / base)] if base else []
    if header.startswith(SETS) and PROCESSOR:
        begin = [RICHEST[PROCESSOR]]
    result = subprocess.run([*COMPILER, f"-I{INCLUDE}", "-std=c++20", "-fsyntax-only", *begin, "-x", "c++", "-"],
                            input=f"#include <{header}>\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if result.returncode == 0 else f"FAILED: {header} alone:\n{result.stdout}"


def precompile(base, folder):
    """Leaves folder/base.gch, which stands for an -include of folder/base."""
    source = folder / base
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(f"#include <{base}>\n", encoding="utf-8")
    return subprocess.run([*COMPILER, f"-I{INCLUDE}", "-std=c++20", "-x", "c++-header", str(source), "-o", f"{source}.gch"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def main():
    if len(HEADERS) < 100:
        sys.exit(f"FAILED: expected the headers in {INCLUDE}, found {len(HEADERS)}")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        folder = Path(name)
        # one that doesn't compile precompiled is reported in its turn
        bases = [base for base, good in zip(BASES, pool.map(lambda base: precompile(base, folder), BASES)) if good]

        def compile_one(header):
            base = next((base for base in bases if base in all_includes(header)), None)
            return compile_header(header, folder, base)

        here = [header for header in HEADERS if not foreign(header)]
        failures = [failure for failure in pool.map(compile_one, here) if failure]
    print(*failures, f"{len(here)} headers, of which {len(failures)} don't compile alone; "
          f"{len(HEADERS) - len(here)} are for another processor", sep="\n")
    return 1 if failures else 0


sys.exit(main())
