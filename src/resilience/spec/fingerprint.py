"""The fingerprint of a control: all that a run without a fault has to share with another run to speak for it.

A seed is no part of it, nor how long the phases last: neither changes what the platform is able to do.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from resilience.spec.load import Load
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack

_DIGITS = 16
# tiers that a stack may do without, and what a load is asked for of them alone
_OPTIONAL = frozenset(
    {
        "personalization",
        "personalization_rate_ops_per_s",
        "collaboration",
        "postgresql",
        "postgresql_rate_ops_per_s",
        "postgresql_rate_ops_per_s_min",
        "postgresql_register_rate_ops_per_s",
        "postgresql_list_rate_ops_per_s",
        "postgresql_list_isolation",
        "content",
        "content_rate_ops_per_s",
        "content_rate_ops_per_s_min",
        "rabbitmq",
        "rabbitmq_rate_ops_per_s",
        "rabbitmq_rate_ops_per_s_min",
        "rabbitmq_poison_every",
    }
)
_BOOT = "boot_id"  # of the machine's facts, the one that has an ingredient of its own
_IN_WORDS: Mapping[str, str] = {
    "stack": "another stack",
    "load": "another load",
    "judged_by": "other objectives or checks",
    "harness": "another state of the harness",
    "servers": "another stack image",
    "machine": "another machine",
    "boot": "another boot of the machine",
}


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Each ingredient on its own, so that two that differ can say in what."""

    stack: str  # digest of the stack with every override made
    load: str  # likewise
    judged_by: str  # digest of the control's own objectives, checks and known weaknesses
    harness: str  # digest of the content that runs, committed or not (`about`)
    servers: str  # which servers they are, down to their packages' versions
    machine: str  # digest of kernel, processors, memory
    boot: str  # the kernel's boot id


def fingerprint(control: Scenario, *, harness: str, servers: str, host: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint of a control on a machine with these facts (`machine.machine_facts`)."""
    return Fingerprint(
        stack=digest_without_absent(control.stack),
        load=digest_without_absent(control.load),
        judged_by=digest((control.slos, control.checks, control.known_weaknesses, control.blast_radius)),
        harness=harness,
        servers=servers,
        machine=digest({name: value for name, value in host.items() if name != _BOOT}),
        boot=str(host.get(_BOOT, "")),
    )


def differing(one: Fingerprint, other: Fingerprint) -> tuple[str, ...]:
    """In what two fingerprints differ, in words; empty if they are the same."""
    return tuple(words for name, words in _IN_WORDS.items() if getattr(one, name) != getattr(other, name))


def digest_without_absent(record: Stack | Load) -> str:
    """What a stack or a load does without leaves no trace: it is the same as before there was such a thing."""
    fields = msgspec.structs.asdict(record)
    return _hex(msgspec.json.encode({name: value for name, value in fields.items() if not _absent(name, value)}))


def _absent(name: str, value: Any) -> bool:
    return value is UNSET or (name in _OPTIONAL and value is None)


def digest(value: Any) -> str:
    """Hex digits that change with any record or plain value, and not with the order of a mapping."""
    return _hex(msgspec.json.encode(value, order="deterministic"))


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
