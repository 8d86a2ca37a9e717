"""Plain values to records, with errors that a person can act on: file, field, what is expected, what there was."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec.inspect import (
    CollectionType,
    Field,
    LiteralType,
    Metadata,
    StructType,
    Type,
    UnionType,
    type_info,
)

from resilience.errors import SpecError

_MESSAGE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected (?P<expected>.*?)(?:, got .*)?$", re.DOTALL)
_SEGMENT = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_WORDS = {"object": "a mapping", "array": "a list", "str": "text", "int": "a whole number", "float": "a number"}
_SHOWN_MAX = 60
_NAME_SHOWN_MAX = 160
_LISTED_MAX = 20


def record_from[T](value: Any, record: type[T], label: str, prefix: str = "") -> T:
    """``value`` as a ``record``. ``label`` names the file, ``prefix`` the field that holds it. Raises `SpecError`."""
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        found = _MESSAGE.match(str(error))
        assert found is not None  # every part of the pattern is optional
        path = found["path"] or ""
        at, info = _walk(path, value, type_info(record))
        raise _readable(found["what"], (prefix + path).lstrip("."), at, info, label) from error


def refuse(label: str, field: str, expected: str, got: Any = msgspec.UNSET) -> SpecError:
    """The error for a field: ``label: field: expected …``; the caller raises it."""
    shown = "" if got is msgspec.UNSET else f" (got {show(got)})"
    return SpecError(f"{label}: {show_name(field) or 'the file'}: {expected}{shown}")


def show(value: Any) -> str:
    """A value for a message: one line, not too long."""
    text = {True: "true", False: "false", None: "nothing"}.get(value) if isinstance(value, bool | None) else repr(value)
    assert text is not None
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def show_name(name: str) -> str:
    """A name from a file or a command for a message: one line, not too long, without quotes."""
    text = name if name.isprintable() else repr(name)[1:-1]
    return text if len(text) <= _NAME_SHOWN_MAX else text[: _NAME_SHOWN_MAX - 1] + "…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` if one of the known names is close, else all of them if that is a short list."""
    known = sorted(known)
    close = get_close_matches(name[:_NAME_SHOWN_MAX], known, n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    return f", expected one of {', '.join(map(show_name, known))}" if 0 < len(known) <= _LISTED_MAX else ""


def _readable(what: str, field: str, at: Any, info: Type, label: str) -> SpecError:
    if unknown := _UNKNOWN.match(what):
        name = unknown["field"]
        return refuse(label, _join(field, name), "unknown field" + did_you_mean(name, _fields(info)))
    if missing := _MISSING.match(what):
        return refuse(label, _join(field, missing["field"]), f"is missing{_choices(missing['field'], info)}")
    if expected := _EXPECTED.match(what):
        return refuse(label, field, f"expected {_words(expected['expected'])}", at)
    return refuse(label, field, f"expected {_expectation(info, what)}", at)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _words(expected: str) -> str:
    """Python's and JSON's names of types as people say them."""
    text = re.sub(r"`(\w+(?: \| \w+)*)`", lambda found: " or ".join(map(_word, found[1].split(" | "))), expected)
    return text.replace("matching regex", "matching")


def _word(name: str) -> str:
    return {"null": "nothing", "bool": "true or false"}.get(name) or _WORDS.get(name, name)


def _walk(path: str, value: Any, info: Type) -> tuple[Any, Type]:
    """The value and the type that a path leads to; the path is msgspec's, so it exists as far as it goes."""
    for name, index in _SEGMENT.findall(path):
        if index == "...":  # msgspec does not say which key of a mapping it was; ours map to text
            return next((item for item in value.values() if not isinstance(item, str)), value), info
        info = _struct(info, value)
        if name:
            value, info = _enter(name, value, info)
        else:
            value, info = value[int(index)], info.item_type if isinstance(info, CollectionType) else info
    return value, _struct(info, value)


def _enter(name: str, value: Any, info: Type) -> tuple[Any, Type]:
    field = _field(name, info)
    inner = value.get(name) if isinstance(value, dict) else None
    return inner, field.type if field else _tags(info)


def _field(name: str, info: Type) -> Field | None:
    fields = info.fields if isinstance(info, StructType) else ()
    return next((field for field in fields if field.encode_name == name), None)


def _struct(info: Type, value: Any) -> Type:
    """Of a union of records, the one that the value's tag names; everything else as it is."""
    info = _bare(info)
    if not isinstance(info, UnionType):
        return info
    for kind in info.types:
        if isinstance(kind, StructType) and isinstance(value, dict) and value.get(kind.tag_field or "") == kind.tag:
            return kind
    untagged = [kind for kind in info.types if isinstance(kind, StructType) and kind.tag_field is None]
    return untagged[0] if untagged else info


def _bare(info: Type) -> Type:
    return _bare(info.type) if isinstance(info, Metadata) else info


def _tags(info: Type) -> Type:
    """The values that a union's tag may have, as a type."""
    kinds = info.types if isinstance(info, UnionType) else ()
    return LiteralType(tuple(str(kind.tag) for kind in kinds if isinstance(kind, StructType) and kind.tag is not None))


def _fields(info: Type) -> tuple[str, ...]:
    return tuple(field.encode_name for field in info.fields) if isinstance(info, StructType) else ()


def _choices(name: str, info: Type) -> str:
    """``, expected …`` for a field that is missing, where its type says something."""
    field = _field(name, info)
    kind = _literal(field.type if field else _tags(info))
    return f", expected {_one_of(kind)}" if kind and (field or kind.values) else ""


def _literal(info: Type) -> LiteralType | None:
    info = _bare(info)
    kinds = info.types if isinstance(info, UnionType) else (info,)
    return next((kind for kind in kinds if isinstance(kind, LiteralType)), None)


def _one_of(kind: LiteralType) -> str:
    return "one of " + ", ".join(map(str, sorted(kind.values, key=str)))


def _expectation(info: Type, what: str) -> str:
    kind = _literal(info)
    return _one_of(kind) if kind else f"a value that fits ({what})"
