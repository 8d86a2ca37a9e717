"""A bare selector of a counter, ``name{label="value",…}``: the only PromQL that an SLO may hold.

The harness counts events from raw samples, so a function would only stand between it and the truth: ``rate`` and
``increase`` extrapolate, and ``or vector(0)`` makes missing data look like no errors.
"""

import re
import warnings
from typing import Literal

from resilience.spec.record import Record

_SHOWN_MAX = 60
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"([^"\\\n]*)"\s*')
_TRICKS = (
    (re.compile(r"\bvector\s*\("), "vector(): it makes missing data look like a value"),
    (re.compile(r"\b(rate|irate|increase)\s*\("), "rate(), irate() or increase(): they extrapolate"),
    (re.compile(r"\["), "a range: the harness chooses it"),
    (re.compile(r"\b(offset)\b|@"), "an instant: the harness chooses it"),
    (re.compile(r"\w\s*\("), "a function"),
)


class Matcher(Record, frozen=True, kw_only=True):
    """One condition on a label."""

    label: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str


class Selector(Record, frozen=True, kw_only=True):
    """A metric's name and the conditions on its labels."""

    metric: str
    matchers: tuple[Matcher, ...]

    def equals(self, label: str) -> str | None:
        """The value that a label must have, or None if the selector does not say."""
        return next((item.value for item in self.matchers if item.label == label and item.op == "="), None)

    def without(self, label: str) -> frozenset[Matcher]:
        """The conditions on all other labels."""
        return frozenset(item for item in self.matchers if item.label != label)


def selector_from_text(text: str) -> Selector:
    """Parses a bare selector. Raises `ValueError` that says what is not allowed."""
    bare = re.sub(r'"[^"]*"', '""', text)
    for trick, why in _TRICKS:
        if trick.search(bare):
            raise ValueError(f'only a bare selector name{{label="value"}} is allowed, not {why}')
    text = text.strip()
    name = _NAME.match(text)
    if name is None:
        raise ValueError('a selector must begin with a metric\'s name, as in name{label="value"}')
    rest = text[name.end() :].strip()
    matchers = _matchers(rest) if rest else ()
    return Selector(metric=name[0], matchers=matchers)


def _matchers(braces: str) -> tuple[Matcher, ...]:
    if not (braces.startswith("{") and braces.endswith("}")):
        raise ValueError('only a bare selector name{label="value"} is allowed, not an expression')
    inner, position, found = braces[1:-1], 0, []
    while inner[position:].strip():
        match = _MATCHER.match(inner, position)
        if match is None:
            raise ValueError(f'{inner[position:].strip()[:_SHOWN_MAX]!r} is no condition of the form label="value"')
        found.append(_matcher(match))
        position = match.end()
        if position < len(inner):
            if inner[position] != ",":
                raise ValueError(f"expected a comma before {inner[position:].strip()[:_SHOWN_MAX]!r}")
            position += 1
    return tuple(found)


def _matcher(match: re.Match[str]) -> Matcher:
    label, op, value = match.groups()
    if op not in {"=", "!=", "=~", "!~"}:  # the pattern's own alternatives
        raise AssertionError(op)
    if op in {"=~", "!~"}:
        _check_regex(value)
    return Matcher(label=label, op=op, value=value)  # type: ignore[arg-type]  # checked above


def _check_regex(text: str) -> None:
    """Raises `ValueError` for what is no regular expression, and for what this reader cannot or may not read as one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python may take for something else tomorrow
            re.compile(text)
    except (re.error, OverflowError, RecursionError, FutureWarning, DeprecationWarning) as error:
        raise ValueError(f"{text[:_SHOWN_MAX]!r} is no regular expression ({error})") from error
