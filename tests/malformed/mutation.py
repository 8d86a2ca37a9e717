"""Spoilt copies of the shipped data files: every kind of damage, at a place that a seed chooses.

Each kind is either done to the values of a file (`VALUES`: a field dropped, a number made endless) or to its bytes
(`BYTES`: another encoding, an alias that explodes). The same file and kind give the same mutation in every run.
"""

import datetime as dt
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Place = tuple[str | int, ...]  # a document's number, then keys and indices

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
LONG = "x" * 300 * 1024
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join([f'*{before}'] * 9)}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One spoilt file. ``place`` is where its values were changed, with stars for indices; "" for one of its bytes."""

    file: str
    kind: str
    place: str
    content: bytes


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _filled_list(value: Any) -> bool:
    return _list(value) and bool(value)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _anything(value: Any) -> bool:
    return True


DROPPED = "dropped"  # a field is left out
# what is done, to which values, and what they become
VALUES: Mapping[str, tuple[Callable[[Any], bool], Callable[[Any], Any]]] = {
    "text-for-number": (_number, lambda _: "three"),
    "unit-in-number": (_number, lambda old: f"{old}s"),
    "negative": (_number, lambda _: -1),
    "zero": (_number, lambda _: 0),
    "huge-whole-number": (_number, lambda _: 10**15),
    "beyond-64-bits": (_number, lambda _: 10**30),
    "huge-number": (_number, lambda _: 1.0e300),
    "not-a-number": (_number, lambda _: float("nan")),
    "infinite": (_number, lambda _: float("-inf")),
    "number-for-text": (_text, lambda _: 3),
    "empty-text": (_text, lambda _: ""),
    "line-end-in-text": (_text, lambda old: old + "\n"),
    "escape-in-text": (_text, lambda old: old + ESCAPE),
    "path-out-of-project": (_text, lambda _: "../../../../etc/passwd"),
    "long-text": (_text, lambda _: LONG),
    "nothing": (_scalar, lambda _: None),
    "truth": (_scalar, lambda old: not old if isinstance(old, bool) else True),
    "date": (_scalar, lambda _: dt.date(2026, 2, 3)),
    "list-for-scalar": (_scalar, lambda old: [old]),
    "mapping-for-scalar": (_scalar, lambda old: {"value": old}),
    "empty-list": (_list, lambda _: []),
    "item-twice": (_filled_list, lambda old: [*old, old[0]]),
    "many-items": (_list, lambda old: [old[0]] * 3_000 if old else ["x"] * 3_000),
    "mapping-for-list": (_list, lambda old: {str(index): item for index, item in enumerate(old)}),
    "list-for-mapping": (_mapping, lambda old: [old]),
    "unknown-field": (_mapping, lambda old: {**old, "colour\x1b[31m": "red"}),
    "deep": (_anything, lambda _: deep(100)),
}
BYTES: Mapping[str, Callable[[bytes], bytes]] = {
    "byte-order-mark": lambda text: b"\xef\xbb\xbf" + text,
    "utf-16": lambda text: text.decode().encode("utf-16"),
    "utf-32": lambda text: text.decode().encode("utf-32"),
    "no-utf-8": lambda text: text + b"# \xff\xfe\xc0\x80\n",
    "surrogate": lambda text: text + b"# \xed\xa0\x80\n",
    "nul": lambda text: text + b"# \x00\n",
    "control-character": lambda text: text + b"# \x1b]0;owned\x07\n",
    "carriage-returns": lambda text: text.replace(b"\n", b"\r\n"),
    "old-line-ends": lambda text: text.replace(b"\n", b"\r"),
    "tabs": lambda text: text + b"\n\tx: y\n",
    "empty": lambda _: b"",
    "comment-only": lambda _: b"# nothing\n",
    "cut-off": lambda text: text[: len(text) * 2 // 3].rstrip() + b"\n  - {",
    "two-documents": lambda text: text + b"\n---\n" + text,
    "huge": lambda text: text + b"#" * 300 * 1024,
    "first-key-twice": lambda text: text + b"\n" + _first_line(text),
    "laughs": lambda text: LAUGHS.encode() + text,
    "anchor": lambda text: text + b"\nx-anchor: &here [1]\n",
    "merge-key": lambda text: text + b"\n<<: {title: merged}\n",
    "python-tag": lambda text: text + b"\nx-tag: !!python/object/apply:os.system ['touch owned']\n",
    "binary-tag": lambda text: text + b"\nx-tag: !!binary aGVsbG8=\n",
    "directive": lambda text: b"%YAML 9.9\n---\n" + text,
    "deep-flow": lambda text: text + b"\nx-deep: " + b"[" * 50_000,
    "deep-mapping": lambda text: text + b"\nx-deep: " + b"{a: " * 20_000,
    "list-of-all": lambda text: b"- " + text.replace(b"\n", b"\n  "),
    "binary": lambda _: bytes(range(256)) * 16,
}


def _first_line(text: bytes) -> bytes:
    lines = [line for line in text.split(b"\n") if line and not line.startswith((b"#", b" ", b"-"))]
    return lines[0] + b"\n"


def kinds() -> tuple[str, ...]:
    """The names of all kinds of damage."""
    return (*VALUES, DROPPED, *BYTES)


def mutation(file: str, content: bytes, kind: str, seed: int) -> Mutation | None:
    """One spoilt copy of a file; None where this file has nothing that this kind could be done to."""
    if kind in BYTES:
        return Mutation(file=file, kind=kind, place="", content=BYTES[kind](content))
    documents = list(yaml.load_all(content, Loader=yaml.CSafeLoader))
    fits, change = VALUES.get(kind, (_anything, None))
    fitting = [place for place in _places(documents) if fits(_at(documents, place))]
    if change is None:
        fitting = [place for place in fitting if isinstance(place[-1], str)]
    if not fitting:
        return None
    place = random.Random(f"{file} {kind} {seed}").choice(fitting)
    holder = _at(documents, place[:-1])
    if change is None:
        del holder[place[-1]]
    else:
        holder[place[-1]] = change(holder[place[-1]])
    return Mutation(file=file, kind=kind, place=_pattern(place), content=_dumped(documents))


def _places(value: Any, here: Place = ()) -> Iterator[Place]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if len(here) > 0:
            yield (*here, key)
        yield from _places(item, (*here, key))


def _at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def _dumped(documents: list[Any]) -> bytes:
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, allow_unicode=False).encode()


class _Plain(yaml.CSafeDumper):
    """Writes what stands twice twice: no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _pattern(place: Place) -> str:
    return ".".join("*" if isinstance(key, int) else key for key in place[1:])
