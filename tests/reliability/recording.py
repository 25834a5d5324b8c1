"""What was served over a time, put to the shipped rules: promtool evaluates them as Prometheus would."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.rule_files import RULE_FILES, rules

STEP = 300.0
"""Seconds between two scrapes: samples are not looked back for any longer."""
EVALUATED_EVERY = 1800.0
"""What is served stands for hours, from one poll to the next: rules need not be evaluated more often."""
PREFIX = "digitalocean_backup_"
_ASKED = frozenset(
    name for rule in rules() for name in re.findall(rf"\b{PREFIX}\w+", json.dumps(rule.body, default=str))
)
"""The series that some rule or its text asks for; the others need not be recorded."""
_Series = tuple[str, tuple[tuple[str, str], ...]]
_Sample = tuple[str, Mapping[str, str], float]


@dataclass(slots=True)
class Recording:
    """Samples of several exporters over the same time, told apart by their label `account`."""

    begin: float
    values: dict[_Series, dict[int, float]] = field(default_factory=dict)
    ends: int = 0

    def add(self, account: str, samples: Iterable[_Sample], since: float, until: float) -> None:
        """What an account's exporter served from one instant to the other."""
        first, last = round((since - self.begin) / STEP), round((until - self.begin) / STEP)
        self.ends = max(self.ends, last)
        for name, labels, value in samples:
            if name not in _ASKED:
                continue
            if name.endswith("_timestamp_seconds"):
                # Time begins at 0 where the rules are tested.
                value -= self.begin
            told = {**labels, "account": account, "job": "digitalocean-backups", "instance": "exporter:9819"}
            series = self.values.setdefault((name, tuple(sorted(told.items()))), {})
            series.update(dict.fromkeys(range(first, last), value))

    def series(self) -> list[dict[str, str]]:
        """The input series of a promtool test."""
        return [
            {
                "series": name + "{" + ",".join(f"{label}={json.dumps(text)}" for label, text in labels) + "}",
                "values": " ".join(self._runs(values)),
            }
            for (name, labels), values in self.values.items()
        ]

    def _runs(self, values: dict[int, float]) -> Iterable[str]:
        begin = 0
        while begin < self.ends:
            value = values.get(begin)
            end = begin
            while end < self.ends and values.get(end) == value:
                end += 1
            count = end - begin
            yield f"_x{count}" if value is None else f"{value!r}x{count - 1}"
            begin = end


def promtool_test(recording: Recording, expected: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """A promtool test of the recording: expressions, asked at the last evaluation, with the samples each must give."""
    at = int((recording.ends * STEP - STEP) // EVALUATED_EVERY * EVALUATED_EVERY)
    return {
        "rule_files": [str(path) for path in RULE_FILES],
        "evaluation_interval": f"{EVALUATED_EVERY:.0f}s",
        "tests": [
            {
                "interval": f"{STEP:.0f}s",
                "input_series": recording.series(),
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": f"{at}s",
                        "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
                    }
                    for expression, samples in expected.items()
                ],
            }
        ],
    }


def run_promtool(promtool: str, folder: Path, recording: Recording, expected: Mapping[str, Mapping[str, float]]) -> str:
    """What promtool objects to: nothing where every expression gives what is expected of it."""
    file = folder / "recorded.yml"
    # JSON is YAML, and is written faster.
    file.write_text(json.dumps(promtool_test(recording, expected)))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
