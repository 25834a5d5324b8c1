"""Breaks the rules in one place at a time, and lists the changes that no promtool test notices.

Run by hand (`python -m tests.deploy.mutate_rules [FILE ...]`, some minutes): each threshold, comparison, window,
offset, aggregation, set operator and waiting time is changed by itself, and the tests of that rule file, then those of
what must not fire, must fail. What is left is to be looked at: some breaks change nothing that a series could show.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from tests.support.rule_files import RULE_FILES, RULES, TESTS

SWAPS: tuple[tuple[str, str], ...] = (
    (r">=", ">"),
    (r">(?!=)", "<"),
    (r"<(?!=)", ">"),
    (r"<(?!=)", "<="),
    (r"==", "!="),
    (r"\bmax by", "min by"),
    (r"\bmin by", "max by"),
    (r"\bmax_over_time", "min_over_time"),
    (r"\bmin_over_time", "max_over_time"),
    (r"\band\b", "or"),
    (r"\bunless\b", "and"),
    (r"\bor\b", "and"),
    (r" offset \w+", ""),
    (r"\[1d:5m\]", "[10m:5m]"),
    (r"\[(?:5m|15m|30m|1h|2h|12h|1d|2d|9d|2w)\]", "[1m]"),
    (r"\[(?:5m|15m|30m|1h|2h)\]", "[2d]"),
    (r"(?<![\w.\[])0(?![\w.\]:])", "1"),
    (r"(?<![\w.\[])(?!0\b(?!\.))\d+(?:\.\d+)?(?![\w.\]:])", "{0} * 1.6"),
    (r"(?<![\w.\[])(?!0\b(?!\.))\d+(?:\.\d+)?(?![\w.\]:])", "{0} * 0.6"),
    (r"last_over_time\((\w+)\[\w+\]\)", r"\1"),
)


def mutants(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each way to break one place of a rule, with a description."""
    expr = rule["expr"]
    for pattern, new in SWAPS:
        for found in re.finditer(pattern, expr):
            text = found.expand(new) if "\\" in new else new.format(found.group(0))
            changed = expr[: found.start()] + text + expr[found.end() :]
            line = expr[: found.start()].count("\n") + 1
            yield f"line {line}: {found.group(0)} -> {text}", {**rule, "expr": changed}
    for wait in ("for", "keep_firing_for"):
        if wait in rule:
            yield f"no {wait}", {key: value for key, value in rule.items() if key != wait}
    if "labels" in rule:
        yield "severity", {**rule, "labels": {"severity": "info"}}


def seen(folder: Path, stem: str) -> bool:
    """Whether some test fails."""
    tests = folder / "tests"
    near = sorted(tests.glob(f"{stem}*.yml"))
    far = sorted({*tests.glob("must-not-fire*.yml"), tests / "clusters.yml"} - set(near))
    for path in (*near, *far):
        done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, check=False)
        if done.returncode:
            return True
    return False


def main(names: list[str]) -> int:
    survivors = tried = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(TESTS, folder / "tests")
        shutil.copytree(RULES, folder / "rules")
        for path in RULE_FILES:
            if names and path.stem not in names:
                continue
            original = yaml.safe_load(path.read_text(encoding="utf-8"))
            target = folder / "rules" / path.name
            for g, group in enumerate(original["groups"]):
                for r, rule in enumerate(group["rules"]):
                    for words, changed in mutants(rule):
                        broken = deepcopy(original)
                        broken["groups"][g]["rules"][r] = changed
                        target.write_text(yaml.safe_dump(broken, sort_keys=False), encoding="utf-8")
                        tried += 1
                        if not seen(folder, path.stem):
                            survivors += 1
                            sys.stdout.write(f"{path.name}: {rule.get('alert') or rule['record']}: {words}\n")
                            sys.stdout.flush()
            shutil.copy(path, target)
    sys.stdout.write(f"{tried} breaks, {survivors} unseen\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
