"""Draws one training step of a timeline (docs/timeline.md) as an SVG picture.

usage: timeline_svg.py TRACE.json OUTPUT.svg [--step N] [--title TEXT]

Without --step it draws the step of median length. The first step does not count, because it accesses memory for the
first time.
"""

import argparse
import json
import statistics
from html import escape
from pathlib import Path

WIDTH, LEFT, RIGHT, TOP = 960, 128, 16, 44
LANE = {"compute": 24, "reductions": 13, "gathers": 13}  # heights
GAP, BETWEEN_RANKS = 3, 16

# kind: (text of the legend, a color on which dark text is readable, in light and dark mode)
KINDS = {
    "forward": ("forward", "#8db4e8"),
    "backward": ("backward", "#eab676"),
    "norm": ("norm", "#bdbdc7"),
    "update": ("update", "#93cc99"),
    "wait": ("waiting", "#d8435a"),
    "reduce_scatter": ("reduce-scatter", "#5fbfb5"),
    "all_gather": ("all-gather", "#ab95e0"),
    "all_reduce": ("all-reduce", "#d9c24f"),
}


class Trace:
    """tracks: {rank: {name: [event]}}, the events of a track in the order of their begin."""

    def __init__(self, events):
        names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
        self.tracks = {}
        for (rank, _), name in names.items():
            self.tracks.setdefault(rank, {}).setdefault(name, [])
        for event in events:
            if event["ph"] == "X":
                self.tracks[event["pid"]][names[event["pid"], event["tid"]]].append(event)

    def steps(self):
        """{number: (begin, end)} of the steps that all ranks have: the first begin and the last end of all ranks."""
        spans = [{e["name"]: (e["ts"], e["ts"] + e["dur"]) for e in tracks["compute"] if e["cat"] == "step"}
                 for tracks in self.tracks.values()]
        common = set.intersection(*(set(steps) for steps in spans)) if spans else set()
        return {int(name.removeprefix("step ")): (min(steps[name][0] for steps in spans),
                                                  max(steps[name][1] for steps in spans)) for name in common}

    def typical_step(self):
        steps = self.steps()
        if not steps:
            raise SystemExit("the timeline has no step that all ranks have finished")
        later = {n: end - begin for n, (begin, end) in steps.items() if n > min(steps)} or {min(steps): 0}
        median = statistics.median_low(later.values())
        return min(n for n, length in later.items() if length == median)


def round_ticks(length):
    """The distance between ticks, 1, 2 or 5 times a power of ten, that gives five to twelve ticks."""
    unit = 10.0 ** -3
    while True:
        for times in 1, 2, 5:
            if length / (unit * times) <= 12:
                return unit * times
        unit *= 10


def label(event, width):
    """The longest text that fits into a bar: the unit's name, or its last word; the bucket's number."""
    name = event["name"].partition(": ")[2]
    last = name.rpartition(" ")[2]
    fitting = [text for text in ([last] if "bucket" in name else [name, last]) if 6.2 * len(text) + 4 < width]
    return fitting[0] if fitting else ""


def draw(trace, step, title):
    begin, end = trace.steps()[step]
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)
    place = lambda time: LEFT + (min(max(time, begin), end) - begin) * scale
    out, used, y = [], set(), TOP

    def bar(event, top, height):
        left, right = place(event["ts"]), place(event["ts"] + event["dur"])
        if event["ts"] >= end or event["ts"] + event["dur"] <= begin or event["cat"] not in KINDS:
            return
        used.add(event["cat"])
        width = max(right - left - 0.5, 0.6)  # a gap between neighbors
        out.append(f'<rect class="{event["cat"]}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="1.5">'
                   f'<title>{escape(event["name"])}, {event["dur"] / 1000:.3f} ms</title></rect>')
        text = label(event, width)
        if text and event["cat"] != "wait":
            out.append(f'<text class="in" x="{left + width / 2:.1f}" y="{top + min(height, 18) / 2 + 3.5:.1f}">'
                       f'{escape(text)}</text>')

    for rank, tracks in sorted(trace.tracks.items()):
        out.append(f'<text class="rank" x="14" y="{y + 16}">rank {rank}</text>')
        for name, height in LANE.items():
            if name not in tracks:
                continue
            out.append(f'<text class="lane" x="{LEFT - 8}" y="{y + height / 2 + 3.5:.1f}">{name}</text>')
            out.append(f'<rect class="bed" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{height}"/>')
            for event in tracks[name]:
                if event["cat"] == "wait":  # at the bottom of the span that waits, in front of it
                    bar(event, y + height - 6, 6)
                else:
                    bar(event, y, height)
            y += height + GAP
        y += BETWEEN_RANKS - GAP
    # Waits are drawn last, in front.
    out.sort(key=lambda element: 'class="wait"' in element)

    bottom = y - BETWEEN_RANKS + 8
    axis = []
    tick = round_ticks((end - begin) / 1000)
    for i in range(int((end - begin) / 1000 / tick) + 1):
        x = LEFT + i * tick * 1000 * scale
        axis.append(f'<line class="tick" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        axis.append(f'<text class="time" x="{x:.1f}" y="{bottom + 13}">{i * tick:g}{" ms" if i == 0 else ""}</text>')
    legend, x, y = [], LEFT, bottom + 26
    for kind, (words, _) in KINDS.items():
        if kind in used:
            legend.append(f'<rect class="{kind}" x="{x}" y="{y}" width="11" height="11" rx="1.5"/>'
                          f'<text class="word" x="{x + 16}" y="{y + 9.5}">{words}</text>')
            x += 34 + 6.4 * len(words)

    colours = "".join(f".{kind}{{fill:{colour}}}" for kind, (_, colour) in KINDS.items())
    height = y + 24
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui,sans-serif" font-size="11">',
        "<style>"
        ".paper{fill:#fff}.bed{fill:#f3f3f6}.tick{stroke:#ddd}text{fill:#333}"
        ".rank,.title{font-weight:600}.title{font-size:14px}.lane,.time,.word{fill:#666}.lane{text-anchor:end;font-size:10px}"
        f".time,.in{{text-anchor:middle}}{colours}"
        "@media (prefers-color-scheme:dark){"
        ".paper{fill:#15171c}.bed{fill:#1f2229}.tick{stroke:#333740}text{fill:#ddd}.lane,.time,.word{fill:#9a9aa5}}"
        "text.in{fill:#16181d}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="14" y="24">{escape(title)}</text>',
        *axis, *out, *legend, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--step", type=int)
    parser.add_argument("--title")
    arguments = parser.parse_args()
    trace = Trace(json.loads(arguments.trace.read_text(encoding="utf-8"))["traceEvents"])
    step = trace.typical_step() if arguments.step is None else arguments.step
    if step not in trace.steps():
        parser.error(f"--step: the timeline has {sorted(trace.steps())}, not {step}")
    title = arguments.title or f"step {step} of {len(trace.tracks)} ranks"
    arguments.output.write_text(draw(trace, step, title), encoding="utf-8")
    print(f"step {step}: {arguments.output}")


if __name__ == "__main__":
    main()
