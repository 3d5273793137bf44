#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make.py [FOLDER]: draws the pictures of the pages beside it, as SVG. A test holds that they are what it draws."""
import sys
from pathlib import Path

INK, PALE, LINE = "#1f2933", "#f4f6f8", "#9aa5b1"
BLUE, GREEN, ORANGE = "#cfe1f7", "#d3ecd5", "#fbe0bd"


class Picture:
    def __init__(self, width, height):
        self.width, self.height = width, height
        self.parts = []

    def box(self, x, y, width, height, fill=PALE, stroke=LINE):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="{stroke}"/>')

    def text(self, x, y, text, size=13, anchor="middle", font="sans-serif", weight="normal"):
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" font-family="{font}" font-weight="{weight}" '
                          f'fill="{INK}" text-anchor="{anchor}">{text}</text>')

    def code(self, x, y, text, size=12, anchor="middle"):
        self.text(x, y, text, size, anchor, "monospace")

    def arrow(self, x1, y1, x2, y2):
        self.parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="1.5" '
                          'marker-end="url(#tip)"/>')

    def write(self, path):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}">')
        tip = ('<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
               f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>')
        ground = f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>'
        path.write_text("\n".join([head, tip, ground, *self.parts, "</svg>", ""]), encoding="utf-8")


def shapes():
    p = Picture(760, 300)
    p.text(190, 24, "in types, for the compiler", 14, weight="bold")
    p.text(590, 24, "as arguments, at run time", 14, weight="bold")
    for i, (code, what) in enumerate([("Transformer<C, F>", "a model; C is its config"),
                                      ("FeedForward<C, F>", "a layer"),
                                      ("Linear<F, C.dim, C.hidden_dim>", "a matrix"),
                                      ("Batch<C.dim>", "activations (tokens, dim)")]):
        y = 44 + 62 * i
        p.box(40, y, 300, 48, BLUE)
        p.code(190, y + 20, code)
        p.text(190, y + 38, what, 12)
        if i < 2:
            p.arrow(190, y + 48, 190, y + 61)
    for y, code, what in [(168, "PanelsView<F>{data, rows, cols}", "a view of a matrix"),
                          (230, "Rows<float>{data, rows, cols}", "a view of activations")]:
        p.box(440, y, 300, 48, GREEN)
        p.code(590, y + 20, code)
        p.text(590, y + 38, what, 12)
        p.arrow(340, y + 24, 438, y + 24)
        p.code(389, y + 16, "view()", 11)
    p.box(440, 76, 300, 56, ORANGE)
    p.code(590, 99, "kernels::matmul(w, x, y)")
    p.text(590, 118, "one for all sizes, a template of F alone", 12)
    p.arrow(590, 168, 590, 134)
    return p


def lanes():
    p = Picture(760, 350)
    cell, left, top, inputs = 16, 130, 60, 24
    p.text(left + cell * inputs / 2, 24, "a panel: 16 rows of W, inputs from left to right", 14, weight="bold")
    for row in range(16):
        for i in range(inputs):
            p.box(left + i * cell, top + row * cell, cell, cell, ORANGE if i == 9 else BLUE if row == 5 else PALE)
        p.text(left - 8, top + row * cell + 12, f"lane {row}", 10, "end")
    p.text(left + 9.5 * cell, top - 8, "input k: one load", 11)
    p.arrow(left, top + 16 * cell + 12, left + inputs * cell, top + 16 * cell + 12)
    p.text(left + cell * inputs / 2, top + 16 * cell + 28, "each lane's sum goes along the inputs, one after the other", 11)
    p.box(590, top, 130, 16 * cell, GREEN)
    p.code(655, top + 60, "acc[lane]")
    p.code(655, top + 80, "+= w[k][lane]")
    p.code(655, top + 100, "* x[k]")
    p.text(655, top + 140, "16 outputs of y", 12)
    p.text(655, top + 160, "no lane meets", 12)
    p.text(655, top + 176, "another one", 12)
    p.arrow(left + inputs * cell + 6, top + 5.5 * cell, 588, top + 5.5 * cell)
    return p


def formats():
    p = Picture(760, 250)
    p.box(30, 60, 220, 130, PALE)
    p.code(140, 85, "Linear<F, In, Out>")
    p.text(140, 108, "the layer, written once", 12)
    p.box(80, 125, 120, 44, ORANGE)
    p.code(140, 152, "F")
    p.text(545, 34, "one block of Q4_0: 32 inputs x 16 rows", 14, weight="bold")
    p.box(380, 60, 260, 60, BLUE)
    p.text(510, 86, "codes: 256 bytes", 12)
    p.text(510, 104, "4 bits a weight", 12)
    p.box(640, 60, 80, 60, GREEN)
    p.text(680, 86, "scales:", 12)
    p.text(680, 104, "16 halves", 12)
    p.box(380, 150, 150, 52, PALE)
    p.code(455, 172, "pack(in, block)")
    p.text(455, 190, "when it is loaded", 12)
    p.box(570, 150, 150, 52, PALE)
    p.code(645, 172, "unpack(block, w)")
    p.text(645, 190, "in the kernels", 12)
    p.arrow(455, 150, 455, 122)
    p.arrow(645, 120, 645, 148)
    p.arrow(252, 176, 378, 176)
    p.text(314, 165, "WeightFormat", 12)
    return p


def forward():
    p = Picture(760, 300)
    p.text(110, 24, "rows of", 14, weight="bold")
    p.text(380, 24, "one forward", 14, weight="bold")
    p.text(650, 24, "a tape", 14, weight="bold")
    for i, (what, rows) in enumerate([("decode: a token", 1), ("prefill: a chunk", 5), ("many sequences", 4),
                                      ("training: whole texts", 6)]):
        y = 48 + 60 * i
        for row in range(rows):
            fill = [BLUE, GREEN, ORANGE, PALE][row] if i == 2 else BLUE
            p.box(30 + 24 * row, y, 24, 16, fill)
        p.text(30, y + 34, what, 12, "start")
        p.arrow(190, y + 8, 268, 120 + 20 * i)
    p.box(270, 90, 220, 130, PALE)
    p.code(380, 118, "Transformer::forward")
    p.code(380, 138, "(tokens, sequences,", 11)
    p.code(380, 156, "work, tape)", 11)
    p.text(380, 190, "embedding, blocks,", 12)
    p.text(380, 206, "residual stream", 12)
    for i, (code, what) in enumerate([("NoTape", "leaves no code"), ("a hook of yours", "reads and writes"),
                                      ("GradTape", "keeps a row a layer, token")]):
        y = 60 + 74 * i
        p.box(560, y, 180, 52, [PALE, GREEN, ORANGE][i])
        p.code(650, y + 21, code)
        p.text(650, y + 40, what, 12)
        p.arrow(490, 135 + 20 * i, 558, y + 26)
    return p


def ring():
    p = Picture(760, 300)
    cell, left = 60, 140

    def draw(y, title, newest, wrapped):
        p.text(30, y - 14, title, 13, "start", weight="bold")
        for slot in range(8):
            position = max((q for q in range(newest + 1) if q % 8 == slot), default=None)
            old = position is not None and wrapped and slot > newest % 8
            p.box(left + slot * cell, y, cell, 36, "#ffffff" if position is None else GREEN if old else BLUE)
            if position is not None:
                p.text(left + slot * cell + cell / 2, y + 23, str(position))

    draw(50, "after 6 tokens", 5, False)
    p.text(left + 3 * cell, 106, "first span: positions 0 ... 5; the second is empty", 12)
    draw(160, "after 12 tokens", 11, True)
    p.text(left + 2 * cell, 216, "second span: 8 ... 11", 12)
    p.text(left + 6.4 * cell, 216, "first span: 4 ... 7, the oldest", 12)
    p.text(left - 16, 183, "slot = position mod 8", 11, "end")
    p.arrow(left + 4.5 * cell, 262, left + 4.5 * cell, 198)
    p.text(left + 4.5 * cell, 280, "token 12 goes here, over position 4, which its query sees no more", 12)
    return p


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for draw in (shapes, lanes, formats, forward, ring):
        draw().write(folder / f"{draw.__name__}.svg")


main()
