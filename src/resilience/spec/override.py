"""Changes to a scenario from the command line (``--set load.session_rate_ops_per_s=50``) or from its field ``set``.

``seed=7`` · ``durability=async`` · ``durability=wait:1`` (replicas) · ``durability=wait:1:500`` (and time-out in ms) ·
``postgresql.durability=async`` · ``postgresql.durability=any:1``, ``first:2`` (standbys) ·
``postgresql.FIELD=…`` · ``postgresql.failover.FIELD=…`` (of its mode) · ``rabbitmq.FIELD=…`` ·
``load.FIELD=…`` · ``timeline.FIELD=…`` · ``redis.FIELD=…`` · ``stack.FIELD=…`` for the numbers of the stack file ·
``programs.COMPONENT=…`` · ``collaboration.FIELD=…`` · ``content.FIELD=…`` · ``personalization.FIELD=…``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from resilience.spec.content import Content
from resilience.spec.convert import did_you_mean, record_from, refuse
from resilience.spec.document import documents_from_text
from resilience.spec.load import Load
from resilience.spec.postgresql import AnyStandbys, Asynchronous, FirstStandbys, Manual, Patroni, Postgresql
from resilience.spec.postgresql import Durability as PostgresqlDurability
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.record import Record
from resilience.spec.scenario import Scenario, Timeline
from resilience.spec.stack import Async, Collaboration, Durability, Personalization, Programs, Redis, Wait

_STACK_NUMBERS = frozenset({"restart_delay_s", "session_ttl_s", "scrape_interval_s"})
_POSTGRESQL = frozenset(Postgresql.__struct_fields__) - {"primary", "replicas", "failover", "pgbouncer"}
_ROOMS: Mapping[str, frozenset[str]] = {
    "load": frozenset(Load.__struct_fields__),
    "timeline": frozenset(Timeline.__struct_fields__),
    "redis": frozenset(Redis.__struct_fields__),
    "rabbitmq": frozenset(Rabbitmq.__struct_fields__),
    "content": frozenset(Content.__struct_fields__),
    "personalization": frozenset(Personalization.__struct_fields__),
    "stack": _STACK_NUMBERS,
    "programs": frozenset(Programs.__struct_fields__),
    "collaboration": frozenset(Collaboration.__struct_fields__),
    "postgresql": _POSTGRESQL,
    "postgresql.failover": frozenset((*Manual.__struct_fields__, *Patroni.__struct_fields__)),
}
_IF_ABSENT: Mapping[str, Record] = {"collaboration": Collaboration()}  # what a stack that does not name it has
_KNOWN = frozenset({"seed", "durability"}) | {f"{room}.{name}" for room, names in _ROOMS.items() for name in names}


def overridden(scenario: Scenario, overrides: Iterable[str], file: str = "") -> Scenario:
    """The scenario with the changes made, in their order. Raises `SpecError`; coherence is not checked here.

    ``file`` is the one whose field ``set`` they come from, "" for the command line.
    """
    for override in overrides:
        scenario = _apply(scenario, override, f"{file}: set" if file else f"override {override[:80]!r}")
    return scenario


def _apply(scenario: Scenario, override: str, label: str) -> Scenario:  # noqa: PLR0911  one return for each room
    key, equals, text = override.partition("=")
    if not equals:
        raise refuse(label, "the override", "expected FIELD=VALUE")
    if key not in _KNOWN:
        raise refuse(label, key, "unknown field" + did_you_mean(key, _KNOWN))
    room, _, name = key.rpartition(".")
    if key == "durability":
        return _with_stack(scenario, durability=_durability(text, label))
    value = _value(text, label, key)
    match room:
        case "load":
            return msgspec.structs.replace(scenario, load=_changed(scenario.load, name, value, label, room))
        case "timeline":
            return msgspec.structs.replace(scenario, timeline=_changed(scenario.timeline, name, value, label, room))
        case "redis" | "rabbitmq" | "content" | "personalization" | "programs" | "collaboration":
            part = getattr(scenario.stack, room) or _IF_ABSENT.get(room)
            if part is None:
                raise refuse(
                    label, key, f"expected a field of what the stack {scenario.stack.name} has: it has no {room}"
                )
            changed = _changed(part, name, value, label, room)
            return _with_stack(scenario, **{room: changed})
        case "postgresql" | "postgresql.failover":
            return _with_stack(scenario, postgresql=_postgresql(scenario.stack.postgresql, key, value, label))
        case "stack":
            return msgspec.structs.replace(scenario, stack=_changed(scenario.stack, name, value, label, room))
        case _:
            return _changed(scenario, "seed", value, label, room)


def _with_stack(scenario: Scenario, **fields: Any) -> Scenario:
    return msgspec.structs.replace(scenario, stack=msgspec.structs.replace(scenario.stack, **fields))


def _changed[R: Record](record: R, name: str, value: Any, label: str, room: str) -> R:
    """The record with one field read from ``value`` as a file's field would be."""
    fields = msgspec.to_builtins(record) | {name: msgspec.to_builtins(value)}
    prefix = f".{room}" if room else ""
    return record_from(fields, type(record), label, prefix)


def _value(text: str, label: str, key: str) -> Any:
    documents = documents_from_text(text, label)
    if len(documents) != 1 or isinstance(documents[0], dict | list):
        raise refuse(label, key, "expected one value", text)
    return documents[0]


def _durability(text: str, label: str) -> Durability:
    mode, *numbers = text.split(":")
    if mode == "async" and not numbers:
        return Async()
    if mode == "wait" and 1 <= len(numbers) <= 2 and all(map(_short_number, numbers)):
        fields = dict(zip(("replicas", "timeout_ms"), map(int, numbers), strict=False))
        return record_from({"mode": "wait", **fields}, Wait, label, ".durability")
    raise refuse(label, "durability", "expected async, wait:REPLICAS or wait:REPLICAS:TIMEOUT_MS", text)


def _postgresql(tier: Postgresql | None, key: str, value: Any, label: str) -> Postgresql:
    """The tier with one field changed."""
    if tier is None:
        raise refuse(label, key, "expected a stack that has PostgreSQL")
    room, _, name = key.rpartition(".")
    if room == "postgresql.failover":
        return msgspec.structs.replace(tier, failover=_changed(tier.failover, name, value, label, room))
    if name == "durability":
        return msgspec.structs.replace(tier, durability=_postgresql_durability(str(value), label))
    return _changed(tier, name, value, label, room)


def _postgresql_durability(text: str, label: str) -> PostgresqlDurability:
    mode, colon, number = text.partition(":")
    if mode == "async" and not colon:
        return Asynchronous()
    kinds: Mapping[str, type[AnyStandbys | FirstStandbys]] = {"any": AnyStandbys, "first": FirstStandbys}
    if mode in kinds and _short_number(number):
        return record_from({"mode": mode, "standbys": int(number)}, kinds[mode], label, ".postgresql.durability")
    raise refuse(label, "postgresql.durability", "expected async, any:STANDBYS or first:STANDBYS", text)


def _short_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
