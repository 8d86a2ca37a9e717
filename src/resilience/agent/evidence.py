"""What a probe looked at, as it goes over the wire."""

from typing import TypedDict


class Evidence(TypedDict):
    """One thing that was looked at: what, what it should be, what it was, and whether that is so."""

    what: str
    expected: str
    observed: str
    ok: bool


def evidence(what: str, expected: str, observed: str, *, ok: bool | None = None) -> Evidence:
    """Evidence; without ``ok`` it holds if exactly the expected was observed."""
    return Evidence(what=what, expected=expected, observed=observed, ok=observed == expected if ok is None else ok)
