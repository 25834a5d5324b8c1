"""Known vulnerabilities of what the image installs; `make audit`.

pip-audit says "no known vulnerabilities" of packages that it could not look up. Here these are counted and named.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

# What pip-audit's last line names where it had no connection.
UNREACHED = re.compile("Connection|Timeout|HTTPError|Proxy|SSL")
LOCK = Path(__file__).resolve().parent.parent / "deploy" / "requirements.lock"


def main() -> int:
    """Exit code 1 if the lock holds a vulnerable version, 2 if pip-audit failed.

    That no index could be reached is said, and is no failure.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said, code = verdict(done.stdout, done.stderr)
    print(said)
    return code


def verdict(output: str, errors: str) -> tuple[str, int]:
    """A text and an exit code for pip-audit's JSON and stderr."""
    try:
        packages = json.loads(output)["dependencies"]
    except ValueError:
        reason = (errors.strip().splitlines() or ["it said nothing"])[-1]
        if UNREACHED.search(reason):
            return f"audit: NOTHING WAS AUDITED, pip-audit reached no index: {reason}", 0
        return f"audit: pip-audit failed: {reason}", 2
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    lines = [f"audit: {len(packages) - len(skipped)} of {len(packages)} packages of {LOCK.name} were audited"]
    if len(skipped) == len(packages):
        lines = [f"audit: NOTHING WAS AUDITED, the index knows nothing of vulnerabilities ({len(packages)} packages)"]
    elif skipped:
        lines.append(f"not audited, as the index does not know them: {', '.join(skipped)}")
    lines += found or ([] if len(skipped) == len(packages) else ["no known vulnerability"])
    return "\n".join(lines), 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
