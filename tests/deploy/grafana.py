"""As much of Grafana as its dashboards need to be tried without it: variables, queries, fields, transformations.

Each part does what Grafana 11 does with the JSON, and refuses what it does not know, so that a dashboard that uses more
than is tried here fails instead of passing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.prometheus_server import Prometheus

JSON = dict[str, Any]
Value = float | str | None
ALL = "$__all"
FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"


def load(name: str) -> JSON:
    """A dashboard as committed: `fleet`, `droplet` or `exporter`."""
    found: JSON = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True, slots=True)
class Field:
    """A column: a name, values, and how to show them."""

    name: str
    values: list[Value]
    labels: Mapping[str, str] = field(default_factory=dict)
    ref_id: str = ""
    shown: str = ""
    """The display name, from the legend or an override; `name` where empty."""
    config: JSON = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.shown or self.name


@dataclass(frozen=True, slots=True)
class Frame:
    """Fields of one length: a series (its time and value) or a table."""

    fields: list[Field]
    ref_id: str = ""

    def __len__(self) -> int:
        return len(self.fields[0].values) if self.fields else 0

    def named(self, name: str) -> Field | None:
        return next((f for f in self.fields if f.name == name), None)


# Variables


def _special(value: str) -> str:
    """Escapes for a regular expression within a PromQL string, as the Prometheus data source does."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", r"\\\\"))


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable and what is chosen: one value, several, or all."""

    definition: JSON
    value: str | list[str]
    options: list[tuple[str, str]]
    """Text and value of each choice."""

    @property
    def everything(self) -> bool:
        return self.value in (ALL, [ALL])

    def text(self, form: str | None) -> str:
        if self.everything:
            if self.definition.get("allValue"):
                return str(self.definition["allValue"])
            chosen = [value for _, value in self.options]
        else:
            chosen = [self.value] if isinstance(self.value, str) else list(self.value)
        if form == "raw":
            return chosen[0] if len(chosen) == 1 else "{" + ",".join(chosen) + "}"
        if form is not None:
            raise NotImplementedError(f"format {form} of {self.definition['name']}")
        if not self.definition.get("multi") and not self.definition.get("includeAll"):
            return chosen[0].replace("\\", r"\\").replace("'", r"\\'") if chosen else ""
        escaped = [_special(value) for value in chosen]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


_REFERENCE = re.compile(r"\$(\w+)|\$\{(\w+)(?::(\w+))?\}")


def interpolated(text: str, values: Mapping[str, Variable | str]) -> str:
    """The text with its variables' values; what is no variable (`$1`) stays."""

    def value(match: re.Match[str]) -> str:
        found = values.get(match[1] or match[2])
        if found is None:
            return match[0]
        return found if isinstance(found, str) else found.text(match[3])

    return _REFERENCE.sub(value, text)


@dataclass(frozen=True, slots=True)
class Period:
    """The time shown, and how often Prometheus scrapes, which rates and steps go by."""

    start: float
    end: float
    scrape: float

    def step(self, panel: JSON, target: JSON) -> float:
        """Time between two points: as many as the panel wants, no closer than the query or the scrape interval."""
        points = panel.get("maxDataPoints") or 600
        least = max(self.scrape, _seconds(target["interval"]) if target.get("interval") else 0)
        return float(max(least, math.ceil((self.end - self.start) / points)))

    def globals(self, step: float) -> dict[str, str]:
        return {
            "__interval": f"{step:.0f}s",
            "__rate_interval": f"{max(step + self.scrape, 4 * self.scrape):.0f}s",
            "__range": f"{self.end - self.start:.0f}s",
        }


def _seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


