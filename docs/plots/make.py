#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make.py FOLDER RUN.json...: draws tokens/s and cache bytes over the length of the context, a model with a window
against one without, from what `mistral bench --json` printed for each at several depths, in one run or in several."""

import json
import math
import pathlib
import sys

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 56, 52
COLOURS = ("#1f6fb4", "#c4501b")


def nice_step(most, count):
    """The step of 1, 2 or 5 times a power of ten that divides 0 ... most into about `count` parts."""
    raw = most / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= raw)


def chart(title, unit, series, note):
    """series: (label, [(x, y, least, most)]). x is a number of tokens, and its axis is divided by powers of two."""
    most_x = max(point[0] for _, points in series for point in points)
    most_y = 1.08 * max(point[3] for _, points in series for point in points)

    def at(x, y):
        return (LEFT + (WIDTH - LEFT - RIGHT) * x / most_x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / most_y)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold" fill="#222222">{title}</text>',
        f'<text x="{LEFT}" y="42" fill="#666666">{note}</text>',
    ]
    step = nice_step(most_y, 5)
    for i in range(int(most_y / step) + 1):
        x, y = at(0, i * step)
        out.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        out.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#444444">{i * step:g}</text>')
    step_x = 2 ** math.ceil(math.log2(most_x / 8))
    for x in range(0, int(most_x) + 1, step_x):
        px, py = at(x, 0)
        out.append(f'<path d="M{px:.1f} {py:.1f}v5" stroke="#444444"/>')
        out.append(f'<text x="{px:.1f}" y="{py + 19:.1f}" text-anchor="middle" fill="#444444">{x}</text>')
    px, py = at(most_x / 2, 0)
    out.append(f'<text x="{px:.1f}" y="{py + 40:.1f}" text-anchor="middle" fill="#444444">tokens in the context</text>')
    out.append(f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
               f'fill="#444444">{unit}</text>')
    for (label, points), colour in zip(series, COLOURS):
        for x, y, least, most in points:
            px, py = at(x, y)
            out.append(f'<path d="M{px:.1f} {at(x, least)[1]:.1f}V{at(x, most)[1]:.1f}" stroke="{colour}" opacity="0.4" '
                       'stroke-width="3"/>')
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.2" fill="{colour}"/>')
        line = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y, _, _ in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        px, py = at(*points[-1][:2])
        out.append(f'<text x="{px + 10:.1f}" y="{py + 4:.1f}" fill="{colour}" font-weight="bold">{label}</text>')
    out.append("</svg>\n")
    return "\n".join(out)


def curves(runs):
    """The figures of each depth, by window; of a depth that several runs have, those of the first."""
    found = {}
    for run in runs:
        depths = found.setdefault(run["window_size"], {})
        for figures in run["depths"]:
            depths.setdefault(figures["depth"], figures)
    return [(f"window of {window}" if window else "all keys", [depths[d] for d in sorted(depths)])
            for window, depths in found.items()]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    runs = [json.loads(pathlib.Path(path).read_text()) for path in sys.argv[2:]]
    about = f"weights {runs[0]['weights']}, cache {runs[0]['kv']}, {runs[0]['threads']} threads"

    def series(figures):
        return [(label, [figures(d) for d in depths]) for label, depths in curves(runs)]

    def speed(d):
        tps = d["decode_tps"]
        return d["depth"], tps["median"], tps["min"], tps["max"]

    def cache(d):
        gb = d["kv_bytes_seen"] / 1e9
        return d["depth"], gb, gb, gb

    (folder / "tokens_per_second.svg").write_text(
        chart("Decode over the length of the context", "tokens/s", series(speed),
              f"Mistral 7B's shape, {about}; medians, bars from the least to the greatest"))
    (folder / "cache_bytes.svg").write_text(
        chart("Keys and values that are kept", "GB", series(cache), f"Mistral 7B's shape, {about}"))


main()
