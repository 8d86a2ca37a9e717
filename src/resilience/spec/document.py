"""A user's file as plain values: YAML without the parts of YAML that surprise people.

The file must be UTF-8, at most `BYTES_MAX` long (unless its reader allows more) and at most `DEPTH_MAX` deep; a key
stands once in its mapping; there are no anchors, aliases, merge keys or tags; numbers are finite, fit 64 bits and are
in no base that surprises; no text holds a character that controls a terminal or turns the direction of writing. The
events are looked at before anything is built, so that a small file cannot become a large value or a deep recursion.
"""

import math
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from resilience.errors import SpecError

BYTES_MAX = 256 * 1024
DEPTH_MAX = 40
_INT_MAX = 2**63 - 1
_CONTROL = re.compile(
    "[^\t\n\r\u0020-\u007e\u00a0-\uffff\U00010000-\U0010ffff]|[\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_OTHER_BASE = re.compile(r"[-+]?0[0-9_]|.*:")  # YAML 1.1's base 8 and base 60, which nobody means


class _Loader(yaml.CSafeLoader):
    """The safe loader; it refuses a key that stands twice, where plain YAML keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 -- the base's signature
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _problem("a key must be plain text", key)
            if key.value in keys:
                raise _problem(f"key {key.value[:60]!r} stands twice", key)
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        """A float, refused if it is no number that can be compared, or in base 60."""
        if ":" in node.value:
            raise _problem("a number must not contain a colon", node)
        value = float(self.construct_yaml_float(node))
        if not math.isfinite(value):
            raise _problem("a number must be finite", node)
        return value

    def construct_int64(self, node: yaml.ScalarNode) -> int:
        """An integer of at most 64 bits, refused in YAML 1.1's base 60 and its base 8 (010 is 8)."""
        if len(node.value) > 70 or _OTHER_BASE.match(node.value):  # 64 binary digits and their prefix are the longest
            raise _problem("a whole number is too long, contains a colon or begins with 0", node)
        value = int(self.construct_yaml_int(node))
        if abs(value) > _INT_MAX:
            raise _problem("a whole number must fit 64 bits", node)
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int64)


def _problem(text: str, node: Any) -> yaml.MarkedYAMLError:
    """``node`` is a node or an event: what has a place in the file."""
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)


def read_documents(path: Path, label: str, bytes_max: int = BYTES_MAX) -> tuple[Any, ...]:
    """All documents of a file. ``label`` is what messages call it. Raises `SpecError`."""
    return documents_from_text(_text(path, label, bytes_max), label)


def read_document(path: Path, label: str, bytes_max: int = BYTES_MAX) -> Any:
    """The one document of a file. Raises `SpecError`, also if there are several or none."""
    documents = read_documents(path, label, bytes_max)
    if len(documents) != 1:
        raise SpecError(f"{label}: the file: expected one YAML document (got {len(documents)})")
    return documents[0]


def documents_from_text(text: str, label: str) -> tuple[Any, ...]:
    """All documents of a text. Raises `SpecError`."""
    try:
        _refuse_tricks(text)
        return tuple(yaml.load_all(text, Loader=_Loader))  # the safe loader, made stricter
    except (yaml.YAMLError, ValueError) as error:  # ValueError: e.g. a date that does not exist
        raise SpecError(f"{label}: {_one_line(error)}") from error


def _text(path: Path, label: str, bytes_max: int) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would make the reader wait for ever
            raise SpecError(f"{label}: the file: expected a regular file")
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except FileNotFoundError as error:
        raise SpecError(f"{label}: the file: does not exist") from error
    except OSError as error:
        raise SpecError(f"{label}: the file: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in the name
        raise SpecError(f"{label}: the file: cannot be read ({error})") from error
    if len(data) > bytes_max:
        raise SpecError(f"{label}: the file: expected at most {bytes_max // 1024} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{label}: the file: expected UTF-8 (byte {error.start} is not)") from error


def _refuse_tricks(text: str) -> None:
    """Walks the events, which takes no recursion, and raises `yaml.MarkedYAMLError` at the first that is refused."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _problem("anchors and aliases are not allowed: write the value out", event)
        if getattr(event, "tag", None):
            raise _problem("tags are not allowed", event)
        if isinstance(event, yaml.ScalarEvent) and _CONTROL.search(event.value):
            raise _problem("control characters are not allowed", event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise _problem(f"nested deeper than {DEPTH_MAX} levels", event)


def _one_line(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) and error.problem else str(error)
    problem = " ".join(problem.split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else f"the file: {problem}"
