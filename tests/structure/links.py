#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""links.py ROOT: what the documents point at is there.

Links to files and folders, and to headings (#anchors as GitHub makes them); paths in backticks that look like files of ours; tests
that are cited as `tests/..._test.cpp`: "name"; commands and options of the tool. Every page of docs/ is reached from the README. The pictures of docs/ideas are those
that make.py draws. The glossary is in order. Prints a line for each fault, and ends with 1 where there is one.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(sys.argv[1]).resolve()
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`([\w./-]+/[\w.-]+\.(?:hpp|cpp|sh|py|md|txt|svg|cmake))`")
CITED = re.compile(r'`(tests/\w+/\w+_test\.cpp)`: "([^"]+)"((?:, "[^"]+")*)')
COMMAND = re.compile(r"(?:^|[`/ ])mistral ([a-z]+)\b((?:\\\n|[^`\n])*)", re.MULTILINE)
TOOL = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples/tool").glob("*.[ch]pp")))
OPTIONS = set(re.findall(r"--[a-z][a-z-]*", TOOL))
faults = []


def prose(path):
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def check_glossary(document):
    """Its terms stand in the order of the alphabet, each once."""
    terms = [term.lower() for term in re.findall(r"^- \*\*(.+?)\*\*:", document.read_text(encoding="utf-8"), re.MULTILINE)]
    if len(terms) < 20:
        faults.append(f"docs/glossary.md: expected at least 20 terms, found {len(terms)}")
    for before, term in zip(terms, terms[1:]):
        if before >= term:
            faults.append(f"docs/glossary.md: '{term}' stands behind '{before}'")


def check(document):
    text = prose(document)
    reached = set()
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists():
            faults.append(f"{document.relative_to(ROOT)}: {link}: no such file")
        elif anchor and anchor not in anchors(target):
            faults.append(f"{document.relative_to(ROOT)}: {link}: no such heading")
        else:
            reached.add(target)
    for path in PATH.findall(text):
        if not any((folder / path).exists() for folder in (ROOT, ROOT / "include", ROOT / "include/mistral", document.parent)):
            if path.split("/")[0] in ("include", "tests", "docs", "examples", "benchmarks", "cmake", "core", "simd", "parallel",
                                      "format", "kernels", "cache", "nn", "io", "text", "generate", "train"):
                faults.append(f"{document.relative_to(ROOT)}: {path}: no such file")
    for file, first, more in CITED.findall(re.sub(r"\s+", " ", text)):
        source = re.sub(r'"\s+"', "", (ROOT / file).read_text(encoding="utf-8")) if (ROOT / file).exists() else ""
        for name in [first, *re.findall(r'"([^"]+)"', more)]:
            if f'"{name}' not in source:
                faults.append(f'{document.relative_to(ROOT)}: {file}: no test "{name}"')
    for command, rest in COMMAND.findall(document.read_text(encoding="utf-8")):
        options = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)
        if options and f'"{command}"' not in TOOL:
            faults.append(f"{document.relative_to(ROOT)}: mistral {command}: no such command")
        faults.extend(f"{document.relative_to(ROOT)}: mistral {command}: no option {option}"
                      for option in options if option not in OPTIONS)
    return reached


def main():
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
    reached = {document: check(document) for document in documents}
    check_glossary(ROOT / "docs/glossary.md")
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in seen:
            seen.add(page)
            left += [target for target in reached.get(page, ()) if target in reached]
    for document in documents:
        if document not in seen:
            faults.append(f"{document.relative_to(ROOT)}: no way there from README.md")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-B", ROOT / "docs/ideas/make.py", folder], check=True)
        drawn = {path.name: path.read_bytes() for path in Path(folder).glob("*.svg")}
        kept = {path.name: path.read_bytes() for path in (ROOT / "docs/ideas").glob("*.svg")}
        if drawn != kept:
            faults.append("docs/ideas: the pictures aren't those of make.py")
    print(f"{len(documents)} documents, {len(faults)} faults")
    for fault in faults:
        print("FAILED:", fault)
    return 1 if faults else 0


sys.exit(main())