class Session:
    """A dashboard opened on a Prometheus: its variables resolved, with these choices in place of the defaults."""

    def __init__(
        self,
        dashboard: JSON,
        prometheus: Prometheus,
        period: Period,
        chosen: Mapping[str, str | list[str]] | None = None,
    ) -> None:
        self.dashboard, self.prometheus, self.period = dashboard, prometheus, period
        self.variables: dict[str, Variable] = {}
        for definition in dashboard["templating"]["list"]:
            if definition["type"] == "datasource":
                continue
            if definition["type"] != "query":
                raise NotImplementedError(f"variable of type {definition['type']}")
            options = self._options(definition)
            current = (chosen or {}).get(definition["name"])
            if current is None:
                given = definition.get("current", {}).get("value")
                current = given if given else (options[0][1] if options else "")
            self.variables[definition["name"]] = Variable(definition, current, options)

    def _options(self, definition: JSON) -> list[tuple[str, str]]:
        query = interpolated(definition["query"]["query"], self.variables)
        values = self._asked(query)
        pattern = definition.get("regex")
        if not pattern:
            return [(v, v) for v in values]
        compiled = re.compile(
            pattern.removeprefix("/").removesuffix("/").replace("(?<", "(?P<").replace("(?P<!", "(?<!")
        )
        found = []
        for value in values:
            match = compiled.search(value)
            if match:
                groups = match.groupdict()
                chosen = groups.get("value") or groups.get("text") or match[0]
                found.append((groups.get("text") or chosen, chosen))
        return sorted(dict.fromkeys(found), key=lambda option: option[0].lower())

    def _asked(self, query: str) -> list[str]:
        period = {"start": f"{self.period.start:.3f}", "end": f"{self.period.end:.3f}"}
        if match := re.fullmatch(r"label_names\((.+)\)", query):
            selector = f'{{__name__=~".*{match[1]}.*"}}'
            return list(self.prometheus.get("labels", **period, **{"match[]": selector}))
        if match := re.fullmatch(r"label_values\((?:(.+),\s*)?([a-zA-Z_][a-zA-Z0-9_]*)\)", query):
            return list(self.prometheus.get(f"label/{match[2]}/values", **period, **{"match[]": match[1]}))
        if match := re.fullmatch(r"query_result\((.+)\)", query):
            return [
                "{"
                + ",".join(f'{k}="{v}"' for k, v in r["metric"].items())
                + f"}} {r['value'][1]} {r['value'][0] * 1000:.0f}"
                for r in self.prometheus.instant(match[1], self.period.end)
            ]
        raise NotImplementedError(query)

    def expression(self, panel: JSON, target: JSON) -> str:
        """What is sent to Prometheus."""
        return self._with_globals(target["expr"], self.period.step(panel, target))

    def _with_globals(self, text: str, step: float) -> str:
        return interpolated(text, {**self.variables, **self.period.globals(step)})

    def annotations(self) -> list[tuple[JSON, list[JSON]]]:
        """The annotations and what their queries answer over the time shown."""
        step = max(60.0, (self.period.end - self.period.start) / 600)
        return [
            (
                a,
                self.prometheus.over_time(
                    interpolated(a["expr"], self.variables), self.period.start, self.period.end, step
                ),
            )
            for a in self.dashboard["annotations"]["list"]
        ]

    def series(self, panel: JSON, target: JSON) -> list[JSON]:
        """Prometheus's answer to one query."""
        expr = self.expression(panel, target)
        if target.get("instant"):
            return self.prometheus.instant(expr, self.period.end)
        step = self.period.step(panel, target)
        return self.prometheus.over_time(expr, math.floor(self.period.start / step) * step, self.period.end, step)

    def at_end(self, panel: JSON, target: JSON) -> list[JSON]:
        """The answer at the last instant alone, also to a query over time."""
        return self.prometheus.instant(self.expression(panel, target), self.period.end)

    # Frames

    def frames(self, panel: JSON) -> list[Frame]:
        """What a panel shows: the answers as fields, named, transformed and configured."""
        answers = [(target, self.series(panel, target)) for target in panel["targets"]]
        tables = sum(1 for target, answer in answers if target.get("format") == "table" and answer)
        frames: list[Frame] = []
        for target, answer in answers:
            if target.get("format") == "table":
                if answer:
                    frames.append(_table(answer, target["refId"], alone=tables == 1))
            else:
                legend = interpolated(target.get("legendFormat", ""), self.variables)
                frames += [_line(one, target["refId"], legend) for one in answer]
        for transformation in panel.get("transformations", []):
            frames = _TRANSFORMATIONS[transformation["id"]](frames, transformation["options"])
        return [replace(frame, fields=[_configured(f, panel) for f in frame.fields]) for frame in frames]


