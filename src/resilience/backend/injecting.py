"""What the injectors of all backends share: members by their names, and agents' answers as records."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from resilience.backend.base import Evidence, MemberState, Proof, Undone
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


def undone(answer: Mapping[str, Any], proof: Proof) -> Undone:
    """An agent's answer to an undo, with what was seen. One that an older harness has ended says only when it was."""
    healed_ns = answer["healed_ns"]
    return Undone(began_ns=answer.get("began_ns", healed_ns), healed_ns=healed_ns, by=answer["by"], proof=proof)


def never_begun(injection_id: str) -> Undone:
    """What became of an injection that no agent was handed: there is nothing to be undone."""
    what, now_ns = f"injection {injection_id}, which was never handed to an agent", time.monotonic_ns()
    ended = Evidence(what=what, expected="ended", observed="ended", ok=True)
    return Undone(began_ns=now_ns, healed_ns=now_ns, by="request", proof=Proof(evidence=(ended,)), known=False)
