"""The growth as a small chart: requests a day by the size of the fleet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tests.benchmarks.economy import ALLOWED, Count

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 92, 150, 46, 52

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.ours { stroke: #0969da; fill: none; stroke-width: 2.5; }
.plain { stroke: #bc4c00; fill: none; stroke-width: 2.5; }
.floor { stroke: #6e7781; fill: none; stroke-width: 1.5; stroke-dasharray: 2 4; }
.allowed { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 7 5; }
.dot-ours { fill: #0969da; } .dot-plain { fill: #bc4c00; }
.of-ours { fill: #0969da; } .of-plain { fill: #bc4c00; } .of-floor { fill: #6e7781; } .of-allowed { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .grid { stroke: #30363d; }
  .ours { stroke: #58a6ff; } .plain { stroke: #f0883e; } .allowed { stroke: #ff7b72; } .floor { stroke: #8b949e; }
  .dot-ours, .of-ours { fill: #58a6ff; } .dot-plain, .of-plain { fill: #f0883e; }
  .of-floor { fill: #8b949e; } .of-allowed { fill: #ff7b72; }
}
"""


def growth(days: Sequence[Count]) -> str:
    """The chart as SVG, both axes logarithmic. `days` are what a day costs at several sizes, in their order."""
    least, most = min(day.floor for day in days), max(day.plain for day in days)
    low, high = 10 ** math.floor(math.log10(least)), 10 ** math.ceil(math.log10(most))
    first, last = days[0].droplets, days[-1].droplets

    def x(droplets: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(droplets / first) / math.log(last / first)

    def y(requests: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(requests / low) / math.log(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
        f"<title>{escape(_told(days))}</title>",
        f"<style>{_STYLE}</style>",
        _text(LEFT - 76, 22, "Requests a day, polling every 5 minutes", "title"),
    ]
    power = low
    while power <= high:
        parts.append(f'<path class="grid" d="M{LEFT} {y(power):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, y(power) + 4, f"{power:,}", anchor="end"))
        power *= 10
    for day in days:
        parts.append(f'<path class="grid" d="M{x(day.droplets):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x(day.droplets), HEIGHT - BOTTOM + 20, f"{day.droplets:,}", anchor="middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "Droplets with backups", anchor="middle"))
    parts.append(f'<path class="allowed" d="M{LEFT} {y(ALLOWED):.1f}H{WIDTH - RIGHT}"/>')
    lines = {
        "floor": [(x(day.droplets), y(day.floor)) for day in days],
        "plain": [(x(day.droplets), y(day.plain)) for day in days],
        "ours": [(x(day.droplets), y(day.ours)) for day in days],
    }
    for kind, points in lines.items():
        parts.append(f'<path class="{kind}" d="M' + "L".join(f"{a:.1f} {b:.1f}" for a, b in points) + '"/>')
        if kind != "floor":
            parts += [f'<circle class="dot-{kind}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in points]
    end = WIDTH - RIGHT + 10
    labels = {
        "plain": ("every list, every poll", lines["plain"][-1][1]),
        "allowed": (f"a token's {ALLOWED:,}", y(ALLOWED)),
        "ours": ("this exporter", lines["ours"][-1][1]),
        "floor": ("the listings alone", lines["floor"][-1][1]),
    }
    lowest = -math.inf
    for kind, (label, wanted) in labels.items():
        lowest = max(wanted, lowest + 16)  # one under the other, where lines end close together
        parts.append(_text(end, lowest + 4, label, f"of-{kind}"))
    return "\n".join([*parts, "</svg>\n"])


def _told(days: Sequence[Count]) -> str:
    """The text of the chart for screen readers."""
    last = days[-1]
    return (
        f"Requests a day by Droplets, from {days[0].droplets:,} to {last.droplets:,}: reading every list at every poll "
        f"takes {days[0].plain:,} to {last.plain:,}, this exporter {days[0].ours:,} to {last.ours:,}; "
        f"a token may send {ALLOWED:,}."
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'
