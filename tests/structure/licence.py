#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""licence.py ROOT: every source file names its licence in its first lines, and every file of tests/data its origin.

Prints a line for each fault, and ends with 1 where there is one.
"""
import sys
from pathlib import Path

ROOT = Path(sys.argv[1]).resolve()
LINE = "SPDX-License-Identifier: Apache-2.0"
FOLDERS = ("include", "examples", "tests", "benchmarks", "docs", "cmake", ".ci")
SUFFIXES = (".hpp", ".cpp", ".h", ".c", ".py", ".sh", ".cmake", ".cpp.in", ".cmake.in", ".pc.in", ".map")
NAMES = ("CMakeLists.txt", "Makefile", "run")

faults = []
sources = [ROOT / "CMakeLists.txt", ROOT / "conanfile.py"]
for folder in FOLDERS:
    sources += [path for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
for path in sources:
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("tests/data/") or not (path.name.endswith(SUFFIXES) or path.name in NAMES):
        continue
    if LINE not in "\n".join(path.read_text(encoding="utf-8").split("\n")[:3]):
        faults.append(f"{name}: expected '{LINE}' in its first lines")

readme = (ROOT / "tests/data/README.md").read_text(encoding="utf-8")
for folder in sorted(path for path in (ROOT / "tests/data").iterdir() if path.is_dir()):
    if folder.name not in readme:
        faults.append(f"tests/data/README.md: says nothing of {folder.name}/")

for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
