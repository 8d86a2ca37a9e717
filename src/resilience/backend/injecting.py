"""What the injectors of all backends share: members by their names, and agents' answers as records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from resilience.backend.base import MemberState
from resilience.errors import FaultError


def named(members: Iterable[str], states: Sequence[MemberState]) -> list[MemberState]:
    """The states of these members, in their order. Raises `FaultError` if one is not there."""
    known = {state.name: state for state in states}
    try:
        return [known[name] for name in members]
    except KeyError as error:
        raise FaultError(f"{error.args[0]}: the platform has no such member") from None


def converted[T](answer: Mapping[str, Any], kind: type[T]) -> T:
    """An agent's answer as a record. Raises `FaultError` if it is none."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise FaultError(f"agent: an answer that is none: {error}") from error
