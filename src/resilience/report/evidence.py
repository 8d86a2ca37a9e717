"""A finding's evidence as a table: whatever a check named, in words and with instants as people read them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from resilience.report.text import instant_text

_NAMES = {"age_s": "before the fault"}  # a negative one is after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns, and rows of texts of the same length; ``more`` rows are not shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0


def pieces(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One piece of evidence as pairs of name and value, in its order."""
    return [(_name(key), _value(key, value)) for key, value in evidence.items()]


def evidence_table(title: str, evidence: Iterable[Mapping[str, Any]], total: int = 0) -> Table:
    """Pieces of evidence as rows; a column for each name that any of them has."""
    found = [dict(pieces(piece)) for piece in evidence]
    columns = tuple(dict.fromkeys(name for piece in found for name in piece))
    rows = tuple(tuple(piece.get(name, "") for name in columns) for piece in found)
    return Table(title=title, columns=columns, rows=rows, more=max(0, total - len(rows)))


def _name(key: str) -> str:
    if key in _NAMES:
        return _NAMES[key]
    return key.removesuffix("_us").removesuffix("_s").removesuffix("_ms").replace("_", " ")


def _value(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_us") and isinstance(value, int):
        return instant_text(value)
    unit = next((f" {unit}" for unit in ("ms", "s") if key.endswith(f"_{unit}")), "")
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") + unit
    return plain_json(value) + unit


def plain_json(value: Any) -> str:
    """A value as a person reads it: texts as they are, everything else as JSON; nothing is an empty text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
