#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_task.py PACKAGES TASK: makes a task for `mistral evaluate` out of Jane Austen's novels, as the Debian package
r-cran-janeaustenr holds them, unpacked in PACKAGES: which of four words comes next? With nothing but Python's standard
library.

The questions are from the chapters that `breeze` has not seen (../own_model/text.py says which): some 40 words of a
paragraph, the word that follows them, and three others that the novels use about as often. All is chosen by hashes of the
text, so that every run makes the same file. Its first four lines are examples, for --shots.
"""

import collections
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "own_model"))
from text import chance, novels  # noqa: E402

QUESTIONS, EXAMPLES, CONTEXT = 400, 4, 40


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, path = map(pathlib.Path, sys.argv[1:])
    counts = collections.Counter()
    unseen = []
    for name, text in novels(root):
        counts.update(re.findall(r"(?<![\w'-])[a-z]{4,}(?![\w'-])", text))
        if chance(name) < 0.05:
            unseen.append((name, text))
    # neighbours in this list are used about as often
    ranked = sorted((word for word in counts if counts[word] >= 20), key=lambda word: (-counts[word], word))
    rank = {word: i for i, word in enumerate(ranked)}

    questions = []
    for name, text in unseen:
        for number, paragraph in enumerate(text.split("\n")):
            words = paragraph.split(" ")
            places = [i for i in range(CONTEXT, len(words)) if words[i] in rank]
            if not places:
                continue
            key = f"{name} {number}"
            place = places[int(chance(key + " place") * len(places))]
            word = words[place]
            near = sorted(ranked, key=lambda other: (abs(rank[other] - rank[word]), other))[1:41]
            near.sort(key=lambda other: chance(f"{key} {other}"))
            choices = sorted([word] + near[:3], key=lambda other: chance(f"{key} order {other}"))
            questions.append((chance(key), {
                "prompt": " ".join(words[place - CONTEXT:place]), "choices": [" " + choice for choice in choices],
                "answer": choices.index(word), "source": name}))
    questions.sort(key=lambda question: question[0])
    chosen = [question for _, question in questions[:EXAMPLES + QUESTIONS]]
    if len(chosen) <= EXAMPLES:
        sys.exit(f"make_task.py: no questions in {root}")
    with open(path, "w", encoding="utf-8") as file:
        for i, question in enumerate(chosen):
            file.write(json.dumps({"shot": True, **question} if i < EXAMPLES else question) + "\n")
    print(f"{path}: {len(chosen) - EXAMPLES} questions and {EXAMPLES} examples, from {len(unseen)} chapters")


main()
