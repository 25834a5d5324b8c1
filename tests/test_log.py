"""Tasks and threads that end by an exception are logged with its traceback."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from exporter import log


def _fail() -> None:
    raise RuntimeError("nobody waits for this")


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> pytest.CaptureFixture[str]:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    log.configure("info", "logfmt")
    return capsys


def test_the_end_of_a_thread(logged: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=_fail, name="a thread of ours")
    thread.start()
    thread.join()
    (line,) = logged.readouterr().err.splitlines()
    assert 'level=error event="thread ended" thread="a thread of ours"' in line
    assert "Traceback" in line
    assert "in _fail" in line


def test_the_end_of_a_task(logged: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        _fail()

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(main())
    (line,) = logged.readouterr().err.splitlines()
    assert "Task exception was never retrieved" in line
    assert "in _fail" in line
