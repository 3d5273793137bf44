#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""text.py PACKAGES FOLDER: makes the text that `breeze` learns from, out of Debian packages that are unpacked in
PACKAGES (make.sh names them), with nothing but Python's standard library.

Writes train.txt, held_out.txt, and held_out-NAME.txt for each of the sources. A document (a chapter, a function) ends
with a form feed. One chapter in twenty is held out, and one module of functions: which ones depends on a hash of their
names, so that every run makes the same files.
"""

import ast
import bz2
import hashlib
import lzma
import pathlib
import re
import struct
import subprocess
import sys
import zlib


def chance(key):
    """A number of [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32


def plain(text):
    """Typewriter's characters only: a small vocabulary has no room for more."""
    for old, new in (("\u2018", "'"), ("\u2019", "'"), ("\u201c", '"'), ("\u201d", '"'), ("\u2014", "--"),
                     ("\u2013", "-"), ("\u2026", "..."), ("\u00a0", " "), ("\ufeff", ""), ("\r", "")):
        text = text.replace(old, new)
    return text


def r_strings(data):
    """The character vectors of an R package's lazy-load database, in order: a sequence of compressed objects in R's
    serialization format (R Internals, section 1.8), of which all that is no vector of strings is passed over."""
    at = 0
    while at < len(data):
        kind = data[at + 4:at + 5]
        if kind in (b"2", b"Z"):
            stream = bz2.BZ2Decompressor() if kind == b"2" else lzma.LZMADecompressor(lzma.FORMAT_AUTO)
            start = at + 5
        else:
            stream, start = zlib.decompressobj(), at + 4
        item = stream.decompress(data[start:])
        at = len(data) - len(stream.unused_data)
        if item[:2] != b"X\n":
            continue
        version, pos = struct.unpack(">i", item[2:6])[0], 14
        if version == 3:
            pos += 4 + struct.unpack(">i", item[14:18])[0]
        flags, count = struct.unpack(">ii", item[pos:pos + 8])
        if flags & 0xff != 16:
            continue
        pos += 8
        lines = []
        for _ in range(count):
            length = struct.unpack(">i", item[pos + 4:pos + 8])[0]
            lines.append(item[pos + 8:pos + 8 + max(length, 0)].decode("utf-8"))
            pos += 8 + max(length, 0)
        yield lines


def novels(root):
    """Jane Austen's, a chapter a document: (name, text)."""
    database = next(root.glob("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")).read_bytes()
    for lines in r_strings(database):
        title = lines[0].strip() if lines else ""
        chapters = re.split(r"\n\s*(?:CHAPTER|Chapter)\b[^\n]*\n", plain("\n".join(lines)))
        for number, chapter in enumerate(chapters[1:], 1):
            chapter = re.sub(r"\n\s*(?:VOLUME|Volume|FINIS|THE END|Finis)\b[^\n]*", "\n", chapter).replace("_", "")
            paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", chapter))
            yield f"{title} {number}", "\n".join(p for p in paragraphs if p)


def bible(root):
    """The King James version, a chapter a document."""
    program = root / "usr/bin/bible"
    out = subprocess.run([program, "-f", "-p", root / "usr/lib", "Genesis 1:1-Revelation 22:21"], check=True,
                         capture_output=True, text=True).stdout
    chapters = {}
    for line in out.splitlines():
        found = re.match(r"(\w+?)(\d+):(\d+) (.*)", line)
        if found:
            book, chapter, _, verse = found.groups()
            chapters.setdefault(f"{book} {chapter}", []).append(verse.strip())
    for name, verses in chapters.items():
        yield name, plain(" ".join(verses))


def functions(root, share):
    """Functions with docstrings of a Python package, each a document, the given share of them."""
    folder = root / "usr/lib/python3/dist-packages"
    for path in sorted(folder.glob("networkx/**/*.py")):
        name = str(path.relative_to(folder))
        if "/tests/" in name:
            continue
        source = path.read_text()
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and chance(f"{name} {node.name}") < share:
                text = plain(ast.get_source_segment(source, node))
                if len(text) < 4000:
                    yield name, text


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, folder = map(pathlib.Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    train, held_out = [], []
    for source, documents in (("novels", novels(root)), ("bible", bible(root)), ("functions", functions(root, 0.4))):
        kept, out = [], []
        for name, text in documents:
            (out if chance(name) < 0.05 else kept).append(text + "\n\f")
        if not kept or not out:
            sys.exit(f"text.py: {source}: no documents in {root}")
        print(f"{source}: {len(kept)} documents of {sum(map(len, kept))} characters, {len(out)} of "
              f"{sum(map(len, out))} held out")
        (folder / f"held_out-{source}.txt").write_text("".join(out))
        train += kept
        held_out += out
    (folder / "train.txt").write_text("".join(train))
    (folder / "held_out.txt").write_text("".join(held_out))


if __name__ == "__main__":
    main()
