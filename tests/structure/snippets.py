#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""snippets.py ROOT CMAKE LIBRARIES COMPILER FLAG...: the C++ and CMake of the documents, compiled, run and configured.

All C++ of README.md and docs/ goes into one translation unit, whose lines the compiler calls by the document's:

- A block whose first line is `// NAME.hpp` is that header; the document's other blocks include it.
- A block with an `int main` is a program. What it returns counts.
- The other blocks of a document are one function: each goes on from those before it. Their includes, and what they declare
  from `inline constexpr` to `;`, stand outside of it.
- What a reader needn't see, such as what a block takes for given or `check(condition);`, stands in a comment
  `<!-- cpp ... -->`, which is a block as well. `<!-- cpp compiled -->` says that the document's function is not run.

The programs and functions run one after the other beside `checkpoint/`, the model of the README, and `examples/`.

Each CMake block is configured by itself, behind what a comment `<!-- cmake ... -->` before it says, with a target `app` and with
the library installed.
"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT, CMAKE, LIBRARIES = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3].split()
COMPILER = sys.argv[4:]
FENCE = re.compile(r"^```(cpp|cmake)\n(.*?)^```$|^<!-- (cpp|cmake)\b(.*?)-->$", re.MULTILINE | re.DOTALL)


class Block:
    """A block of code of a document: its lines, and where the first of them stands."""

    def __init__(self, document, text, match):
        self.document = document
        self.language = match[1] or match[3]
        self.shown = match[1] is not None
        word, _, body = ("", "", match[2]) if self.shown else match[4].partition("\n")
        self.compiled_only = word.strip() == "compiled"
        self.lines = body.splitlines()
        self.line = text.count("\n", 0, match.start()) + 2

    def header(self):
        name = re.fullmatch(r"// ([\w/]+\.hpp)", self.lines[0] if self.lines else "")
        return name[1] if name else None

    def is_program(self):
        return any(line.startswith("int main(") for line in self.lines)

    def source(self, wanted):
        """The lines that `wanted(line)` says, under their numbers in the document."""
        out = []
        for number, line in enumerate(self.lines, self.line):
            if wanted(line):
                out += [f'#line {number} "{self.document}"', line]
        return out


def blocks_of(path):
    text = path.read_text(encoding="utf-8")
    return [Block(path.relative_to(ROOT), text, match) for match in FENCE.finditer(text)]


def is_include(line):
    return line.startswith("#include")


class Declares:
    """Which lines belong to declarations that begin with `inline constexpr`."""

    def __init__(self):
        self.inside = False

    def __call__(self, line):
        if line.startswith("inline constexpr"):
            self.inside = True
        declares = self.inside
        if re.search(r";\s*(//.*)?$", line):
            self.inside = False
        return declares


