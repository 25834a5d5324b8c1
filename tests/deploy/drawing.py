"""Draws a dashboard's panels in their grid, as an HTML page in the look of Grafana's dark theme.

No Grafana is at hand where this runs, so this is a likeness: the grid, the titles, the units, the thresholds, the
colours and the order of rows and columns are those of the JSON; the rest is plain.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.deploy.grafana import JSON, Display, Field, Frame, Period, Session, Shown

WIDTH = 1680
CELL_HEIGHT = 38
GAP = 8
COLORS = {
    "green": "#73BF69",
    "dark-green": "#37872D",
    "yellow": "#FADE2A",
    "semi-dark-yellow": "#EAB839",
    "orange": "#FF9830",
    "semi-dark-orange": "#EF843C",
    "red": "#F2495C",
    "dark-red": "#C4162A",
    "blue": "#5794F2",
    "light-blue": "#6ED0E0",
    "purple": "#B877D9",
    "text": "#ccccdc",
    "transparent": "transparent",
}
PALETTE = (
    "#73BF69",
    "#EAB839",
    "#6ED0E0",
    "#EF843C",
    "#E24D42",
    "#5794F2",
    "#BA43A9",
    "#705DA0",
    "#37872D",
    "#FADE2A",
    "#447EBC",
    "#C15C17",
)
STYLE = """
* { box-sizing: border-box; margin: 0; }
body { background: #111217; color: #ccccdc; font: 13px Inter, "DejaVu Sans", sans-serif; position: relative; }
.bar { padding: 10px 12px 6px; display: flex; gap: 10px; align-items: center; flex-wrap: wrap; }
.bar h1 { font-size: 17px; font-weight: 500; margin-right: auto; }
.chip { border: 1px solid #2f3137; border-radius: 2px; background: #181b1f; padding: 4px 9px; font-size: 12px; }
.chip b { font-weight: 500; color: #6e9fff; margin-right: 8px; }
.grid { position: relative; margin: 0 8px; }
.panel { position: absolute; background: #181b1f; border: 1px solid #25272c; border-radius: 2px; overflow: hidden; }
.panel > h2 { font-size: 13px; font-weight: 500; padding: 7px 9px 0; height: 26px; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; position: relative; z-index: 1; }
.row { position: absolute; font-size: 15px; font-weight: 500; padding: 7px 4px; }
svg { display: block; font: 11px Inter, "DejaVu Sans", sans-serif; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; table-layout: auto; }
th { text-align: left; color: #6e9fff; font-weight: 500; padding: 5px 7px; white-space: nowrap;
  border-bottom: 1px solid #25272c; }
td { padding: 4px 7px; height: 26px; white-space: nowrap; border-bottom: 1px solid #22252b; }
td.n, th.n { text-align: right; }
a { color: #6e9fff; text-decoration: none; }
"""


def color(name: str | None, otherwise: str = "#ccccdc") -> str:
    return otherwise if name is None else COLORS.get(name, name)


def page(session: Session) -> tuple[str, int]:
    """The dashboard as a page, and how many pixels high it is."""
    dashboard = session.dashboard
    unit = (WIDTH - 16 + GAP) / 24
    marks = _marks(session)
    parts = [f"<style>{STYLE}</style>", _bar(session), '<div class="grid">']
    bottom = 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y = place["x"] * unit, place["y"] * CELL_HEIGHT
        width, height = place["w"] * unit - GAP, place["h"] * CELL_HEIGHT - GAP
        bottom = max(bottom, place["y"] + place["h"])
        where = f"left:{x:.1f}px;top:{y}px;width:{width:.1f}px;height:{height}px"
        if panel["type"] == "row":
            parts.append(f'<div class="row" style="{where}">⌄ {html.escape(panel["title"])}</div>')
            continue
        frames = session.frames(panel)
        inner = _PANELS[panel["type"]](panel, frames, width - 2, height - 28, session.period, marks)
        parts.append(f'<div class="panel" style="{where}"><h2>{html.escape(panel["title"])}</h2>{inner}</div>')
    parts.append("</div>")
    return f'<!doctype html><meta charset="utf-8">{"".join(parts)}', bottom * CELL_HEIGHT + 100


def _bar(session: Session) -> str:
    chips = [("Data source", "Prometheus")]
    for name, variable in session.variables.items():
        shown = {value: text for text, value in variable.options}
        chosen = [variable.value] if isinstance(variable.value, str) else variable.value
        text = "All" if variable.everything else " + ".join(shown.get(one, one) for one in chosen)
        chips.append((variable.definition.get("label", name), text))
    start, end = (datetime.fromtimestamp(t, UTC) for t in (session.period.start, session.period.end))
    links = "".join(f'<span class="chip">▦ {html.escape(link["title"])}</span>' for link in session.dashboard["links"])
    return (
        f'<div class="bar"><h1>{html.escape(session.dashboard["title"])}</h1>{links}'
        f'<span class="chip">◷ {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC</span></div><div class="bar">'
        + "".join(f'<span class="chip"><b>{html.escape(a)}</b>{html.escape(b)}</span>' for a, b in chips)
        + "".join(
            f'<span class="chip"><span style="color:{color(a["iconColor"])}">●</span> {html.escape(a["name"])}</span>'
            for a in session.dashboard["annotations"]["list"]
        )
        + "</div>"
    )


def _marks(session: Session) -> list[tuple[float, str]]:
    """When alerts began to fire in the time shown, and their colour."""
    found = []
    step = max(60.0, (session.period.end - session.period.start) / 600)
    for annotation, answer in session.annotations():
        for one in answer:
            times = [float(t) for t, _ in one["values"]]
            begun = [t for before, t in zip([0.0, *times], times, strict=False) if t - before > 2 * step]
            found += [(t, color(annotation["iconColor"])) for t in begun if t > session.period.start + 2 * step]
    return found


def _shown(item: Field, value: Any) -> Shown:
    return Display(item.config).show(value)


def _last(item: Field) -> Any:
    return next((v for v in reversed(item.values) if v is not None), None)


def _series(frames: list[Frame]) -> list[Field]:
    return [frame.fields[1] for frame in frames if len(frame.fields) > 1]


def _series_color(item: Field, index: int) -> str:
    mode = item.config.get("color", {})
    if mode.get("mode") == "fixed":
        return color(mode["fixedColor"])
    return PALETTE[index % len(PALETTE)]


def _svg(width: float, height: float, content: list[str]) -> str:
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(content)}</svg>'


def _text(
    x: float, y: float, text: str, *, size: float = 11, fill: str = "#9fa0ab", anchor: str = "start", more: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" fill="{fill}" text-anchor="{anchor}" {more}>'
        f"{html.escape(text)}</text>"
    )


def _nothing(width: float, height: float) -> str:
    return _svg(width, height, [_text(width / 2, height / 2, "No data", size=16, anchor="middle")])


# Figures


def _stat(panel: JSON, frames: list[Frame], width: float, height: float, *_: object) -> str:
    series = _series(frames)
    if not series:
        return _nothing(width, height)
    options, content = panel["options"], []
    each = width / len(series)
    for index, item in enumerate(series):
        shown = _shown(item, _last(item))
        ink = color(shown.color)
        x = index * each
        background = options["colorMode"].startswith("background")
        if background:
            content.append(f'<rect x="{x}" y="-30" width="{each}" height="{height + 40}" fill="{ink}"/>')
        points = [float(v) for v in item.values if isinstance(v, float) and not math.isnan(v)]
        if options["graphMode"] == "area" and len(points) > 2:
            low, high = min(points), max(points)
            span = (high - low) or 1
            at = [
                (x + each * i / (len(points) - 1), height - 4 - (v - low) / span * height * 0.3)
                for i, v in enumerate(points)
            ]
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
            stroke = "#ffffff" if background else ink
            content.append(
                f'<polygon points="{x},{height} {line} {x + each},{height}" fill="{stroke}" fill-opacity="0.18"/>'
                f'<polyline points="{line}" fill="none" stroke="{stroke}" stroke-opacity="0.75" stroke-width="1.2"/>'
            )
        size = min(height * 0.46, each * 1.55 / max(4, len(shown.text)))
        content.append(
            _text(
                x + each / 2,
                height * 0.36 + size * 0.36,
                shown.text,
                size=size,
                fill="#ffffff" if background else ink,
                anchor="middle",
                more='font-weight="500"',
            )
        )
    svg = _svg(width, height, content)
    return svg.replace("<svg ", '<svg style="overflow:visible;margin-top:0" ', 1)


def _gauges(panel: JSON, frames: list[Frame], width: float, height: float, *_: object) -> str:
    items = [(item, value) for item in _series(frames) if isinstance(value := _last(item), float)]
    if not items:
        return _nothing(width, height)
    top = max([v for _, v in items] + [float(panel["fieldConfig"]["defaults"].get("max") or 0)]) or 1
    each = min(30.0, (height - 6) / len(items))
    name_width = min(width * 0.36, 12 + 6.6 * max(len(i.title) for i, _ in items))
    value_width = 12 + 7.4 * max(len(_shown(i, v).text) for i, v in items)
    room = width - name_width - value_width - 16
    content = []
    for index, (item, value) in enumerate(items):
        y = 4 + index * each
        shown = _shown(item, value)
        ink = color(shown.color)
        content.append(_text(8 + name_width - 10, y + each / 2 + 2, item.title, anchor="end", fill="#ccccdc"))
        content.append(
            f'<rect x="{name_width + 6:.1f}" y="{y:.1f}" width="{room:.1f}" height="{each - 6:.1f}" fill="#22252b"/>'
        )
        filled = room * max(0.0, min(1.0, value / top))
        content.append(
            f'<rect x="{name_width + 6:.1f}" y="{y:.1f}" width="{filled:.1f}" height="{each - 6:.1f}" fill="{ink}" '
            f'fill-opacity="0.35"/><rect x="{name_width + 6 + max(0, filled - 2):.1f}" y="{y:.1f}" width="2" '
            f'height="{each - 6:.1f}" fill="{ink}"/>'
        )
        content.append(_text(width - 8, y + each / 2 + 2, shown.text, size=13, fill=ink, anchor="end"))
    return _svg(width, height, content)


def _ring(panel: JSON, frames: list[Frame], width: float, height: float, *_: object) -> str:
    items = [(item, float(value)) for item in _series(frames) if isinstance(value := _last(item), float) and value > 0]
    if not items:
        return _nothing(width, height)
    total = sum(v for _, v in items)
    legend_width = 62 + 7 * max(len(i.title) for i, _ in items)
    radius = min(height - 24, width - legend_width - 20) / 2
    cx, cy = 12 + (width - legend_width - 12) / 2, height / 2
    content, angle = [], -math.pi / 2
    for index, (item, value) in enumerate(items):
        turn = min(2 * math.pi * value / total, 2 * math.pi - 1e-4)
        large = int(turn > math.pi)

        def at(r: float, a: float) -> str:
            return f"{cx + r * math.cos(a):.2f} {cy + r * math.sin(a):.2f}"

        inner = radius * 0.62
        content.append(
            f'<path d="M {at(radius, angle)} A {radius} {radius} 0 {large} 1 {at(radius, angle + turn)} '
            f'L {at(inner, angle + turn)} A {inner} {inner} 0 {large} 0 {at(inner, angle)} Z" '
            f'fill="{_series_color(item, index)}" stroke="#181b1f" stroke-width="1.5"/>'
        )
        angle += turn
        y = height / 2 + (index - (len(items) - 1) / 2) * 22
        x = width - legend_width
        content.append(
            f'<rect x="{x}" y="{y - 3:.1f}" width="14" height="4" rx="1" fill="{_series_color(item, index)}"/>'
        )
        content.append(_text(x + 20, y + 4, item.title, size=12, fill="#ccccdc"))
        content.append(_text(width - 12, y + 4, _shown(item, value).text, size=12, fill="#ccccdc", anchor="end"))
    return _svg(width, height, content)


# Time


def _ticks(low: float, high: float, unit: str, count: int = 5) -> list[float]:
    base = 1.0
    if unit == "bytes":
        while high / base >= 1024:
            base *= 1024
    elif unit in ("s", "h"):
        sizes = [1, 60, 3600, 86400, 604800] if unit == "s" else [1, 24, 168]
        base = float(max(s for s in sizes if s <= max(high, 1)))
    raw = (high - low) / base / count
    magnitude = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999) * base
    if unit == "short" and step < 1:
        step = 1
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _hours(period: Period) -> tuple[float, str]:
    span = period.end - period.start
    for step, form in (
        (300, "%H:%M"),
        (900, "%H:%M"),
        (3600, "%H:%M"),
        (3 * 3600, "%H:%M"),
        (86400, "%m/%d"),
        (2 * 86400, "%m/%d"),
    ):
        if span / step <= 9:
            return step, form
    return 7 * 86400, "%m/%d"


def _axis(
    period: Period, left: float, room: float, top: float, bottom: float
) -> tuple[list[str], Callable[[float], float]]:
    step, form = _hours(period)

    def x_of(t: float) -> float:
        return left + (t - period.start) / (period.end - period.start) * room

    content = []
    t = math.ceil(period.start / step) * step
    while t <= period.end:
        x = min(x_of(t), left + room)
        content.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom:.1f}" stroke="#24272d"/>')
        if x < left + room - 16:
            content.append(_text(x, bottom + 14, f"{datetime.fromtimestamp(t, UTC):{form}}", anchor="middle"))
        t += step
    return content, x_of


_CALCS: dict[str, tuple[str, Callable[[list[float]], float]]] = {
    "lastNotNull": ("Last", lambda v: v[-1]),
    "min": ("Min", min),
    "max": ("Max", max),
    "mean": ("Mean", lambda v: sum(v) / len(v)),
}


def _legend(panel: JSON, series: Sequence[Field], width: float) -> tuple[str, float, float]:
    """The legend, and how much it takes below and to the right."""
    options = panel["options"]["legend"]
    calcs = options.get("calcs") or []
    right = options["placement"] == "right"
    if calcs:
        head = "".join(f'<th class="n">{_CALCS[c][0]}</th>' for c in calcs)

        def figures(item: Field) -> str:
            values = [v for v in item.values if isinstance(v, float)]
            return "".join(f'<td class="n">{html.escape(_shown(item, _CALCS[c][1](values)).text)}</td>' for c in calcs)

        rows = "".join(
            f'<tr><td><span style="color:{_series_color(s, i)}">▬</span> {html.escape(s.title)}</td>{figures(s)}</tr>'
            for i, s in enumerate(series)
        )
        made = f'<table style="font-size:11.5px"><tr><th></th>{head}</tr>{rows}</table>'
        made = made.replace("<td", '<td style="height:20px;padding:1px 6px;border:0"').replace(
            "<th", '<th style="padding:1px 6px;border:0"'
        )
        if right:
            return made, 0, width * 0.4
        return made, 22 + 22 * len(series), 0
    chips = " ".join(
        f'<span style="margin-right:9px;white-space:nowrap"><span style="color:{_series_color(s, i)}">▬</span> '
        f"{html.escape(s.title)}</span>"
        for i, s in enumerate(series)
    )
    length = sum(34 + 7.2 * len(s.title) for s in series)
    lines = max(1, math.ceil(length / (width - 24)))
    return f'<div style="padding:0 10px;font-size:11.5px;line-height:19px">{chips}</div>', 19 * lines + 4, 0


def _timeseries(
    panel: JSON, frames: list[Frame], width: float, height: float, period: Period, marks: list[tuple[float, str]]
) -> str:
    frames = [f for f in frames if len(f)]
    if not frames:
        return _nothing(width, height)
    series = _series(frames)
    legend, below, beside = _legend(panel, series, width)
    unit = panel["fieldConfig"]["defaults"].get("unit", "none")
    plot_height, plot_width = height - below, width - beside
    top, bottom = 8.0, plot_height - 20
    curves = _curves(frames)
    values = [v for _, points in curves for _, v, _ in points]
    low = float(panel["fieldConfig"]["defaults"].get("min", min(values)))
    high = float(panel["fieldConfig"]["defaults"].get("max") or max(values) * 1.06)
    if high <= low:
        high = low + 1
    ticks = _ticks(low, high, unit, max(2, min(5, int((bottom - top) / 32))))
    names = [Display({**panel["fieldConfig"]["defaults"], "mappings": []}).show(float(t)).text for t in ticks]
    left = 16 + 6.4 * max(len(n) for n in names)
    room = plot_width - left - 12

    def y_of(v: float) -> float:
        return bottom - (v - low) / (high - low) * (bottom - top)

    content, x_of = _axis(period, left, room, top, bottom)
    for tick, name in zip(ticks, names, strict=True):
        content.append(
            f'<line x1="{left}" x2="{left + room:.1f}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}" stroke="#24272d"/>'
        )
        content.append(_text(left - 6, y_of(tick) + 4, name, anchor="end"))
    for index, (item, points) in reversed(list(enumerate(curves))):
        content.append(_curve(item, points, _series_color(item, index), x_of, y_of, low))
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    if custom.get("thresholdsStyle", {}).get("mode", "off") != "off":
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
            if step["value"] is not None and low <= step["value"] <= high:
                y = y_of(step["value"])
                ink = color(step["color"])
                content.append(
                    f'<line x1="{left}" x2="{left + room:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{ink}" '
                    'stroke-dasharray="8 6"/>'
                )
    for t, ink in marks:
        x = x_of(t)
        content.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom:.1f}" stroke="{ink}" stroke-dasharray="3 3" '
            f'stroke-opacity="0.8"/><path d="M {x - 4:.1f} {bottom + 5:.1f} h 8 l -4 -5 z" fill="{ink}"/>'
        )
    plot = _svg(plot_width, plot_height, content)
    if beside:
        return f'<div style="display:flex">{plot}<div style="width:{beside:.0f}px;padding-top:4px">{legend}</div></div>'
    return plot + legend


Points = list[tuple[float, float, float]]
"""Time, value at the top, value at the bottom."""


def _curves(frames: list[Frame]) -> list[tuple[Field, Points]]:
    sums: dict[float, float] = {}
    found = []
    for frame in frames:
        item = frame.fields[1]
        stack = item.config.get("custom", {}).get("stacking", {}).get("mode") == "normal"
        points: Points = []
        for t, v in zip(frame.fields[0].values, item.values, strict=True):
            if isinstance(t, float) and isinstance(v, float) and not math.isnan(v):
                base = sums.get(t, 0.0) if stack else 0.0
                points.append((t, base + v, base))
                if stack:
                    sums[t] = base + v
        found.append((item, points))
    return found


def _curve(
    item: Field, points: Points, ink: str, x_of: Callable[[float], float], y_of: Callable[[float], float], low: float
) -> str:
    if not points:
        return ""
    custom = item.config.get("custom", {})
    opacity = custom.get("fillOpacity", 0) / 100
    gaps = sorted(b[0] - a[0] for a, b in itertools.pairwise(points))
    step = gaps[len(gaps) // 4] if gaps else 60.0
    if custom.get("drawStyle") == "bars":
        wide = max(1.0, (x_of(step) - x_of(0)) * 0.9)
        return "".join(
            f'<rect x="{x_of(t) - wide:.1f}" y="{y_of(v):.1f}" width="{wide:.1f}" '
            f'height="{max(0, y_of(b) - y_of(v)):.1f}" fill="{ink}" fill-opacity="{opacity}"/>'
            for t, v, b in points
            if v > b
        )
    made = []
    pieces: list[Points] = [[points[0]]]
    for before, point in itertools.pairwise(points):
        if point[0] - before[0] > 1.5 * step:
            pieces.append([])
        pieces[-1].append(point)
    for piece in pieces:
        upper = [(x_of(t), y_of(v)) for t, v, _ in piece]
        lower = [(x_of(t), y_of(max(b, low))) for t, _, b in piece]
        if custom.get("lineInterpolation") == "stepAfter":
            upper, lower = _stepped(upper), _stepped(lower)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper)
        back = " ".join(f"{x:.1f},{y:.1f}" for x, y in reversed(lower))
        if opacity:
            made.append(f'<polygon points="{line} {back}" fill="{ink}" fill-opacity="{opacity}"/>')
        if custom.get("lineWidth", 1):
            dash = 'stroke-dasharray="6 5"' if custom.get("lineStyle", {}).get("fill") == "dash" else ""
            wide = custom.get("lineWidth", 1)
            made.append(f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="{wide}" {dash}/>')
    return "".join(made)


def _stepped(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found = points[:1]
    for before, point in itertools.pairwise(points):
        found += [(point[0], before[1]), point]
    return found


def _timeline(
    panel: JSON, frames: list[Frame], width: float, height: float, period: Period, marks: list[tuple[float, str]]
) -> str:
    frames = [f for f in frames if len(f)]
    if not frames:
        return _nothing(width, height)
    left = 20 + 7 * max(len(f.fields[1].title) for f in frames)
    bottom = height - 22
    content, x_of = _axis(period, left, width - left - 12, 4, bottom)
    each = (bottom - 8) / len(frames)
    for index, frame in enumerate(frames):
        item, times = frame.fields[1], [float(t or 0) for t in frame.fields[0].values]
        y, tall = 6 + index * each + each * 0.08, each * panel["options"]["rowHeight"]
        content.append(_text(left - 8, y + tall / 2 + 4, item.title, anchor="end", fill="#ccccdc"))
        ends = [*times[1:], period.end]
        spans: list[list[Any]] = []
        for start, end, value in zip(times, ends, item.values, strict=True):
            if spans and spans[-1][2] == value:
                spans[-1][1] = end
            else:
                spans.append([start, end, value])
        for start, end, value in spans:
            shown = _shown(item, value)
            x, wide = x_of(start), max(0.5, x_of(end) - x_of(start))
            content.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                f'fill="{color(shown.color)}" fill-opacity="0.85"/>'
            )
            if wide > 7 * len(shown.text) + 8:
                content.append(_text(x + 6, y + tall / 2 + 4, shown.text, fill="#ffffff"))
    return _svg(width, height, content)


# Tables and bars


def _table(panel: JSON, frames: list[Frame], width: float, height: float, *_: object) -> str:
    if not frames or not len(frames[0]):
        return _nothing(width, height)
    (frame,) = frames
    shown = [f for f in frame.fields if not f.config.get("custom", {}).get("hidden")]
    order = list(range(len(frame)))
    for column in reversed(panel["options"].get("sortBy") or []):
        by = next(f for f in frame.fields if f.title == column["displayName"])
        keys = [v if isinstance(v, float) else -math.inf for v in by.values]
        order.sort(key=keys.__getitem__, reverse=bool(column.get("desc")))
    numeric = [
        any(isinstance(v, float) for v in f.values) and f.config.get("custom", {}).get("align") != "left" for f in shown
    ]
    head = "".join(
        f'<th class="{"n" if n else ""}" style="{_wide(f)}">{html.escape(f.title)}</th>'
        for f, n in zip(shown, numeric, strict=True)
    )
    fitting = int((height - 30) / 27)
    rows = "".join(
        "<tr>" + "".join(_cell(f, f.values[i], number=n) for f, n in zip(shown, numeric, strict=True)) + "</tr>"
        for i in order[:fitting]
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _wide(item: Field) -> str:
    width = item.config.get("custom", {}).get("width")
    return f"width:{width}px" if width else ""


def _contrast(name: str | None) -> str:
    """Black on light colours and white on dark ones."""
    ink = color(name)
    red, green, blue = (int(ink[i : i + 2], 16) for i in (1, 3, 5))
    return "#1f1f22" if 0.3 * red + 0.59 * green + 0.11 * blue > 165 else "#fff"


def _cell(item: Field, value: Any, *, number: bool) -> str:
    shown = _shown(item, value)
    text = html.escape(shown.text)
    kind = item.config.get("custom", {}).get("cellOptions", {}).get("type")
    if item.config.get("links") and text:
        text = f'<a style="color:{_contrast(shown.color) if kind == "color-background" else "#6e9fff"}">{text}</a>'
    if shown.number is not None and kind == "color-background":
        return f'<td style="background:{color(shown.color)};color:{_contrast(shown.color)}">{text}</td>'
    if shown.number is not None and kind == "color-text":
        return f'<td class="n" style="color:{color(shown.color)}">{text}</td>'
    if shown.number is not None and kind == "gauge":
        low, high = float(item.config.get("min", 0)), float(item.config.get("max", 1))
        part = max(0.0, min(1.0, (shown.number - low) / (high - low)))
        ink = color(shown.color)
        return (
            '<td><div style="display:flex;align-items:center;gap:8px">'
            '<div style="flex:1;background:#22252b;height:14px">'
            f'<div style="width:{part:.0%};background:{ink};opacity:.75;height:14px"></div></div>'
            f'<span style="color:{ink};width:42px;text-align:right">{text}</span></div></td>'
        )
    return f'<td class="{"n" if number else ""}">{text}</td>'


def _bars(panel: JSON, frames: list[Frame], width: float, height: float, *_more: object) -> str:
    if not frames or not len(frames[0]):
        return _nothing(width, height)
    label, *series = frames[0].fields
    legend, below, _beside = _legend(panel, series, width)
    bottom, top = height - below - 20, 8.0
    totals = [sum(float(s.values[i] or 0) for s in series) for i in range(len(label.values))]
    high = max(totals) * 1.08 or 1.0
    left = 50.0
    each = (width - left - 12) / len(totals)
    content = []
    for tick in _ticks(0, high, "short", 4):
        y = bottom - tick / high * (bottom - top)
        content.append(f'<line x1="{left}" x2="{width - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#24272d"/>')
        content.append(_text(left - 6, y + 4, f"{tick:g}", anchor="end"))
    for index, day in enumerate(label.values):
        y = bottom
        wide = each * panel["options"]["barWidth"]
        x = left + each * index + (each - wide) / 2
        for number, item in enumerate(series):
            tall = float(item.values[index] or 0) / high * (bottom - top)
            y -= tall
            content.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                f'fill="{_series_color(item, number)}" fill-opacity="0.85"/>'
            )
        content.append(_text(x + wide / 2, bottom + 14, str(day), anchor="middle"))
    title = panel["fieldConfig"]["defaults"].get("custom", {}).get("axisLabel", "")
    content.append(
        _text(
            14, (top + bottom) / 2, title, anchor="middle", more=f'transform="rotate(-90 14 {(top + bottom) / 2:.1f})"'
        )
    )
    return _svg(width, height - below, content) + legend


_PANELS: dict[str, Callable[..., str]] = {
    "stat": _stat,
    "bargauge": _gauges,
    "piechart": _ring,
    "timeseries": _timeseries,
    "state-timeline": _timeline,
    "table": _table,
    "barchart": _bars,
}
