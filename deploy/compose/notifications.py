"""Shows what Alertmanager sends to its webhooks, on a page at port 9095 and in its log."""

import html
import json
import re
import signal
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGEST = 16 << 20
"""Bytes of a notification that are read."""
SHOWN = 10
"""Alerts of one notification that are shown."""
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="10"><title>Notifications</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
.firing {{ color: #b00020 }} .resolved {{ color: #1b6e3c }}
ul {{ margin: .3em 0; padding-left: 1.3em }}
article {{ border-top: 1px solid #ccc; padding: .5em 0 }}</style>
<h1>Notifications</h1><p>What Alertmanager has sent since this page started, the newest first. {empty}</p>{articles}
</html>
"""

received: deque[str] = deque(maxlen=100)
"""The newest notifications as HTML, the newest first."""


def _line(alert: dict[str, Any]) -> str:
    """What is told of an alert. A summary says what is wrong, so of a resolved alert it only tells the Droplet."""
    name, summary = alert["labels"]["alertname"], alert["annotations"].get("summary", "")
    if alert["status"] == "firing":
        return summary or name
    droplet = re.match(r"Droplet (.+) in account ", summary)
    subject = [droplet[1]] if droplet else []
    subject += [f"{label} {alert['labels'][label]}" for label in ("account", "instance") if label in alert["labels"]]
    return f"{name} is no longer true{' of ' * bool(subject)}{', '.join(subject)}"


class Handler(BaseHTTPRequestHandler):
    """Takes a webhook by POST and shows what came by GET."""

    timeout = 10

    def do_POST(self) -> None:
        """Keep a notification. Anything that is none is answered with 400."""
        try:
            length = int(self.headers.get("Content-Length", ""))
            body = json.loads(self.rfile.read(min(max(length, 0), LARGEST)))
            at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            receiver, status, alerts = str(body["receiver"]), str(body["status"]), body["alerts"]
            lines = [(str(one["status"]), _line(one)) for one in alerts[:SHOWN]]
            more = len(alerts) - len(lines) + int(body.get("truncatedAlerts", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._answer(400, f"not a notification of Alertmanager: {error}\n")
            return
        if more:
            lines.append((status, f"and {more:,} more"))
        items = "".join(f'<li class="{html.escape(state)}">{html.escape(text)}' for state, text in lines)
        heading = html.escape(f"{at}, to {receiver}: {status}")
        received.appendleft(f"<article>{heading}<ul>{items}</ul></article>")
        for state, text in lines:
            sys.stdout.write(f"{at} to {receiver}: {state}: {text}\n")
        sys.stdout.flush()
        self._answer(200, "")

    def do_GET(self) -> None:
        """The page, whatever the path."""
        empty = "" if received else "Nothing so far: an alert takes a minute or two."
        self._answer(200, PAGE.format(empty=empty, articles="".join(received)))

    def _answer(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8" if code == 200 else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not logged, only notifications."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(sys.argv[1]) if sys.argv[1:] else 9095), Handler)
    # `shutdown` waits for the loop that this thread runs, so another thread calls it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
