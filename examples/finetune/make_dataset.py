#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_dataset.py FOLDER [MAX_CHARACTERS]: turns the functions with docstrings of the installed Python's standard library
into a dataset of instructions: the docstring and the signature in, the code out. Writes FOLDER/train.jsonl and
FOLDER/validation.jsonl, an object {"instruction", "input", "output"} a line, and says on stdout what it kept.

The split is by module, so that no function of the validation set has a sibling among those that were learnt: modules come in
the order of a hash of their names, and as many of them are held out as hold a tenth of the functions. The same Python gives
the same files. They hold code under Python's licence (PSF): make them where they are used.
"""

import ast
import hashlib
import json
import pathlib
import sys
import sysconfig
import textwrap
import tokenize

# not the library proper, or not installed with every Python
LEFT_OUT = {"antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "this", "tkinter", "turtle",
            "turtledemo"}
LEAST_DOCSTRING, MOST_DOCSTRING = 20, 300  # characters
MOST_CHARACTERS = 700  # of docstring and code: some 300 tokens of a small vocabulary


def sources(name, library):
    """The files of a module of the standard library, in order."""
    if (library / (name + ".py")).is_file():
        return [library / (name + ".py")]
    files = sorted((library / name).rglob("*.py")) if (library / name / "__init__.py").is_file() else []
    return [f for f in files if not {"test", "tests"} & set(f.relative_to(library).parts)]


def functions(tree):
    """Functions and methods, in the order of the text; not those inside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        elif isinstance(node, (ast.ClassDef, ast.If, ast.Try)):
            yield from functions(node)


def does_nothing(statements):
    """Whether a body is only `pass`, `...`, or the raise of a method that others are to write."""
    def nothing(s):
        return (isinstance(s, ast.Pass) or isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) or
                isinstance(s, ast.Raise) and "NotImplemented" in ast.dump(s))
    return all(nothing(s) for s in statements)


def example(node, lines, most):
    """What a function teaches, or None."""
    docstring = ast.get_docstring(node)
    body = node.body[1:]
    if docstring is None or does_nothing(body) or node.body[0].lineno == node.lineno:
        return None
    docstring = docstring.strip()
    signature = textwrap.dedent("".join(lines[node.lineno - 1:node.body[0].lineno - 1])).rstrip()
    code = textwrap.dedent("".join(lines[node.lineno - 1:node.body[0].lineno - 1] +
                                   lines[node.body[0].end_lineno:node.end_lineno])).rstrip()
    short = LEAST_DOCSTRING <= len(docstring) <= MOST_DOCSTRING and len(docstring) + len(code) <= most
    if not short or not signature.endswith(":") or not (docstring + code).isascii():
        return None
    try:
        ast.parse(code)
    except SyntaxError:  # a string of several lines that isn't what it was without its indentation
        return None
    return {"instruction": docstring, "input": signature, "output": code}


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    most = int(sys.argv[2]) if len(sys.argv) == 3 else MOST_CHARACTERS
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    seen, modules, documented = set(), {}, 0
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        for path in sources(name, library):
            with tokenize.open(path) as file:  # in the encoding that the file declares
                lines = file.readlines()
            for node in functions(ast.parse("".join(lines))):
                documented += ast.get_docstring(node) is not None
                found = example(node, lines, most)
                if found is None or found["output"] in seen:
                    continue
                seen.add(found["output"])
                modules.setdefault(name, []).append(found)

    wanted = len(seen) / 10
    held_out, kept = [], []
    for name in sorted(modules, key=lambda n: hashlib.sha256(n.encode()).digest()):
        small = len(modules[name]) <= wanted / 4  # one large package would be all of it
        (held_out if small and sum(len(modules[n]) for n in held_out) < wanted else kept).append(name)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Python {sys.version.split()[0]}: {documented} functions with a docstring")
    for part, names in (("train", kept), ("validation", held_out)):
        examples = [e for name in sorted(names) for e in modules[name]]
        data = "".join(json.dumps(e) + "\n" for e in examples)
        (folder / (part + ".jsonl")).write_text(data)
        answers = sum(len(e["output"]) for e in examples)
        print(f"{part}: {len(examples)} functions of {len(names)} modules, {answers} characters of answers, "
              f"sha256 {hashlib.sha256(data.encode()).hexdigest()[:16]}")


main()
