#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""turns.py ROUNDS DECODE PROGRAM...: programs side by side, the first of them ours (bench_turns), the others peers (peer.cpp).

A PROGRAM is a command in one argument, with a name of choice in front: 'ours=build/bench/bin/bench_turns q4_0 2'. All hold their
models at once and take turns, while the others are stopped: in each round DECODE tokens one after the other, in every second
a prefill of 512, in an order that rotates; before each decode ours times its loops of the read bandwidth. Prints tokens a second,
medians with the least and the greatest, and the first program's over each other's in the same round."""

import os
import shlex
import signal
import statistics
import subprocess
import sys


class Program:
    def __init__(self, name, command):
        self.name = name
        # the peers' memory in huge pages, as ours asks for them
        environment = dict(os.environ, GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)
        self.answer("ready")
        self.process.send_signal(signal.SIGSTOP)

    def answer(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            sys.exit(f"turns.py: {self.name}: expected {expected or 'a number'}, got '{line}'")
        return line

    def turn(self, kind, tokens):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{kind} {tokens}\n")
        self.process.stdin.flush()
        rate = float(self.answer())
        self.process.send_signal(signal.SIGSTOP)
        return rate


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} ... {max(values):.2f})"


def main():
    if len(sys.argv) < 4 or not all("=" in argument for argument in sys.argv[3:]):
        sys.exit(__doc__)
    rounds, tokens = int(sys.argv[1]), int(sys.argv[2])
    programs = []
    try:
        for argument in sys.argv[3:]:
            programs.append(Program(*argument.split("=", 1)))
        ours = programs[0]
        rates = {(kind, p.name): [] for kind in ("decode", "prefill") for p in programs}
        bandwidths = []
        for round_ in range(rounds):
            order = programs[round_ % len(programs):] + programs[:round_ % len(programs)]
            for program in order:
                bandwidths.append(ours.turn("bandwidth", 1))
                rates["decode", program.name].append(program.turn("decode", tokens))
            if round_ % 2 == 0:
                for program in order:
                    rates["prefill", program.name].append(program.turn("prefill", 512))
            print(f"round {round_ + 1}: {bandwidths[-1]:.1f} GB/s,",
                  ", ".join(f"{kind} {name} {v[-1]:.2f}" for (kind, name), v in rates.items()), file=sys.stderr)
        print(f"read bandwidth {spread(bandwidths)} GB/s")
        for (kind, name), values in rates.items():
            over = [a / b for a, b in zip(rates[kind, ours.name], values)]
            print(f"{kind} {name}: {spread(values)} tokens/s"
                  + ("" if name == ours.name else f", {ours.name} over it {spread(over)}"))
    finally:
        for program in programs:
            program.process.kill()


main()
