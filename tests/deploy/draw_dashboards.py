"""Draws the dashboards as pictures, so that layout, titles, units and thresholds can be judged without a Grafana.

    python -m tests.deploy.draw_dashboards fleet droplet exporter --into /tmp

makes up a history of ten days for two exporters, loads it into the real Prometheus, asks it what every panel asks,
draws the panels in their grid as an HTML page, and has headless Chromium take the screenshot. With `--prometheus URL`
the panels are drawn from a Prometheus that runs already.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.deploy import drawing, history
from tests.deploy.grafana import Period, Session, load
from tests.support.prometheus_server import Prometheus, backfill, running

SPANS = {"fleet": 7.0, "droplet": 7.0, "exporter": 1.0}
"""Days shown."""
DROPLET = "441000005"
STEP = 600.0
CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def screenshot(chromium: str, page: str, height: int, picture: Path) -> None:
    """Writes the page's picture as PNG."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "page.html"
        source.write_text(page, encoding="utf-8")
        command = [
            chromium,
            *CHROMIUM,
            f"--user-data-dir={directory}/profile",
            f"--window-size={drawing.WIDTH},{height}",
            f"--screenshot={picture}",
            source.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode or not picture.exists():
        raise RuntimeError(f"{chromium} took no screenshot: {done.stderr[-2000:]}")


def draw(
    name: str, prometheus: Prometheus, period: Period, chromium: str, picture: Path, chosen: dict[str, str | list[str]]
) -> None:
    """Draws one dashboard from this Prometheus."""
    page, height = drawing.page(Session(load(name), prometheus, period, chosen))
    screenshot(chromium, page, height, picture)


@contextlib.contextmanager
def made_up(directory: Path, days: float = 10.0, step: float = STEP) -> Iterator[tuple[Prometheus, float]]:
    """A Prometheus with a made-up history, and the time at which it ends."""
    end = time.time() // 60 * 60
    story = history.Story(end)
    backfill(_program("promtool"), history.openmetrics(story, end - days * history.DAY, step), directory)
    with running(_program("prometheus"), directory, lookback=f"{step + 300:.0f}s") as server:
        yield server, end


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        sys.exit(f"{name} is not installed (apt-get install prometheus chromium)")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", default=list(SPANS), metavar="NAME", help="fleet, droplet, exporter (default: all)"
    )
    parser.add_argument("--into", type=Path, default=Path(), help="folder of the pictures (default: this one)")
    parser.add_argument("--prometheus", metavar="URL", help="a Prometheus to ask, instead of a made-up history")
    parser.add_argument(
        "--scrape-interval", type=float, default=30.0, help="of that Prometheus, in seconds (default: 30)"
    )
    parser.add_argument("--hours", type=float, help="how much to show (default: as much as the dashboard does)")
    parser.add_argument("--droplet", help="id of the droplet to show (default: the first one offered)")
    parser.add_argument("--tag-label", help="tag label to group by")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        chosen: dict[str, str | list[str]] = {}
        if options.prometheus:
            server, end, scrape = Prometheus(options.prometheus.rstrip("/")), time.time(), options.scrape_interval
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server, end = stack.enter_context(made_up(directory))
            scrape, chosen = STEP, {"droplet": DROPLET, "tag_label": "team"}
        chosen |= {k: v for k, v in (("droplet", options.droplet), ("tag_label", options.tag_label)) if v}
        for name in options.names:
            span = options.hours * 3600 if options.hours else SPANS[name] * history.DAY
            picture = options.into / f"{name}.png"
            draw(name, server, Period(end - span, end, scrape), _program("chromium"), picture, chosen)
            print(picture)


if __name__ == "__main__":
    main()
