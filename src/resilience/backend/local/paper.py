"""A local stack on paper: its members as their file places them, or as they were seen; nothing can be done to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from resilience.backend.base import At, MemberState, at_once
from resilience.backend.local.injector import Injector
from resilience.backend.local.platform import LocalPlatform, addresses_of
from resilience.errors import FaultError, StackError
from resilience.spec.stack import Stack


class PaperPlatform(LocalPlatform):
    """Answers which steps a fault would take; the handles in them are members' names."""

    def __init__(self, stack: Stack, states: Sequence[MemberState] = ()) -> None:
        """``states``: the members as they were seen somewhere; without them all run where the stack file puts them."""
        Injector.__init__(self, Path(), Path(), 0, self.states)  # there is no state folder to open
        self.stack = stack
        self._seen = {state.name: _on_paper(state) for state in states or _placed(stack)}

    def state(self, name: str) -> MemberState:
        """See `Platform`."""
        if name not in self._seen:
            raise StackError(f"{name}: the stack has no such member")
        return self._seen[name]

    def apply(self, _injection: Mapping[str, Any], _at_ns: At = at_once) -> NoReturn:
        """Raises `FaultError`: a plan is not carried out."""
        raise FaultError("a stack on paper: nothing can be done to it")

    def probe(self, _injection_id: str) -> NoReturn:
        """Raises `FaultError`."""
        self.apply({})

    def undo(self, _injection_id: str, _at_ns: int = 0) -> NoReturn:
        """Raises `FaultError`."""
        self.apply({})


def _placed(stack: Stack) -> list[MemberState]:
    addresses = addresses_of(stack)
    return [
        MemberState(
            name=member.name,
            component=member.component,
            node=member.node,
            address=addresses[member.name],
            running=True,
            identity="",
            restarts=0,
        )
        for member in stack.members
    ]


def _on_paper(state: MemberState) -> MemberState:
    named = {"veth": state.name, "hold_dir": state.name, "data_dir": state.name, "data_keep": []}
    none = {"init_pid": 0, "init_start": 0, "server_pid": 0, "server_start": 0}
    return msgspec.structs.replace(state, handle=named | none)
