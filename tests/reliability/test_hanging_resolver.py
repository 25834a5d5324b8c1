"""A name server that does not answer costs polls, and neither scrapes nor the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROGRAM = """
import socket, sys, time
real = socket.getaddrinfo
def hang(host, *args, **kwargs):
    if host and "example" in str(host):
        time.sleep(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return real(host, *args, **kwargs)
socket.getaddrinfo = hang
from exporter.cli.main import main
sys.exit(main())
"""


def test_with_a_resolver_that_hangs_scrapes_are_quick_and_sigterm_ends_it(tmp_path: Path, free_port: int) -> None:
    """Eight accounts look names up in every poll; every scrape, plain or gzip, is answered within a second."""
    config = tmp_path / "config.yaml"
    accounts = "".join(
        f"  - {{name: a{n}, token_env: TOKEN_{n}, api_url: 'https://api{n}.example'}}\n" for n in range(8)
    )
    config.write_text(f"accounts:\n{accounts}poll: {{interval: 2s, timeout: 20s}}\nstate_file: null\n")
    environment = {**os.environ, **{f"TOKEN_{n}": f"token-of-account-{n}" for n in range(8)}}
    flags = ["--config.file", str(config), "--web.listen-address", f"127.0.0.1:{free_port}"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *flags], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert any("listening" in line for line in process.stderr)
        longest = 0.0
        for number in range(40):
            headers = {"Accept-Encoding": "gzip"} if number % 2 else {}
            request = urllib.request.Request(f"http://127.0.0.1:{free_port}/metrics", headers=headers)
            begun = time.perf_counter()
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.read()
            longest = max(longest, time.perf_counter() - begun)
            time.sleep(0.1)
        assert longest < 1.0
        begun = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.perf_counter() - begun < 5.0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
