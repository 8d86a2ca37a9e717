"""The backends by name: the one module that knows which there are.

A run's processes stand in the backend's own place (on ``local`` in the sandbox, on ``kind`` in the runner's pod), so
that they reach members by their addresses. Which backend a process works with follows from where it stands; only the
one that starts a run is told.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from resilience.backend import named
from resilience.backend.base import AttachedPlatform, Backend, Say
from resilience.backend.kubernetes import images, place
from resilience.backend.local.image import ImageStore, Recipe, servers_of
from resilience.backend.local.place import cache_dir, calling_user
from resilience.backend.local.platform import LocalBackend, LocalPlatform
from resilience.backend.local.sandbox import furnish, image_inside
from resilience.errors import HostError
from resilience.spec.fault import (
    CutReplication,
    Delete,
    Deny,
    Drain,
    FaultSpec,
    Freeze,
    Isolate,
    PowerOff,
    Reboot,
    RollingRestart,
    Scale,
)

DEFAULT, NAMED = "local", named.STACK
_NOWHERE = "a run needs a place of its own: call 'resilience run', not its inner part"


class Choice(NamedTuple):
    """One backend."""

    is_here: Callable[[], bool]  # whether this process stands in its place
    enter: Callable[[Path, int, Say], Backend]  # in such a process, once: ledger, base of the run's clock (ns), hearer
    attach: Callable[[Path], AttachedPlatform]  # to what another process of the run brought up, by `Backend.state`
    servers: Callable[
        [str], str
    ]  # which ones a stack has, down to their versions; of which cluster, where one is named
    cannot: tuple[type, ...] = ()  # faults that there is nobody to carry out


def _in_sandbox() -> bool:
    return image_inside() is not None


def _enter_local(ledger: Path, base_ns: int, say: Say) -> LocalBackend:
    image = image_inside()
    assert image is not None
    return LocalBackend(furnish(calling_user()), image, ledger, base_ns, say)


def _servers_local(_name: str) -> str:
    owner = calling_user()
    image = image_inside() or ImageStore(cache_dir(owner), owner).find(Recipe())
    if image is None:
        raise HostError("the stack image is not built: 'resilience image' builds it")
    return servers_of(image)


def _enter_place(_ledger: Path, _base_ns: int, say: Say) -> place.PlaceBackend:
    return place.PlaceBackend(say)


def _servers_kind(_name: str) -> str:
    return images.described(os.environ)


def _servers_named(name: str) -> str:
    return named.named_cluster(name).servers()


BACKENDS: Mapping[str, Choice] = {
    "local": Choice(
        is_here=_in_sandbox,
        enter=_enter_local,
        attach=LocalPlatform,
        servers=_servers_local,
        cannot=(Reboot, Drain, Delete, Scale, Deny, RollingRestart),
    ),
    "kind": Choice(
        is_here=place.is_here,
        enter=_enter_place,
        attach=place.attach,
        servers=_servers_kind,
        cannot=(CutReplication,),  # standbys stand on several nodes, and each injection is done on one
    ),
    NAMED: Choice(
        is_here=place.is_here,
        enter=_enter_place,
        attach=place.attach,
        servers=_servers_named,
        cannot=(CutReplication, PowerOff, Freeze, Isolate, Reboot),  # nothing is known of what is under its nodes
    ),
}


def is_in_place() -> bool:
    """Whether this process stands in some backend's place."""
    return any(choice.is_here() for choice in BACKENDS.values())


def enter(ledger: Path, base_ns: int, say: Say) -> Backend:
    """The backend in whose place this process stands; to be entered once. Raises `HostError` outside of all."""
    for choice in BACKENDS.values():
        if choice.is_here():
            return choice.enter(ledger, base_ns, say)
    raise HostError(_NOWHERE)


def servers(stack: str) -> str:
    """Which servers a stack has that is asked for by these words, e.g. ``image 54d7d07a750b, packages 1f0c…``.

    Raises `HostError` if that is not known yet, `SpecError` for a cluster that no file names, `KeyError`.
    """
    backend, _, name = stack.partition(":")
    return BACKENDS[backend].servers(name)


def servers_here() -> str:
    """The same in the place in which this process stands. Raises `HostError` outside of all."""
    for choice in BACKENDS.values():
        if choice.is_here():
            return choice.servers("")
    raise HostError(_NOWHERE)


def able(fault: FaultSpec) -> tuple[str, ...]:
    """The backends that can carry a fault out."""
    return tuple(name for name, choice in BACKENDS.items() if not isinstance(fault, choice.cannot))


def attach(name: str, state: Path) -> AttachedPlatform:
    """The platform that another process of the run brought up. Raises `StackError` without one, `KeyError`."""
    return BACKENDS[name].attach(state)
