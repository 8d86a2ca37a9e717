"""Patroni and its etcd, where PostgreSQL's failover is theirs: what they say of themselves. Nothing is changed here."""

from collections.abc import Iterator
from typing import Any

import msgspec

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.spec.postgresql import PATRONI_PORT, Asynchronous
from resilience.stack.http_link import http_ask

OK = 200
NAMED = 5  # what is told of a timeline that ended: its number, where, why, when, and who became primary with the next
_ENDED = list[list[int | str]]
_NAMED = frozenset({"sync_standby", "quorum_standby"})


class PatroniConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What all members' Patronis go by, as they have it from etcd; the fields are its own."""

    ttl: int
    loop_wait: int
    retry_timeout: int
    maximum_lag_on_failover: int
    synchronous_mode: bool | str = False
    synchronous_mode_strict: bool = False
    failsafe_mode: bool = False


def config(platform: Platform) -> dict[str, PatroniConfig]:
    """By what each member that answers goes; those that do not are left out."""
    return dict(_configs(platform))


def _configs(platform: Platform) -> Iterator[tuple[str, PatroniConfig]]:
    for state in platform.states():
        if state.component == "postgresql":
            try:
                yield state.name, msgspec.convert(_asked(state, "/config"), PatroniConfig)
            except (StackError, msgspec.ValidationError):
                continue


class Takeover(msgspec.Struct, frozen=True, kw_only=True):
    """That a member became the primary, by Patroni's own record in etcd."""

    timeline: int  # that began so
    member: str


def takeovers(platform: Platform) -> list[Takeover]:
    """Whom Patroni has made primary since the tier was formed, as the first member that answers tells it.

    Raises `StackError` if none does.
    """
    why = "no Patroni tells whom it made primary"
    for state in platform.states():
        if state.component == "postgresql":
            try:
                lines = msgspec.convert(http_ask(state, "/history", port=PATRONI_PORT).json(), _ENDED)
            except (StackError, msgspec.ValidationError) as error:
                why = f"{state.name}: {error}"
                continue
            return [Takeover(timeline=int(line[0]) + 1, member=str(line[-1])) for line in lines if len(line) == NAMED]
    raise StackError(why)


def unnamed(platform: Platform) -> list[str]:
    """Why Patroni may promote nobody: it has not named the standbys yet that commits wait for, which takes it loops.

    Empty if it has, or where it names none (``synchronous_mode: off``); of a quorum it names all that stream.
    """
    tier, patroni = platform.stack.postgresql, platform.stack.patroni
    if tier is None or patroni is None or isinstance(tier.durability, Asynchronous):
        return []
    if patroni.synchronous_mode == "off":
        return []
    wanted = tier.durability.standbys if patroni.synchronous_mode == "on" else len(tier.replicas)
    for state in platform.states():
        if state.component == "postgresql":
            try:
                members = _asked(state, "/cluster").get("members", [])
            except StackError:
                continue
            named = [member["name"] for member in members if member.get("role") in _NAMED]
            return [f"Patroni has named {len(named)} of {wanted} standbys"] if len(named) < wanted else []
    return ["no Patroni tells which standbys it has named"]


def version(state: MemberState) -> str:
    """The version of a member's Patroni. Raises `StackError`."""
    return str(_asked(state, "/patroni").get("patroni", {}).get("version", ""))


def _asked(state: MemberState, path: str) -> dict[str, Any]:
    answer = http_ask(state, path, port=PATRONI_PORT).json()
    if not isinstance(answer, dict):
        raise StackError(f"{state.name} answered {path} with no object")
    return answer


def without_majority(platform: Platform) -> list[str]:
    """Which etcd members do not have a majority behind them, by their own word; none in a stack without etcd."""
    return [reason for state in platform.states() if state.component == "etcd" and (reason := _unhealthy(state))]


def _unhealthy(state: MemberState) -> str:
    try:
        answer = http_ask(state, "/health")
    except StackError as error:
        return str(error)
    return "" if answer.status == OK else str(answer)
