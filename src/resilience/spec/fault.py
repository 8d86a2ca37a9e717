"""Faults and their targets as an experiment names them, and the injection that one application of them becomes."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from resilience.spec.rabbitmq import QueueName
from resilience.spec.record import Record


class Target(Record, frozen=True, kw_only=True):
    """A logical selector, resolved at the moment of injection; never a pod or an address.

    ``shard`` counts from 1 in the order of the stack file and means the shard by its slots, whoever owns them now.
    ``queue`` means whoever leads or follows it at that moment, by the members' own word.
    ``standby`` narrows PostgreSQL's replicas to one sort, by what primary and standbys say at that moment: ``most-lag``
    and ``least-lag`` (of several that lag alike the last and the first in the stack file, so that the two never mean
    the same one), ``sync`` (commits may wait for it) and ``async`` (they do not).
    ``scope: node`` means the node (and so every member on it) that holds the selected member, ``scope: component`` all
    members of the component.
    """

    component: Literal[
        "redis", "postgresql", "rabbitmq", "etcd", "session", "collaboration", "personalization", "content", "edge"
    ]
    role: Literal["primary", "replica", "leader", "follower", "any"] = "any"
    shard: Annotated[int, Meta(ge=1)] | None = None
    queue: QueueName | None = None
    standby: Literal["most-lag", "least-lag", "sync", "async"] | None = None
    scope: Literal["member", "node", "component"] = "member"


class Noop(Record, frozen=True, kw_only=True, tag_field="kind", tag="noop"):
    """Does nothing: the fault of a control, and the proof that a fault without effect is never a pass."""


class Kill(Record, frozen=True, kw_only=True, tag_field="kind", tag="kill"):
    """A member's processes are ended. ``restart``: the platform's restart policy may bring it back at once;
    otherwise it is held back until healing. ``signal``: ``TERM`` lets the server end itself, as an orderly stop does.
    """

    restart: bool
    signal: Literal["KILL", "TERM"] = "KILL"


class Pause(Record, frozen=True, kw_only=True, tag_field="kind", tag="pause"):
    """SIGSTOP to a member's processes: connections stay open, nothing is answered. Healing lets them go on."""


class FastRestart(Record, frozen=True, kw_only=True, tag_field="kind", tag="fast-restart"):
    """SIGKILL, and a new server ``delay_s`` later, before anybody has noticed: what a quick pod restart does.

    ``data``: ``gone`` empties the member's data folder in between, but for the file by which a Redis member knows who
    it is in its cluster.
    """

    delay_s: Annotated[float, Meta(ge=0.1, le=60)] = 0.2
    data: Literal["kept", "gone"] = "kept"


class PowerOff(Record, frozen=True, kw_only=True, tag_field="kind", tag="power-off"):
    """A node goes silent: all its links in one step, then its processes. Healing switches it on again."""


class Freeze(Record, frozen=True, kw_only=True, tag_field="kind", tag="freeze"):
    """Everything on a node stands still: connections stay open, nothing is answered. Healing lets it go on."""


class Isolate(Record, frozen=True, kw_only=True, tag_field="kind", tag="isolate"):
    """A node loses its network, all links in one step; what runs on it goes on. Healing connects it again."""


class Reboot(Record, frozen=True, kw_only=True, tag_field="kind", tag="reboot"):
    """A node loses its power and is switched on again at once; only its servers' return is waited for."""


class Drain(Record, frozen=True, kw_only=True, tag_field="kind", tag="drain"):
    """A node is cordoned and its members are evicted, as far as their disruption budgets let them go; those that no
    volume binds to it start elsewhere. Healing lets the node take members again.
    """


class Delete(Record, frozen=True, kw_only=True, tag_field="kind", tag="delete"):
    """A member's pod is deleted, with all that it is but its name and its volumes: whoever keeps the members running
    makes another. ``grace_s``: how long it is given to end by itself; 0: it is gone at once, whatever still runs.
    Healing is that the other is ready.
    """

    grace_s: Annotated[int, Meta(ge=0, le=25)] = 0


class Scale(Record, frozen=True, kw_only=True, tag_field="kind", tag="scale"):
    """A component is told to run ``replicas`` members only; those with the highest numbers go. Healing has it run as
    many as before.
    """

    replicas: Annotated[int, Meta(ge=0)] = 0


