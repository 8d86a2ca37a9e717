"""One look at every Redis member, for readiness and convergence: its view, its cluster's state, its replication.

``cluster_state:ok`` comes before the replicas are attached (seen with Redis 7.0 and 8.0), so both are asked.
"""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from resilience.errors import StackError
from resilience.spec.stack import Stack
from resilience.stack.cluster_nodes import SLOTS, ClusterView, view_from_text
from resilience.stack.redis_link import Answers, RedisLinks
from resilience.stack.redis_role import decide


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A replica as its primary sees it."""

    host: str
    online: bool  # it has the data and receives the stream
    offset: int  # of the stream, as it acknowledged last (once a second)


class Replication(msgspec.Struct, frozen=True, kw_only=True):
    """A member's ``INFO replication``."""

    offset: int  # of the stream that it has written (primary)
    link_up: bool  # to its primary; True for a primary
    attached: tuple[Attached, ...]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What one member answered."""

    view: ClusterView
    state: str  # ok or fail
    replication: Replication


Surveys = Mapping[str, Survey | StackError]  # by member; an error says why there is no answer


def survey(links: RedisLinks) -> Surveys:
    """Asks all members at the same time."""
    answers = links.ask_each(("CLUSTER", "NODES"), ("CLUSTER", "INFO"), ("INFO", "replication"))
    return {name: _survey(name, answer) for name, answer in answers.items()}


def _survey(member: str, answers: Answers) -> Survey | StackError:
    if isinstance(answers, StackError):
        return answers
    nodes, info, replication = answers
    try:
        return Survey(
            view=view_from_text(nodes),
            state=fields_from_info(info).get("cluster_state", ""),
            replication=replication_from_info(replication),
        )
    except StackError as error:
        return StackError(f"{member}: {error}")


def fields_from_info(text: str) -> dict[str, str]:
    """Reads the ``name:value`` lines of ``INFO`` and ``CLUSTER INFO``."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def replication_from_info(text: str) -> Replication:
    """Reads the answer to ``INFO replication``. Raises `StackError` if it cannot be read."""
    fields = fields_from_info(text)
    try:
        return Replication(
            offset=int(fields["master_repl_offset"]),
            link_up=fields.get("master_link_status", "up") == "up",
            attached=tuple(
                _attached(value) for name, value in fields.items() if name.startswith("slave") and "state=" in value
            ),
        )
    except (KeyError, ValueError) as error:
        raise StackError(f"INFO replication cannot be read: {text!r}") from error


def _attached(text: str) -> Attached:
    parts = dict(part.split("=", 1) for part in text.split(","))
    return Attached(host=parts["ip"], online=parts["state"] == "online", offset=int(parts["offset"]))


def unready(stack: Stack, hosts: Mapping[str, str], surveys: Surveys) -> list[str]:
    """Why the cluster cannot serve all that it is there for; empty if it can.

    Ready: every member answers and says that the cluster is ok, and every shard's primary has all replicas online.
    """
    silent = [str(answer) for answer in surveys.values() if isinstance(answer, StackError)]
    if silent:
        return silent
    answered = {name: answer for name, answer in surveys.items() if isinstance(answer, Survey)}
    reasons = [f"{name}: cluster_state:{one.state}" for name, one in answered.items() if one.state != "ok"]
    return reasons + _each_shard(stack, hosts, answered, _missing_replicas)


def diverged(
    stack: Stack, hosts: Mapping[str, str], surveys: Surveys, written: Mapping[str, int] | None = None
) -> list[str]:
    """Why the cluster has not converged; empty if it has.

    Converged: ready, every view names the same owner for every slot and takes nobody for failing, no slot is being
    moved, and every replica has acknowledged what its primary has written: up to ``written`` (`written_before`), or up
    to now, which holds only while nobody writes.
    """
    reasons = unready(stack, hosts, surveys)
    if reasons:
        return reasons
    answered = {name: answer for name, answer in surveys.items() if isinstance(answer, Survey)}
    for name, one in answered.items():
        reasons += _doubts(name, one, len(hosts))
    lagging = partial(_lagging_replicas, written or {})
    return reasons + _disagreements(answered) + _each_shard(stack, hosts, answered, lagging)


def written_before(marks: Mapping[str, int], surveys: Surveys) -> dict[str, int]:
    """How much each member had written when it was first seen; ``marks`` are the former looks' answer.

    Caught up with that means caught up with all that came before the first look, whoever goes on writing. A member
    that was started anew counts from its new, lower offset.
    """
    offsets = {name: one.replication.offset for name, one in surveys.items() if isinstance(one, Survey)}
    return {**marks, **{name: min(marks.get(name, offset), offset) for name, offset in offsets.items()}}


def _each_shard(
    stack: Stack,
    hosts: Mapping[str, str],
    surveys: Mapping[str, Survey],
    reasons_of: Callable[[str, Survey, list[str]], list[str]],
) -> list[str]:
    roles = decide(stack, hosts, {name: one.view for name, one in surveys.items()})
    reasons: list[str] = []
    for group, shard in enumerate(stack.shards, 1):
        primary = next((role.member for role in roles if role.group == group and role.role == "primary"), None)
        replicas = [role.address for role in roles if role.group == group and role.role == "replica"]
        if primary is None:
            reasons.append(f"shard {group} has no primary")
        elif len(replicas) < len(shard.replicas):
            reasons.append(f"shard {group} has {len(replicas)} of {len(shard.replicas)} replicas")
        else:
            reasons += reasons_of(primary, surveys[primary], replicas)
    return reasons


def _missing_replicas(primary: str, of: Survey, replicas: list[str]) -> list[str]:
    online = {replica.host for replica in of.replication.attached if replica.online}
    missing = [host for host in replicas if host not in online]
    return [f"{primary}: {len(online)} of {len(replicas)} replicas online, not {', '.join(missing)}"] if missing else []


def _lagging_replicas(written: Mapping[str, int], primary: str, of: Survey, replicas: list[str]) -> list[str]:
    goal = written.get(primary, of.replication.offset)
    return [
        f"{primary}: replica {replica.host} has acknowledged {replica.offset} of {goal} bytes"
        for replica in of.replication.attached
        if replica.host in replicas and replica.offset < goal
    ]


def _doubts(member: str, of: Survey, members: int) -> list[str]:
    met = [node for node in of.view.nodes if node.met]
    reasons = [f"{member} takes {node.host} for {node.flag}" for node in met if node.flag != "ok"]
    reasons += [f"{member}: slots are being moved at {node.host}: {node.moving}" for node in met if node.moving]
    if len(met) != members or len(of.view.nodes) != members:
        reasons.append(f"{member} knows {len(met)} of {members} members")
    if of.view.owned_slots != SLOTS:
        reasons.append(f"{member} knows the owners of {of.view.owned_slots} of {SLOTS} slots")
    if not of.replication.link_up:
        reasons.append(f"{member} has no link to its primary")
    return reasons


def _disagreements(surveys: Mapping[str, Survey]) -> list[str]:
    ownership = {name: slot_owners(one.view) for name, one in surveys.items()}
    first, expected = next(iter(ownership.items()), ("", {}))
    return [
        f"{name} and {first} disagree about who owns which slots" for name, of in ownership.items() if of != expected
    ]


def slot_owners(view: ClusterView) -> dict[tuple[int, int], str]:
    """The ranges of slots and who owns them, by node id, as one view has it."""
    return {slots: node.id for node in view.nodes for slots in node.slots}
