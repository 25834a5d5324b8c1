"""Regular expressions that could block the exporter are refused."""

from __future__ import annotations

import time

import pytest

from exporter.config.patterns import compile_pattern


@pytest.mark.parametrize(
    "text",
    [
        *("(a+)+b", "(a|a)*b", "(a|ab)*c", "(.*)*x", "(a*){2,}", ".*.*.*.*x", "(a)(?=b)", r"(a+)\1", "((ab)?c*)+"),
        *(
            "a?" * 30 + "a" * 30,
            "(a|aa)" * 30 + "b",
            "a{0,2}" * 20,
            ".*.*.*" + "a?" * 5,
            "(a|aa)?" * 20,
            "(?>" + "a?" * 30 + "a" * 30 + ")",
        ),
    ],
)
def test_refused(text: str) -> None:
    """What can explode is refused with a reason."""
    with pytest.raises(ValueError, match="could take minutes to match a name: "):
        compile_pattern(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web-.*", "web-1"),
        (r"db\d+", "db12"),
        ("(web|db)-(prod|stage)-.+", "db-prod-1"),
        ("(?i)WEB.*", "web"),
        ("web(-[0-9])*", "web-1-2"),
        ("a?b?c?d?.*", "bd"),
        ("[a-z]{1,8}-.*-x", "abc-y-x"),
        ("(web|db)?-?[0-9]+", "web-1"),
        ("web-.*|db-.*|cache-.*|queue-.*|mail-.*", "queue-1"),
        (f"({'|'.join(f'web{number}' for number in range(50))})-(eu|us)-.*-.*", "web7-eu-a-b"),
    ],
)
def test_usual_ones(text: str, name: str) -> None:
    """What people write for names is allowed."""
    assert compile_pattern(text).fullmatch(name)


@pytest.mark.parametrize(
    "text",
    [
        ".*.*.*x",
        "a*a*a*b",
        r"\w*\d*\S*!",
        "(aa)*(a)*a*b",
        "a?" * 23 + "a" * 99 + "b",
        "(a|aa)" * 15 + "a*b",
        "(a|aa|aaa)" * 12 + "b",
    ],
)
def test_the_worst_that_is_allowed(text: str) -> None:
    """For a name of 255 letters the worst that is allowed ends in seconds."""
    begun = time.perf_counter()
    assert not compile_pattern(text).fullmatch("a" * 255)
    assert time.perf_counter() - begun < 5
