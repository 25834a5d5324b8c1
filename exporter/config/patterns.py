"""Regular expressions for Droplets' names. Expressions that could block the exporter for long are refused.

Python's engine tries every way to match. A name that nearly fits an expression like `(a+)+b` takes minutes, and
whoever may create a Droplet chooses its name. An expression is refused if it could take more than a few seconds for a
name of 255 letters.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

from exporter.config.yaml_document import quoted

parser: Any = importlib.import_module("re._parser")
constants: Any = importlib.import_module("re._constants")
"""The parser of the standard library and its constants, which have no public name."""

LONGEST_NAME = 255
"""Characters, by the API. Twice as many are read, which takes eight times as long at most."""
MOST_WAYS = 10_000_000
"""The ways to divide a name among the parts of an expression, which the engine may all try: a few seconds."""
LONGEST_REPEAT = 1000
LONG = 50
"""A part that may repeat in so many different lengths counts as one of any length."""

_REPEATS = (constants.MAX_REPEAT, constants.MIN_REPEAT)


def compile_pattern(text: str) -> re.Pattern[str]:
    """The compiled expression. Raises `ValueError` if it is not valid or could take too long."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem = _why_slow(parser.parse(text))
            if problem is None:
                return re.compile(text)
    except (re.error, OverflowError) as error:
        raise ValueError(f"{quoted(text)} is not a regular expression: {error}; correct it") from None
    except RecursionError:
        raise ValueError(f"{quoted(text)} is not a regular expression: nested too deeply; correct it") from None
    raise ValueError(f"{quoted(text)} could take minutes to match a name: {problem}")


def _why_slow(tree: Any) -> str | None:
    """Why a parsed expression could take too long; `None` if it cannot."""
    for operation, argument, in_repeat in _operations(tree, in_repeat=False):
        if operation in (constants.GROUPREF, constants.GROUPREF_EXISTS, constants.ASSERT, constants.ASSERT_NOT):
            return "it looks ahead or back at what was matched; write it without"
        if operation in _REPEATS and argument[0] != argument[1]:
            if in_repeat:
                return "a repeated part holds a repetition, as in (a+)+; write one repetition, or several entries"
        elif operation is constants.BRANCH and in_repeat:
            return "a repeated part has alternatives, as in (a|ab)+; write several entries"
        elif operation in _REPEATS and argument[0] > LONGEST_REPEAT:
            return f"it repeats a part more than {LONGEST_REPEAT} times; write fewer"
    of_any_length, choices = _ways(tree)
    if math.comb(LONGEST_NAME + min(of_any_length, 9), min(of_any_length, 9)) * choices > MOST_WAYS:
        return f"there are over {MOST_WAYS:,} ways; write fewer parts like .*, a? and (a|b), or several entries"
    return None


def _ways(tree: Any) -> tuple[int, int]:
    """How many parts of any length an expression has one after the other, and in how many ways its others can match."""
    of_any_length, choices = 0, 1
    for operation, argument in tree:
        if operation is constants.BRANCH:
            branches = [_ways(branch) for branch in argument[1]]
            inner = max(one[0] for one in branches), sum(one[1] for one in branches)
        elif operation is constants.SUBPATTERN:
            inner = _ways(argument[-1])
        elif operation is constants.ATOMIC_GROUP:
            inner = _ways(argument)
        elif operation in _REPEATS:
            least, most, part = argument
            inner = _ways(part)
            lengths = min(int(most), LONGEST_NAME) - int(least) + 1
            inner = (inner[0] + 1, inner[1]) if lengths > LONG else (inner[0], inner[1] * max(lengths, 1))
        else:
            continue
        of_any_length += inner[0]
        choices *= inner[1]
    return of_any_length, choices


def _operations(tree: Any, *, in_repeat: bool) -> Iterator[tuple[Any, Any, bool]]:
    """Every operation of a parsed expression, its argument, and whether it is inside a repeated part."""
    for operation, argument in tree:
        yield operation, argument, in_repeat
        if operation is constants.BRANCH:
            for branch in argument[1]:
                yield from _operations(branch, in_repeat=in_repeat)
        elif operation is constants.SUBPATTERN:
            yield from _operations(argument[-1], in_repeat=in_repeat)
        elif operation in _REPEATS:
            yield from _operations(argument[2], in_repeat=in_repeat or argument[1] > 1)
        elif operation is constants.ATOMIC_GROUP:
            yield from _operations(argument, in_repeat=in_repeat)
        elif operation is constants.POSSESSIVE_REPEAT:
            yield from _operations(argument[2], in_repeat=True)