def _line(answer: JSON, ref_id: str, legend: str) -> Frame:
    labels = {k: v for k, v in answer["metric"].items() if k != "__name__"}
    points = answer.get("values") or [answer["value"]]
    if legend == "__auto":
        shown = next(iter(labels.values())) if len(labels) == 1 else ", ".join(f'{k}="{v}"' for k, v in labels.items())
    else:
        shown = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m[1], ""), legend)
    times: list[Value] = [float(t) for t, _ in points]
    values: list[Value] = [float(v) for _, v in points]
    return Frame([Field("Time", times), Field("Value", values, labels, ref_id, shown or "Value")], ref_id)


def _table(answer: list[JSON], ref_id: str, *, alone: bool) -> Frame:
    names = sorted({name for one in answer for name in one["metric"] if name != "__name__"})
    fields = [Field("Time", [float(one["value"][0]) for one in answer])]
    fields += [Field(name, [one["metric"].get(name, "") for one in answer]) for name in names]
    value = "Value" if alone else f"Value #{ref_id}"
    return Frame([*fields, Field(value, [float(one["value"][1]) for one in answer], ref_id=ref_id)], ref_id)


def _merge(frames: list[Frame], options: JSON) -> list[Frame]:
    if len(frames) <= 1:
        return frames
    names = list(dict.fromkeys(f.name for frame in frames for f in frame.fields))
    keys = [name for name in names if all(frame.named(name) for frame in frames)]
    merged: dict[tuple[Value, ...], list[dict[str, Value]]] = {}
    for frame in frames:
        for row in range(len(frame)):
            value = {f.name: f.values[row] for f in frame.fields}
            rows = merged.setdefault(tuple(value[key] for key in keys), [])
            fitting = [r for r in rows if all(r.get(k) is None or r[k] == v for k, v in value.items())]
            for one in fitting:
                one.update(value)
            if not fitting:
                rows.append(value)
    flat = [row for rows in merged.values() for row in rows]
    source = {f.name: f for frame in frames for f in frame.fields}
    return [Frame([replace(source[name], values=[row.get(name) for row in flat]) for name in names])]


def _organize(frames: list[Frame], options: JSON) -> list[Frame]:
    if unknown := set(options) - {"excludeByName", "indexByName", "renameByName"} or options["renameByName"]:
        raise NotImplementedError(f"organize with {unknown}")
    order = options["indexByName"]
    return [
        replace(
            frame,
            fields=sorted(
                (f for f in frame.fields if not options["excludeByName"].get(f.name)),
                key=lambda f: order.get(f.name, math.inf),
            ),
        )
        for frame in frames
    ]


def _grouping_to_matrix(frames: list[Frame], options: JSON) -> list[Frame]:
    if len(frames) != 1:
        return frames
    row, column, value = (frames[0].named(options[key]) for key in ("rowField", "columnField", "valueField"))
    if row is None or column is None or value is None:
        return frames
    rows, columns = list(dict.fromkeys(row.values)), list(dict.fromkeys(column.values))
    cells = dict(zip(zip(row.values, column.values, strict=True), value.values, strict=True))
    empty = {"zero": 0.0, "null": None}[options["emptyValue"]]
    fields = [Field(f"{options['rowField']}\\{options['columnField']}", rows)]
    fields += [Field(str(c), [cells.get((r, c), empty) for r in rows]) for c in columns]
    return [Frame(fields)]


def _sort_by(frames: list[Frame], options: JSON) -> list[Frame]:
    (sort,) = options["sort"]

    def done(frame: Frame) -> Frame:
        by = frame.named(sort["field"])
        if by is None:
            return frame
        order = sorted(range(len(frame)), key=lambda i: str(by.values[i]), reverse=sort["desc"])
        return replace(frame, fields=[replace(f, values=[f.values[i] for i in order]) for f in frame.fields])

    return [done(frame) for frame in frames]


