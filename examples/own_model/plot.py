#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""plot.py METRICS.jsonl OUT.svg: draws the loss over the steps of a training, as train.cpp logs it."""

import json
import math
import pathlib
import sys

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 110, 56, 52
COLOURS = ("#1f6fb4", "#c4501b")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    series = (("training", [(r["step"], r["loss"]) for r in rows if "loss" in r]),
              ("held out", [(r["step"], r["held_out_loss"]) for r in rows if "held_out_loss" in r]))
    last = max(x for _, points in series for x, _ in points)
    least = math.floor(min(y for _, points in series for _, y in points))
    most = math.ceil(max(y for _, points in series for _, y in points))

    def at(x, y):
        return (LEFT + (WIDTH - LEFT - RIGHT) * x / last,
                HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - least) / (most - least))

    title, note = "Training breeze", "cross-entropy in nats a token; training: means of ten steps"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold" fill="#222222">{title}</text>',
        f'<text x="{LEFT}" y="42" fill="#666666">{note}</text>',
    ]
    for level in range(least, most + 1):
        x, y = at(0, level)
        out.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        out.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{level}</text>')
    power = 10.0 ** math.floor(math.log10(last / 5))
    step = int(next(power * m for m in (1, 2, 5, 10) if power * m >= last / 5))
    for x in range(0, last + 1, step):
        px, py = at(x, least)
        out.append(f'<path d="M{px:.1f} {py:.1f}v5" stroke="#444444"/>')
        out.append(f'<text x="{px:.1f}" y="{py + 19:.1f}" text-anchor="middle" fill="#444444">{x}</text>')
    px, py = at(last / 2, least)
    out.append(f'<text x="{px:.1f}" y="{py + 40:.1f}" text-anchor="middle" fill="#444444">steps</text>')
    out.append(f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
               'fill="#444444">loss</text>')
    ends = [at(*points[-1])[1] for _, points in series]
    apart = 8 if abs(ends[0] - ends[1]) < 16 else 0  # so that the labels don't cover each other
    for number, ((label, points), colour) in enumerate(zip(series, COLOURS)):
        line = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{1 + number}"/>')
        px, py = at(*points[-1])
        py += 4 + (apart if ends[number] == max(ends) else -apart)
        out.append(f'<text x="{px + 8:.1f}" y="{py:.1f}" fill="{colour}" font-weight="bold">{label}</text>')
    out.append("</svg>\n")
    pathlib.Path(sys.argv[2]).write_text("\n".join(out))


main()
