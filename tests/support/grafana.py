"""A dashboard opened on the real Prometheus, without a Grafana: its variables, its queries, and what each panel shows.

What a panel shows of the answers is worked out by Grafana's own library, `@grafana/data` (Apache-2.0), in a process of
Node.js: transformations, overrides, mappings, units, colours, and the step of a query. Only what Grafana's application
and its data source do is done here: variables, `$__rate_interval`, and the questions to Prometheus.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.prometheus_server import Prometheus

JSON = dict[str, Any]
ALL = "$__all"
FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
ENGINE = Path(__file__).resolve().parent / "grafana-engine"
OLDEST, NEWEST = "grafana-data-11", "grafana-data-13"
"""The library of Grafana 11.6, and the newest that Node.js 20 runs."""
POINTS = 600
"""How many pixels wide a panel is, which is how many points Grafana asks for where the panel does not say."""


def load(name: str) -> JSON:
    """A dashboard as committed: `fleet`, `droplet` or `exporter`."""
    found: JSON = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a person sees it."""

    text: str
    color: str | None = None
    number: float | None = None
    value: Any = None
    """What it was before; of a single figure, nothing."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, or a series: its name, the title that is shown, its labels, settings and cells."""

    name: str
    title: str
    labels: Mapping[str, str]
    config: JSON
    cells: list[Shown]


@dataclass(frozen=True, slots=True)
class View:
    """What a panel shows: its frames, each as columns, and the single figures of a panel that reduces to such."""

    frames: list[list[Column]]
    figures: list[tuple[str, Shown]]
    milliseconds: float
    """How long the transformations took."""

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of a table, as texts by the columns' titles."""
        (columns,) = self.frames
        texts = [[cell.text for cell in column.cells] for column in columns]
        return [dict(zip([column.title for column in columns], row, strict=True)) for row in zip(*texts, strict=True)]


class Engine:
    """One version of Grafana's library, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, kind: str, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"kind": kind, **request}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the engine ended; see stderr"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    def view(self, panel: JSON, answers: list[JSON]) -> View:
        """What a panel shows of these answers, each with its `refId`, `format`, `legend` and `result`."""
        found = self.ask("panel", panel=panel, answers=answers)
        frames = [
            [Column(**{**column, "cells": [Shown(**cell) for cell in column["cells"]]}) for column in frame]
            for frame in found["frames"]
        ]
        figures = [(figure.pop("title"), Shown(**figure)) for figure in found["figures"]]
        return View(frames, figures, found["milliseconds"])

    def format(self, value: float | None, **config: Any) -> str:
        """A number with its unit as Grafana shows it."""
        return str(self.ask("format", value=value, **config)["text"])

    def color(self, name: str) -> str:
        """A colour's name as the code that is drawn."""
        return str(self.ask("color", name=name))


@contextmanager
def engine(node: str, version: str) -> Iterator[Engine]:
    """Grafana's library of this version (`OLDEST` or `NEWEST`), in a process of its own."""
    command = [node, "engine.cjs", version]
    # Leaving the `with` closes stdin, which ends the process, and waits for that.
    with subprocess.Popen(command, cwd=ENGINE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Engine(process)


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

    def globals(self, step: float, least: float) -> dict[str, str]:
        """Grafana's own variables: its rate is over no less than four times the least time between two points."""
        return {
            "__interval": f"{step:.0f}s",
            "__rate_interval": f"{max(step + least, 4 * least):.0f}s",
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
        engine: Engine,
        period: Period,
        chosen: Mapping[str, str | list[str]] | None = None,
    ) -> None:
        self.dashboard, self.prometheus, self.engine, self.period = dashboard, prometheus, engine, period
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
        return self._expression(panel, target)[0]

    def _expression(self, panel: JSON, target: JSON) -> tuple[str, float]:
        """What is sent to Prometheus, and the step of a query over time, which Grafana's library rounds."""
        least = _seconds(target["interval"]) if target.get("interval") else self.period.scrape
        start, end, points = self.period.start, self.period.end, panel.get("maxDataPoints") or POINTS
        step = float(self.engine.ask("step", start=start, end=end, points=points, least=least))
        return interpolated(target["expr"], {**self.variables, **self.period.globals(step, least)}), step

    def annotations(self) -> list[tuple[JSON, list[JSON]]]:
        """The annotations and what their queries answer over the time shown."""
        found = []
        for annotation in self.dashboard["annotations"]["list"]:
            expr, step = self._expression({}, {"expr": annotation["expr"], "interval": annotation["step"]})
            found.append((annotation, self.prometheus.over_time(expr, *self._aligned(step), step)))
        return found

    def _aligned(self, step: float) -> tuple[float, float]:
        return math.floor(self.period.start / step) * step, math.floor(self.period.end / step) * step

    def series(self, panel: JSON, target: JSON) -> list[JSON]:
        """Prometheus's answer to one query."""
        expr, step = self._expression(panel, target)
        if target.get("instant"):
            return self.prometheus.instant(expr, self.period.end)
        return self.prometheus.over_time(expr, *self._aligned(step), step)

    def at_end(self, panel: JSON, target: JSON) -> list[JSON]:
        """The answer at the last instant, also for a query over time."""
        return self.prometheus.instant(self.expression(panel, target), self.period.end)

    def panel(self, title: str) -> JSON:
        """The panel of this title."""
        (found,) = [panel for panel in self.dashboard["panels"] if panel["title"] == title]
        return dict(found)

    def view(self, panel: JSON) -> View:
        """What a panel shows."""
        answers = [
            {
                "refId": target["refId"],
                "format": target.get("format"),
                "legend": interpolated(target.get("legendFormat", ""), self.variables),
                "result": self.series(panel, target),
            }
            for target in panel["targets"]
        ]
        return self.engine.view(panel, answers)
