"""What the agent can be told to watch, as plain JSON; the words are those of `resilience.agent.probe`."""

from collections.abc import Sequence
from typing import Any

from resilience.backend.base import MemberState
from resilience.fault.base import Watch
from resilience.spec.rabbitmq import DISTRIBUTION_PORT
from resilience.spec.stack import PORTS

# components that listen whenever they run
SERVING = ("redis", "postgresql", "rabbitmq", "etcd", "session", "collaboration", "personalization", "content", "edge")
_STARTUP = "\0\0\0\x10\0\3\0\0user\0x\0\0"  # version 3.0, of a user x: the server asks him for his password
_SAY = {"redis": "PING\r\n", "postgresql": _STARTUP, "rabbitmq": "AMQP\0\0\x09\1"}
# where packets are seen to pass: a RabbitMQ member in a minority closes the port of its clients, and keeps this one
_DOORS = {**PORTS, "rabbitmq": DISTRIBUTION_PORT}
_SAY_HTTP = "GET /healthz HTTP/1.1\r\nHost: {name}\r\n\r\n"


def place(state: MemberState) -> dict[str, Any]:
    """A member as the agent finds it."""
    return {"name": state.name, "address": state.address, **state.handle}


def _listening(state: MemberState) -> dict[str, Any]:
    """The same, with the port that it serves."""
    return {**place(state), "port": PORTS[state.component]}


def _say(to: MemberState) -> str:
    """A request that the member answers, however it answers it."""
    return _SAY.get(to.component, _SAY_HTTP.format(name=to.name))


def silent(via: MemberState, to: MemberState) -> Watch:
    """Neither an open nor a new connection from a witness has any sign of life."""
    return {"probe": "silent", "via": place(via), "to": place(to), "port": PORTS[to.component], "say": _say(to)}


def unreachable(via: MemberState, to: MemberState) -> Watch:
    """A new connection times out."""
    return {"probe": "unreachable", "via": place(via), "to": place(to), "port": _DOORS[to.component]}


def reachable(via: MemberState, to: MemberState) -> Watch:
    """A new connection is accepted."""
    return {"probe": "reachable", "via": place(via), "to": place(to), "port": _DOORS[to.component]}


def refused(via: MemberState, to: MemberState) -> Watch:
    """A new connection is refused: nobody listens."""
    return {"probe": "refused", "via": place(via), "to": place(to), "port": _DOORS[to.component]}


def datagram(via: MemberState, to: MemberState, *, arrives: bool) -> Watch:
    """A datagram arrives, or does not: one direction for itself."""
    return {"probe": "datagram", "via": place(via), "to": place(to), "arrives": arrives}


def dead(state: MemberState) -> Watch:
    """The server that runs now is gone, and nothing runs in its place."""
    return {"probe": "identity", "of": place(state), "expect": "dead"}


def replaced(state: MemberState) -> Watch:
    """The server that runs now is gone, whoever runs by then."""
    return {"probe": "identity", "of": place(state), "expect": "replaced"}


def succeeded(state: MemberState) -> Watch:
    """The server that runs now is gone, and another runs in its place."""
    return {"probe": "identity", "of": place(state), "expect": "succeeded"}


def emptied(state: MemberState) -> Watch:
    """No file of the member's data that is there now is there any more."""
    return {"probe": "emptied", "of": place(state)}


def stopped(state: MemberState) -> Watch:
    """The server that runs now is still there, and all of the member's processes are stopped."""
    return {"probe": "stopped", "of": place(state)}


def mute(via: MemberState, to: MemberState) -> Watch:
    """A request on a new connection is not answered."""
    return {"probe": "mute", "via": place(via), "to": place(to), "port": PORTS[to.component], "say": _say(to)}


def drained(states: Sequence[MemberState]) -> Watch:
    """No server of these runs on their node any more, which takes none; those that may start elsewhere have."""
    return {"probe": "drained", "pods": [place(state) for state in states]}


def deleted(states: Sequence[MemberState], grace_s: float) -> Watch:
    """Each of these is gone, or another is in its place; none of them can be connected to any more."""
    return {"probe": "deleted", "pods": [_listening(state) for state in states], "grace_s": grace_s}


def scaled(states: Sequence[MemberState], replicas: int) -> Watch:
    """So many of these run on, the others are gone, and whoever keeps them running wants it so."""
    return {"probe": "scaled", "replicas": replicas, "pods": [place(state) for state in states]}


def denied(states: Sequence[MemberState], others: Sequence[MemberState]) -> Watch:
    """None of these can open a connection to any of the others, while a witness reaches both."""
    return {"probe": "denied", "pods": [*map(_listening, states)], "others": [*map(_listening, others)]}


def rolled_out(states: Sequence[MemberState]) -> Watch:
    """Each of these has a successor, started one after the other."""
    return {"probe": "rolled-out", "pods": [place(state) for state in states]}


def counter(inside: MemberState | None = None) -> Watch:
    """The injection's drop counter rises: in a member's network, or on the bridge."""
    return {"probe": "counter"} if inside is None else {"probe": "counter", "in": place(inside)}
