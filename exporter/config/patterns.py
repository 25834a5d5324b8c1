"""Regular expressions of droplets' names, and which of them could hold up the exporter.

Python's engine tries every way to match. A name that nearly fits an expression like `(a+)+b` takes minutes, and names
come from outside. So expressions are refused if their worst case is worse than a few seconds for a name of 255 letters.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

from exporter.config.yaml_document import quoted

parser: Any = importlib.import_module("re._parser")
constants: Any = importlib.import_module("re._constants")
"""The standard library's own, which have no public name."""

MOST_REPEATS = 3
"""Parts of varying length in one expression. Each one multiplies the tries by the length of the name."""
LONGEST_REPEAT = 1000

_REPEATS = (constants.MAX_REPEAT, constants.MIN_REPEAT)


def pattern(text: str) -> re.Pattern[str]:
    """The compiled expression. Raises `ValueError` if it is none, or could take too long."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem = _slow(parser.parse(text))
            if problem is None:
                return re.compile(text)
    except (re.error, OverflowError) as error:
        raise ValueError(f"{quoted(text)} is not a regular expression: {error}; correct it") from None
    except RecursionError:
        raise ValueError(f"{quoted(text)} is not a regular expression: nested too deeply; correct it") from None
    raise ValueError(f"{quoted(text)} could take minutes to match a name: {problem}")


def _slow(tree: Any) -> str | None:
    """Why an expression could take too long; `None` if it cannot."""
    varying = 0
    for operation, argument, within in _operations(tree, within=False):
        if operation in (constants.GROUPREF, constants.GROUPREF_EXISTS, constants.ASSERT, constants.ASSERT_NOT):
            return "it looks ahead or back at what was matched; write it without"
        if operation in _REPEATS and argument[0] != argument[1]:
            if within:
                return "a repeated part holds a repetition, as in (a+)+; write one repetition, or several entries"
            varying += argument[1] > 1
        elif operation is constants.BRANCH and within:
            return "a repeated part has alternatives, as in (a|ab)+; write several entries"
        elif operation in _REPEATS and argument[0] > LONGEST_REPEAT:
            return f"it repeats a part more than {LONGEST_REPEAT} times; write fewer"
    if varying > MOST_REPEATS:
        return f"it has {varying} parts of varying length; write {MOST_REPEATS} at most, or several entries"
    return None


def _operations(tree: Any, *, within: bool) -> Iterator[tuple[Any, Any, bool]]:
    """Every operation of the tree, its argument, and whether it stands in a part that is repeated."""
    for operation, argument in tree:
        yield operation, argument, within
        if operation is constants.BRANCH:
            for branch in argument[1]:
                yield from _operations(branch, within=within)
        elif operation is constants.SUBPATTERN:
            yield from _operations(argument[-1], within=within)
        elif operation in _REPEATS:
            yield from _operations(argument[2], within=within or argument[1] > 1)
        elif operation is getattr(constants, "ATOMIC_GROUP", None):
            yield from _operations(argument, within=within)
        elif operation is getattr(constants, "POSSESSIVE_REPEAT", None):
            yield from _operations(argument[2], within=True)