def unit(blocks, folder):
    """The translation unit of all blocks; writes their headers to the folder."""
    includes = ["#include <cstdio>", "#include <exception>", "#include <string>", "#include <vector>"]
    rest = ["namespace {", "int failures = 0;", "void check_that(bool good, const char* text) {",
            "  if (!good) std::printf(\"FAILED: %s\\n\", text), ++failures;", "}", "}  // namespace",
            "#define check(...) check_that((__VA_ARGS__), #__VA_ARGS__)"]
    calls = []
    headers = set()
    for document in dict.fromkeys(block.document for block in blocks):
        name = re.sub(r"\W", "_", str(document))
        declared, statements, run = [], [], True
        programs = 0
        for block in (b for b in blocks if b.document == document):
            if block.header():
                if block.header() in headers:
                    sys.exit(f"FAILED: {document}:{block.line}: a second {block.header()}")
                headers.add(block.header())
                (folder / block.header()).write_text(
                    "\n".join(["#pragma once", f'#line {block.line} "{document}"', *block.lines, ""]), encoding="utf-8")
                includes.append(f'#include "{block.header()}"')
                continue
            run = run and not block.compiled_only
            includes += block.source(is_include)
            if block.is_program():
                programs += 1
                program = [line.replace("int main(", "int run(") for line in block.source(lambda line: not is_include(line))]
                rest += [f"namespace {name}_{programs} {{", *program, f"}}  // namespace {name}_{programs}"]
                calls.append(f'  if ({name}_{programs}::run() != 0) check_that(false, "{document}: its program {programs}");')
                continue
            declares = Declares()
            declared += block.source(lambda line: declares(line) and not is_include(line))
            declares = Declares()
            statements += block.source(lambda line: not declares(line) and not is_include(line))
        if statements:
            rest += [f"namespace {name} {{", *declared, "void run() {", *statements, "}", f"}}  // namespace {name}"]
            if run:
                calls.append(f"  {name}::run();")
            else:
                rest.append(f"[[maybe_unused]] void (*volatile {name}_compiled)() = {name}::run;")
    return "\n".join([*includes, *rest, "int main() try {", *calls, "  return failures == 0 ? 0 : 1;",
                      "} catch (const std::exception& error) {",
                      "  std::printf(\"FAILED: %s\\n\", error.what());", "  return 1;", "}", ""])


def compile_and_run(blocks, folder):
    (folder / "snippets.cpp").write_text(unit(blocks, folder), encoding="utf-8")
    checkpoint = folder / "checkpoint"
    shutil.copytree(ROOT / "tests/data/forward/gqa_w8/hf", checkpoint)
    shutil.copy(ROOT / "tests/data/tokenizer/bpe600.model", checkpoint / "tokenizer.model")
    (folder / "examples").symlink_to(ROOT / "examples")
    subprocess.run([*COMPILER, "-std=c++20", "-O1", f"-I{ROOT}/include", f"-I{folder}", "snippets.cpp", "-o", "snippets",
                    *LIBRARIES], cwd=folder, check=True)
    subprocess.run(["./snippets"], cwd=folder, check=True)


def configure(blocks, folder):
    prefix = folder / "prefix"
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    options = ["-DMISTRAL_BUILD_TESTS=OFF", "-DMISTRAL_BUILD_EXAMPLES=OFF", f"-DCMAKE_CXX_COMPILER={COMPILER[0]}"]
    subprocess.run([CMAKE, "-S", ROOT, "-B", folder / "library", *options], **quiet)
    subprocess.run([CMAKE, "--install", folder / "library", "--prefix", prefix], **quiet)
    hidden = []
    for number, block in enumerate(blocks):
        if not block.shown:
            hidden = block.lines
            continue
        project = folder / f"project_{number}"
        project.mkdir()
        (project / "app.cpp").write_text("int main() {}\n")
        (project / "CMakeLists.txt").write_text("\n".join(
            ["cmake_minimum_required(VERSION 3.25)", "project(app CXX)", "add_executable(app app.cpp)", *hidden,
             *block.lines, ""]))
        print(f"{block.document}:{block.line}: configured", flush=True)
        subprocess.run([CMAKE, "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={prefix}", *options[2:]], **quiet)
        hidden = []


def main():
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [block for document in documents for block in blocks_of(document)]
    cpp = [block for block in blocks if block.language == "cpp"]
    cmake = [block for block in blocks if block.language == "cmake"]
    print(f"{sum(b.shown for b in cpp)} snippets of C++, {sum(b.shown for b in cmake)} of CMake", flush=True)
    if sum(b.shown for b in cpp) < 5 or sum(b.shown for b in cmake) < 2:
        sys.exit("FAILED: snippets are missing")
    with tempfile.TemporaryDirectory() as folder:
        try:
            compile_and_run(cpp, Path(folder))
            configure(cmake, Path(folder))
        except subprocess.CalledProcessError as error:
            sys.exit(f"FAILED: {' '.join(map(str, error.cmd[:3]))} ...")


main()
