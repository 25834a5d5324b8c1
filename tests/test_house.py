"""What the documents for contributors say of the project is true, and the version is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from exporter import __version__
from tests.audit import verdict

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ROOT / "exporter" / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
SECURITY = ROOT / ".github" / "SECURITY.md"
CHART = ROOT / "deploy" / "helm" / "digitalocean-backup-exporter"
PYTHONS = ["3.11", "3.12", "3.13"]


def versions(file: Path, pattern: str) -> list[str]:
    """What the pattern's group finds in a file, which must hold it at least once."""
    found = re.findall(pattern, file.read_text(), re.MULTILINE)
    assert found, f"{file.relative_to(ROOT)} names no version as {pattern}"
    return found


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        (CHART / "Chart.yaml", r"^version: (\S+)$"),
        (CHART / "Chart.yaml", r'^appVersion: "(\S+)"$'),
        (CHART / "README.md", r"digitalocean-backup-exporter:(\d\S*)"),
        (ROOT / "deploy" / "compose.yaml", r"image: digitalocean-backup-exporter:(\S+)"),
        (ROOT / "deploy" / "Dockerfile", r"^ARG VERSION=(\S+)$"),
        (ROOT / "deploy" / "Dockerfile", r"--tag digitalocean-backup-exporter:(\S+)"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_the_version_is_that_of_the_code(file: Path, pattern: str) -> None:
    """`exporter/__init__.py` holds the version; the chart, the image and Compose follow."""
    assert set(versions(file, pattern)) == {__version__}


def test_the_same_pythons_are_promised_and_tested() -> None:
    """The classifiers, the workflow and the image agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classified = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert project["requires-python"] == f">={PYTHONS[0]}"
    assert classified == workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == PYTHONS
    (image,) = set(versions(ROOT / "deploy" / "Dockerfile", r"^FROM python:(3\.\d+)"))
    assert image in PYTHONS


def test_the_house_names_every_module() -> None:
    """exporter/README.md names each module once in its layout, and none that is not there."""
    layout = re.search(r"^```text\nexporter/\n(.*?)^```$", HOUSE.read_text(), re.MULTILINE | re.DOTALL)
    assert layout is not None
    folder, named = "", []
    for line in layout[1].splitlines():
        indent, words = len(line) - len(line.lstrip()), line.split()
        if words[0].endswith("/"):
            folder = words[0]
        else:
            named.append((folder if indent > 2 else "") + words[0])
    there = {str(path.relative_to(ROOT / "exporter")) for path in (ROOT / "exporter").rglob("*.py")}
    assert sorted(named) == sorted(path for path in there if not path.endswith("__init__.py"))


@pytest.mark.parametrize("document", [HOUSE, CONTRIBUTING, SECURITY], ids=lambda path: path.name)
def test_what_is_named_is_there(document: Path) -> None:
    """A path in backquotes and the target of a link lead to a file or folder."""
    text = document.read_text()
    places = re.findall(r"`((?:exporter|tests|deploy|\.github|\.ci)/[\w./*-]*)`", text)
    places += re.findall(r"`(\w[\w.-]*\.(?:toml|md|example\.yaml))`", text)
    for place in places:
        assert list(ROOT.glob(place)) or (document.parent / place).exists(), place
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (document.parent / link).exists(), link
    assert places or "](" in text


def test_each_step_of_a_journey_names_its_module() -> None:
    """In the three journeys every step names at least one module that is there."""
    journeys = re.findall(
        r"^## A (?:poll|scrape|reload)\n(.*?)(?=^## |\Z)", HOUSE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(journeys) == 3
    for journey in journeys:
        steps = re.split(r"^\d+\. ", journey, flags=re.MULTILINE)[1:]
        assert len(steps) >= 3
        for step in steps:
            modules = re.findall(r"`([\w/]+\.py)`", step)
            assert modules, step
            for module in modules:
                assert (ROOT / "exporter" / module).exists(), module


def test_what_the_table_sends_a_reader_to_is_there() -> None:
    """In "Where to look", each name is defined in its module, and every file exists."""
    (table,) = re.findall(r"^## Where to look\n(.*?)(?=^## )", HOUSE.read_text(), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (?!to change|---)[^|]+ \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        files = re.findall(r"`([\w/]+\.(?:py|html))`", row)
        assert files, row
        assert all((ROOT / "exporter" / file).exists() for file in files), row
        for name, file in re.findall(r"`(\w+)` in `([\w/]+\.py)`", row):
            defined = rf"^ *(?:(?:async )?(?:def|class) {name}\b|{name} = )"
            assert re.search(defined, (ROOT / "exporter" / file).read_text(), re.MULTILINE), f"{name} in {file}"


def test_every_make_target_is_described() -> None:
    """CONTRIBUTING describes the targets of the Makefile, and no other."""
    (phony,) = versions(ROOT / "Makefile", r"^\.PHONY: (.*)$")
    described = re.findall(r"^\| `make ([a-z]+)` \|", CONTRIBUTING.read_text(), re.MULTILINE)
    assert sorted(described) == sorted(phony.split())


def test_each_name_in_a_checklist_is_in_its_file() -> None:
    """The names of the code that the checklists send a contributor to are where they say."""
    names = re.findall(
        r"`(\w+)`(?: and `(\w+)`)? (?:of|in) `((?:exporter|tests)/[\w/.]+\.py)`", CONTRIBUTING.read_text()
    )
    assert names
    for *wanted, file in names:
        for name in filter(None, wanted):
            assert re.search(rf"^(?:def )?{name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{name} in {file}"


@pytest.mark.parametrize(
    ("output", "errors", "said", "code"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "", "1 of 1 packages", 0),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}',
            "",
            "a 1: CVE-1, mended in 2",
            1,
        ),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}]}',
            "",
            "not audited, as the index does not know them: b",
            0,
        ),
        ('{"dependencies": [{"name": "b", "skip_reason": "not found"}]}', "", "NOTHING WAS AUDITED", 0),
        ("", "requests.exceptions.ConnectionError: no route", "NOTHING WAS AUDITED", 0),
        ("", "KeyError: 'x'", "pip-audit failed: KeyError", 2),
    ],
    ids=["clean", "vulnerable", "partly", "unknown", "unreachable", "failed"],
)
def test_an_audit_says_what_it_could_not_look_at(output: str, errors: str, said: str, code: int) -> None:
    """A vulnerability fails the audit; what was not looked at is never called free of them."""
    text, exit_code = verdict(output, errors)
    assert said in text
    assert exit_code == code
    assert "no known vulnerability" not in text or "1 of" in text
