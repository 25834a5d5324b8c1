"""Writes the dashboards to `deploy/grafana/dashboards`, or with `--check` checks that they are up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import droplet, exporter, fleet

TARGET = Path(__file__).resolve().parent.parent / "dashboards"


def dashboards() -> dict[str, str]:
    """The name of every dashboard's file, and its text."""
    built = {"fleet.json": fleet.build(), "droplet.json": droplet.build(), "exporter.json": exporter.build()}
    return {
        name: json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, dashboard in built.items()
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.generator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    check = parser.parse_args(arguments).check
    status = 0
    for name, text in dashboards().items():
        path = TARGET / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{path} is not what this script makes: run `python -m deploy.grafana.generator`", file=sys.stderr)  # noqa: T201
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