class Deny(Record, frozen=True, kw_only=True, tag_field="kind", tag="deny"):
    """The members of a component may open no connection to those of another one, ``to``, as a NetworkPolicy says that
    was written wrong. What is open by then may stay open. Healing takes that policy away.
    """

    to: Literal["redis", "session", "collaboration"]


class RollingRestart(Record, frozen=True, kw_only=True, tag_field="kind", tag="rolling-restart"):
    """All members of a component are replaced one after the other, each once its predecessor's successor is ready, as
    their controller does it. There is nothing to be undone: healing is that it is complete.
    """


class Partition(Record, frozen=True, kw_only=True, tag_field="kind", tag="partition"):
    """Packets between the target and others are dropped.

    ``cut_from``: ``peers`` (members of its own component), ``clients`` (every member that is not of its own component),
    ``all``. ``direction``: ``both``, ``in`` (nothing reaches the target), ``out`` (nothing leaves it).
    """

    cut_from: Literal["peers", "clients", "all"]
    direction: Literal["both", "in", "out"] = "both"


class CutReplication(Record, frozen=True, kw_only=True, tag_field="kind", tag="cut-replication"):
    """Nothing passes any more between PostgreSQL's primary and the standbys that the target means, both ways; clients
    reach all of them. Healing lets it pass again.
    """


NodeFault = PowerOff | Freeze | Isolate | Reboot  # what is done to a whole node
Cut = Partition | CutReplication  # packets are dropped
FaultSpec = Noop | Kill | Pause | FastRestart | NodeFault | Drain | Delete | Scale | Deny | RollingRestart | Cut


def outlasts_primary(fault: FaultSpec) -> bool:
    """Whether a primary that suffers it has to be replaced.

    Not one that may be back first, nor for what only clients notice; nor for a drain, which leaves a primary where it
    is if a disruption budget says so.
    """
    match fault:
        case PowerOff() | Freeze() | Isolate() | Pause() | Kill(restart=False):
            return True
        case Partition(cut_from=cut_from):
            return cut_from in {"peers", "all"}
        case _:
            return False


def takes_away(fault: FaultSpec) -> bool:
    """Whether a member that suffers it serves no client until it is healed."""
    return fault.cut_from in {"clients", "all"} if isinstance(fault, Partition) else outlasts_primary(fault)


def parts_from_etcd(fault: FaultSpec, *, failsafe: bool = False) -> bool:
    """Whether Patroni has to replace a primary that suffers it: one that is cut from its standbys alone keeps its key
    in etcd, and one that is cut from all but its standbys loses it; in ``failsafe`` mode it stays primary all the same.
    """
    if failsafe and isinstance(fault, Partition) and fault.cut_from == "clients":
        return False
    return takes_away(fault)


class Prelude(Record, frozen=True, kw_only=True):
    """What is done to somebody else shortly before a fault, for ``for_s`` at least, and until it was seen in effect.

    ``ends``: as soon as the fault has been ``injected``, or when that is ``healed``. Only what ends at once when it is
    undone can be one.
    """

    fault: Pause | CutReplication
    target: Target
    for_s: Annotated[float, Meta(ge=0.1, le=5)]
    ends: Literal["injected", "healed"] = "injected"


class PreludeInjection(Record, frozen=True, kw_only=True):
    """A prelude as an injection carries it: resolved, with the agent's steps and probes."""

    prelude: Prelude
    members: tuple[str, ...]
    for_s: float
    steps: tuple[dict[str, Any], ...]
    watch: tuple[dict[str, Any], ...]


class Injection(Record, frozen=True, kw_only=True):
    """One application of a fault: serialisable, so that any process can prove and heal it.

    ``steps`` are the agent's primitives, in the order in which they are applied (healing undoes them in reverse);
    ``watch`` says what the agent's probes must see while the fault is in effect. Both are plain JSON, see
    `resilience.agent`. ``ttl_s`` runs from the moment the agent applied it.
    """

    id: str
    fault: FaultSpec
    target: Target
    members: tuple[str, ...]  # every member that suffers, also from the prelude; resolved at injection time
    nodes: tuple[str, ...]  # nodes that fail whole
    ttl_s: float
    steps: tuple[dict[str, Any], ...]
    watch: tuple[dict[str, Any], ...]
    prelude: PreludeInjection | None = None