_TRANSFORMATIONS = {
    "merge": _merge,
    "organize": _organize,
    "groupingToMatrix": _grouping_to_matrix,
    "sortBy": _sort_by,
}


def _configured(item: Field, panel: JSON) -> Field:
    config: JSON = json.loads(json.dumps(panel.get("fieldConfig", {}).get("defaults", {})))
    title = item.title
    for override in panel.get("fieldConfig", {}).get("overrides", []):
        if _matches(override["matcher"], item, title):
            for setting in override["properties"]:
                path = setting["id"].split(".")
                target = config
                for part in path[:-1]:
                    target = target.setdefault(part, {})
                target[path[-1]] = setting["value"]
    return replace(item, config=config, shown=config.get("displayName") or item.shown)


def _matches(matcher: JSON, item: Field, title: str) -> bool:
    kind, options = matcher["id"], matcher["options"]
    if kind == "byName":
        return options in (title, item.name)
    if kind == "byRegexp":
        return re.search(options.removeprefix("/").removesuffix("/"), title) is not None
    if kind == "byFrameRefID":
        return bool(item.ref_id == options)
    raise NotImplementedError(f"matcher {kind}")


# Values


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a person sees it."""

    text: str
    color: str | None = None
    number: float | None = None


@dataclass(frozen=True)
class Display:
    """How a field's values look: mappings first, then unit and thresholds."""

    config: JSON

    @cached_property
    def mappings(self) -> dict[str, JSON]:
        return {k: v for m in self.config.get("mappings", []) for k, v in m["options"].items()}

    def show(self, value: Value) -> Shown:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return Shown(self.config.get("noValue", ""))
        if isinstance(value, str):
            return Shown(value)
        mapped = self.mappings.get(f"{value:g}")
        if mapped:
            return Shown(mapped["text"], mapped.get("color"), value)
        return Shown(
            formatted(value, self.config.get("unit", "none"), self.config.get("decimals")), self.color(value), value
        )

    def color(self, value: float) -> str | None:
        mode = self.config.get("color", {}).get("mode", "thresholds")
        if mode == "fixed":
            return str(self.config["color"]["fixedColor"])
        if mode != "thresholds":
            return None
        return self.threshold(value)

    def threshold(self, value: float) -> str | None:
        passed = [
            s for s in self.config.get("thresholds", {}).get("steps", []) if s["value"] is None or value >= s["value"]
        ]
        return str(passed[-1]["color"]) if passed else None


_TIMES = (
    (31536000, "years"),
    (604800, "weeks"),
    (86400, "days"),
    (3600, "hours"),
    (60, "mins"),
    (1, "s"),
    (0.001, "ms"),
)


def formatted(value: float, unit: str, decimals: int | None = None) -> str:
    """A number in Grafana's words for its unit."""

    def number(amount: float, digits: int) -> str:
        places = decimals if decimals is not None else (0 if amount == int(amount) else digits)
        return f"{amount:.{int(places)}f}"

    if unit in ("s", "h", "d"):
        seconds = value * {"s": 1, "h": 3600, "d": 86400}[unit]
        for size, name in _TIMES:
            if abs(seconds) >= size or name == "ms":
                return f"{number(seconds / size, 2 if seconds else 0)} {name}" if seconds else "0 s"
    if unit == "bytes":
        for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
            if abs(value) >= 1024**power:
                return f"{number(value / 1024**power, 1)} {name}"
        return f"{value:.0f} B"
    if unit == "percentunit":
        return f"{number(value * 100, 1)}%"
    if unit == "dateTimeAsIso":
        return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    if unit.startswith("suffix:"):
        return number(value, 2) + unit.removeprefix("suffix:")
    if unit == "short" and abs(value) >= 1000:
        return f"{number(value / 1000, 2)} K"
    if unit in ("short", "none"):
        return number(value, 2)
    raise NotImplementedError(f"unit {unit}")
