"""Reads a file of JSON lines in batches, and says where it is broken.

*Torn* is a last line without its end of line that cannot be decoded: its writer died in the middle of it. Any other
line that cannot be decoded is *broken*.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

BATCH_BYTES = 2_000_000  # some 20,000 lines
# what decoding raises: no JSON or not of that kind, no UTF-8, nested too deep
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class Damage:
    """What was wrong with the files that were read so far."""

    torn: int = 0
    problems: list[str] = field(default_factory=list)  # file:line: what


def read_batches(path: Path, kind: Any, damage: Damage) -> Iterator[list[Any]]:
    """Lists of decoded lines, of some `BATCH_BYTES` each; adds to ``damage`` what could not be decoded.

    A file that does not exist has no lines. Raises `OSError`, also for a pipe or device in its place.
    """
    if not path.exists():
        return
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file() and not path.is_dir():  # a pipe would make the reader wait for ever
        raise OSError(errno.EINVAL, "expected a regular file", str(path))
    decoder = msgspec.json.Decoder(kind)
    first = 1
    with path.open("rb") as file:
        while batch := file.read(BATCH_BYTES) + file.readline():
            count = batch.count(b"\n") + (not batch.endswith(b"\n"))
            found = _all_at_once(batch, decoder)
            if len(found) != count:
                found = list(_one_by_one(batch, decoder, name, first, damage))
            yield found
            first += count


def _all_at_once(batch: bytes, decoder: msgspec.json.Decoder[Any]) -> list[Any]:
    """What the batch holds, which need not be one value a line; nothing if any of it is broken."""
    try:
        return decoder.decode_lines(batch)
    except BROKEN:
        return []


def _one_by_one(
    batch: bytes, decoder: msgspec.json.Decoder[Any], name: str, first: int, damage: Damage
) -> Iterator[Any]:
    for number, line in enumerate(BytesIO(batch), start=first):
        try:
            yield decoder.decode(line)
        except BROKEN as error:
            if line.endswith(b"\n"):
                damage.problems.append(f"{name}:{number}: {error}")
            else:
                damage.torn += 1
