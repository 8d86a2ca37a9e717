"""Compares, once nobody writes any more, what each replica holds with what its primary holds, key by key.

Keys are asked of both by the commands of the audit, and answers are compared as they are; of a time to live a second
more or less is the same. What differs is asked again until it agrees or the time is over: a replica may still be
reading.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.stack.audit import TIMEOUT_S, Asked, Reading, asked_keys, batches
from resilience.stack.redis_cluster import live_roles
from resilience.stack.redis_link import RedisLink
from resilience.stack.redis_survey import fields_from_info
from resilience.stack.wait import wait_until

RETRY_S = 0.2
EXAMPLES_MAX = 50
TTL_SLACK_S = 1


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """``compared``: keys by replica. ``differing``: how many are not as on the primary, the first of them by name.

    ``evicted``: keys that a member threw away for want of memory since it was started. ``reasons``: why somebody could
    not be asked.
    """

    compared: dict[str, int]
    differing: int
    examples: tuple[dict[str, str], ...]
    evicted: dict[str, int]
    reasons: tuple[str, ...]


def compare_replicas(
    platform: Platform,
    *,
    sessions: Iterable[str],
    rooms: Iterable[str] | None,
    direct: Iterable[tuple[str, int]],
    deadline: float,
) -> Compared:
    """Compares all that was attempted; see `stack.audit.audit` for the arguments. Raises `StackError` without roles."""
    asked = asked_keys(platform.stack, sessions=sessions, rooms=rooms, direct=direct)
    roles, password = live_roles(platform), platform.secret("redis-password")
    links = {role.member: RedisLink(role.member, role.address, password, TIMEOUT_S) for role in roles}
    compared: dict[str, int] = {}
    differing: list[dict[str, str]] = []
    reasons: list[str] = []
    try:
        for role in (role for role in roles if role.role == "replica"):
            primary = next((one.member for one in roles if one.group == role.group and one.role == "primary"), "")
            if not primary:
                reasons.append(f"{role.member}: shard {role.group} has no primary to compare it with")
                continue
            try:
                keys = [(reading, [key for key in all_of if key.group == role.group]) for reading, all_of in asked]
                found = list(_differing(links[primary], links[role.member], keys, deadline))
                compared[role.member] = sum(len(part) for _, part in keys)
                differing += [{"member": role.member, "key": key} for key in found]
            except StackError as error:
                reasons.append(str(error))
        evicted = dict(_evicted(links.values(), reasons))
    finally:
        for link in links.values():
            link.close()
    return Compared(
        compared=compared,
        differing=len(differing),
        examples=tuple(differing[:EXAMPLES_MAX]),
        evicted=evicted,
        reasons=tuple(reasons),
    )


def _differing(
    primary: RedisLink, replica: RedisLink, asked: Sequence[tuple[Reading, Sequence[Asked]]], deadline: float
) -> Iterator[str]:
    for reading, keys in asked:
        for batch in batches(keys):
            left = list(batch)

            def differs(reading: Reading = reading, left: list[Asked] = left) -> str:
                left[:] = _unequal(primary, replica, reading, left)
                return f"{len(left)} keys differ" if left else ""

            try:
                wait_until(f"{replica.member} to hold what {primary.member} holds", differs, deadline=deadline,
                           every_s=RETRY_S)  # fmt: skip
            except StackError:
                if not left:
                    raise
            yield from (key.key for key in left)


def _unequal(primary: RedisLink, replica: RedisLink, reading: Reading, keys: Sequence[Asked]) -> list[Asked]:
    commands = [command for key in keys for command in reading.commands(key.key)]
    each = len(commands) // len(keys)
    ours = primary.ask(*commands)
    _, *theirs = replica.ask(("READONLY",), *commands)
    places = [slice(at * each, (at + 1) * each) for at in range(len(keys))]
    ttl_at = next((at for at, command in enumerate(commands[:each]) if command[0] == "TTL"), -1)
    return [key for key, at in zip(keys, places, strict=True) if not _same(ours[at], theirs[at], ttl_at)]


def _same(ours: list[Any], theirs: list[Any], ttl_at: int) -> bool:
    for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        close = at == ttl_at and min(one, other) >= 0 and abs(one - other) <= TTL_SLACK_S  # below 0: no time, no key
        if one != other and not close:
            return False
    return True


def _evicted(links: Iterable[RedisLink], reasons: list[str]) -> Iterator[tuple[str, int]]:
    for link in links:
        try:
            (text,) = link.ask(("INFO", "stats"))
            yield link.member, int(fields_from_info(text)["evicted_keys"])
        except (StackError, KeyError, ValueError) as error:
            reasons.append(f"{link.member}: evictions: {error}")
