"""Headless Chromium, driven over its DevTools protocol: what a person sees, clicks and types.

`python -m tests.web.browser` takes the picture of the page for the README.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "test-output" / "page"
README_PICTURE = ROOT / "deploy" / "pictures" / "page.webp"


@contextlib.contextmanager
def chromium(program: str) -> Iterator[str]:
    """A running browser with an empty profile; gives the address of its DevTools."""
    profile = tempfile.mkdtemp(prefix="chromium-")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    said: list[str] = []
    address = None
    for line in process.stderr:
        said.append(line)
        match = re.search(r"DevTools listening on ws://([\d.:]+)/", line)
        if match:
            address = match[1]
            break
    # What it goes on to say must not fill the pipe.
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    try:
        assert address is not None, "chromium did not start:\n" + "".join(said)
        yield f"http://{address}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        drain.join(5)
        process.stderr.close()
        shutil.rmtree(profile, ignore_errors=True)


class Tab:
    """One page of the browser. What it complains of, and every dialog that a script opens, is kept in `complaints`."""

    def __init__(self, devtools: str) -> None:
        self._devtools = devtools
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        """The addresses that were asked for."""

    async def __aenter__(self) -> Self:
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        async with session.put(f"{self._devtools}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        self._target = target["id"]
        self._session = session
        self._socket = await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._session.get(f"{self._devtools}/json/close/{self._target}"):
            pass
        await self._socket.close()
        await self._reader
        await self._stack.aclose()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        number = next(self._ids)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(future, 30)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._note(said["method"], said["params"])

    def _note(self, event: str, what: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded.set()
        elif event == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {what['message']}")
        elif event == "Log.entryAdded":
            self.complaints.append(f"{what['entry']['level']}: {what['entry']['text']}")
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {what['exceptionDetails']['text']}")
        elif event == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])

    async def open(self, url: str) -> None:
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), 30)

    @contextlib.asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Waits, at the end of the block, for the page that something in it leads to."""
        self._loaded.clear()
        yield
        await asyncio.wait_for(self._loaded.wait(), 30)

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression, run as the developer's console would run it."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def click(self, selector: str) -> None:
        """A click of the mouse in the middle of the first element that the selector finds, scrolled into view."""
        x, y = await self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def press(self, key: str, code: int) -> None:
        text = {"Enter": "\r"}.get(key)
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def look(self, width: int, height: int, scheme: Literal["light", "dark"] = "light") -> None:
        """Sets the size of the window, and whether the reader likes it light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path) -> None:
        """What is seen now, in the format that the path's suffix names."""
        found = await self.call("Page.captureScreenshot", format=path.suffix.removeprefix("."))
        await asyncio.to_thread(_write, path, base64.b64decode(found["data"]))

    async def accessible(self) -> list[dict[str, Any]]:
        """What a screen reader gets, element by element: `role`, `name` and other properties."""
        found = await self.call("Accessibility.getFullAXTree")
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                **{each["name"]: each["value"].get("value") for each in node.get("properties", ())},
            }
            for node in found["nodes"]
            if not node.get("ignored")
        ]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def _take_readme_picture(program: str) -> None:
    from exporter.demo.fleet import demo_fleet
    from tests.support.world import HOUR, MONDAY
    from tests.web.site import site

    at = MONDAY + 9 * HOUR
    async with site(demo_fleet(at), at=at, names=("demo",)) as running:
        for poller in running.service._pollers.values():
            poller.status = replace(poller.status, next_poll_at=at + 280)
        running.clock.set(at + 20)
        with chromium(program) as devtools:
            async with Tab(devtools) as tab:
                await tab.look(1320, 980)
                await tab.open(running.url)
                await tab.picture(README_PICTURE)


if __name__ == "__main__":
    asyncio.run(_take_readme_picture(shutil.which("chromium") or "chromium"))
