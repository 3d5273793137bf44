#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ctags.py ROOT: editors find the members of the public classes.

Runs ctags, on which many editors' "go to definition" stands, on each header that docs/Doxyfile lists. Each class and struct that
such a header defines outside of `detail` must be there, in the namespace mistral and under its own name, and so must members of
it; and the members that programs call most. Ends with 77 where Universal Ctags is missing.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(sys.argv[1]).resolve()
# some that must be found whatever the headers say
MEMBERS = {"Session": {"prefill", "decode", "forward", "position"}, "Transformer": {"forward", "layers", "memory_bytes"},
           "Tokenizer": {"load", "encode", "decode"}, "Trainer": {"step", "save"}, "RingBuffer": {"push", "spans"},
           "Panels": {"pack", "unpack_row"}, "ModelConfig": {"dim", "window_size"}, "Sampler": {"sample"},
           "SessionBatch": {"step"}, "Linear": {"weight", "forward"}, "Attention": {"wq", "forward"}}


def public_classes(text):
    """The classes and structs that a header defines outside of `detail`, but for those without members."""
    text = re.sub(r"//.*", "", re.sub(r"^.*\bnamespace detail \{.*?^\}.*// namespace (mistral::)?detail$", "", text,
                                      flags=re.MULTILINE | re.DOTALL))
    for match in re.finditer(r"^(?:class|struct) (\w+)[^;{}]*\{$(.*?)^\};$", text, flags=re.MULTILINE | re.DOTALL):
        if re.search(r"^ +(?!public:|private:|using )\w", match[2], flags=re.MULTILINE):
            yield match[1]


def tags(headers):
    """Of each class its members: {"Session": {"prefill", ...}}; of a class without any an empty set."""
    out = subprocess.run(["ctags", "--languages=C++", "--langmap=C++:.hpp", "--kinds-C++=+p", "--fields=Ks", "--sort=no", "-f", "-",
                          *headers], check=True, capture_output=True, text=True).stdout
    members = {}
    for line in out.splitlines():
        name, _, *rest = line.split("\t")
        kinds = [field for field in rest if field in ("class", "struct", "member", "function", "prototype")]
        scope = next((field.partition(":")[2] for field in rest if re.match(r"(class|struct):", field)), "")
        if kinds and kinds[0] in ("class", "struct"):
            members.setdefault(name, set())
        elif kinds and scope.startswith("mistral::"):
            members.setdefault(re.sub(r"<.*", "", scope).rpartition("::")[2], set()).add(name)
    return members


def main():
    tool = shutil.which("ctags")
    if not tool or "Universal Ctags" not in subprocess.run([tool, "--version"], capture_output=True, text=True).stdout:
        print("SKIPPED: Universal Ctags is missing (Debian: apt-get install universal-ctags)")
        sys.exit(77)
    headers = re.findall(r"include/mistral/\S+\.hpp", (ROOT / "docs/Doxyfile").read_text(encoding="utf-8"))
    found = tags([str(ROOT / header) for header in headers])
    faults = []
    count = 0
    for header in headers:
        for name in public_classes((ROOT / header).read_text(encoding="utf-8")):
            count += 1
            if not found.get(name):
                faults.append(f"{header}: ctags finds {'no members of' if name in found else 'no'} {name}")
    for name, members in MEMBERS.items():
        for member in sorted(members - found.get(name, set())):
            faults.append(f"ctags finds no {name}::{member}")
    if count < 90:
        faults.append(f"expected at least 90 public classes, found {count}")
    print("\n".join(f"FAILED: {fault}" for fault in faults) or f"{count} public classes, the members of each are found")
    sys.exit(1 if faults else 0)


main()
