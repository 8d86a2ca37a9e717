"""Forms the Redis Cluster as the stack file places it, waits until it is ready, and says who is what in it.

Forming is a loop of looking and doing what is still missing (`missing_commands` is pure), so it can be broken off and
called again at any point; a cluster that is formed is left as it is, whoever has become primary in it.

The placement is fixed (``redis-cli --cluster create`` chooses by itself): each shard's primary gets its slots and a
config epoch of its own before the members meet, then the replicas attach.
"""

from collections.abc import Mapping

from redis.crc import key_slot

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.spec.plan import ShardPlan
from resilience.spec.stack import PORTS, Stack
from resilience.stack.cluster_nodes import SLOTS, ClusterView, view_from_text
from resilience.stack.redis_link import Answers, Command, RedisLinks
from resilience.stack.redis_role import RedisRole, decide, formed_group, group_of_slot, shard_slots
from resilience.stack.redis_survey import survey, unready
from resilience.stack.wait import Pause, wait_until

POLL_S = 0.05
ASK_TIMEOUT_S = 1.0
ROLES_TIMEOUT_S = 0.5  # a member that is silent for this long counts as unreachable
REASONS_SHOWN = 3


def form(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Forms the cluster; returns when every member knows all others and its place. Returns the seconds it took.

    Raises `StackError` when ``deadline`` has passed, or at once if the members hold another cluster's slots.
    """
    with RedisLinks(platform, ASK_TIMEOUT_S) as links:
        return wait_until("forming the Redis Cluster", lambda: _advance(links), deadline=deadline, pause=pause)


def wait_ready(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Waits until every member says ``cluster_state:ok`` and every primary has its replicas online.

    Returns the seconds it took. Raises `StackError` that says which member is not ready and why.
    """
    with RedisLinks(platform, ASK_TIMEOUT_S) as links:

        def unmet() -> str:
            return shortened(unready(platform.stack, links.hosts, survey(links)))

        return wait_until("the Redis Cluster's readiness", unmet, deadline=deadline, every_s=POLL_S, pause=pause)


def live_roles(platform: Platform) -> tuple[RedisRole, ...]:
    """Asks the members themselves, now; one that does not answer is reported as unreachable."""
    with RedisLinks(platform, ROLES_TIMEOUT_S) as links:
        return decide(platform.stack, links.hosts, _views(links.ask_each(("CLUSTER", "NODES")))[0])


def group_of_key(stack: Stack, key: str) -> int:
    """The number of the shard that a Redis key belongs to, by its hash tag."""
    return group_of_slot(stack, key_slot(key.encode()))


def shard_layout(platform: Platform) -> tuple[ShardPlan, ...]:
    """The shards as they are now: addresses as ``ip:port``, and the slots that the primary really owns.

    Raises `StackError` if a shard has no primary that answers.
    """
    with RedisLinks(platform, ASK_TIMEOUT_S) as links:
        views, _ = _views(links.ask_each(("CLUSTER", "NODES")))
        roles = decide(platform.stack, links.hosts, views)
    return tuple(_shard_plan(group, roles, views) for group, _ in enumerate(platform.stack.shards, 1))


def _shard_plan(group: int, roles: tuple[RedisRole, ...], views: Mapping[str, ClusterView]) -> ShardPlan:
    mine = [role for role in roles if role.group == group]
    primary = next((role for role in mine if role.role == "primary"), None)
    if primary is None:
        raise StackError(f"shard {group} has no primary: {', '.join(f'{role.member} is {role.role}' for role in mine)}")
    return ShardPlan(
        group=group,
        primary=_endpoint(primary.address),
        replicas=tuple(_endpoint(role.address) for role in mine if role.role == "replica"),
        slots=views[primary.member].myself.slots,
    )


def _endpoint(host: str) -> str:
    return f"{host}:{PORTS['redis']}"


def shortened(reasons: list[str]) -> str:
    """The first few reasons on one line, and how many more there are."""
    more = len(reasons) - REASONS_SHOWN
    return "; ".join(reasons[:REASONS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _views(answers: Mapping[str, Answers]) -> tuple[dict[str, ClusterView], list[str]]:
    """The views that could be had, and why the others could not."""
    views: dict[str, ClusterView] = {}
    silent: list[str] = []
    for name, answer in answers.items():
        if isinstance(answer, StackError):
            silent.append(str(answer))
        else:
            views[name] = view_from_text(answer[0])
    return views, silent


def _advance(links: RedisLinks) -> str:
    """Does what can be done now; says what is still missing."""
    views, silent = _views(links.ask_each(("CLUSTER", "NODES")))
    if silent:
        return shortened(silent)
    missing = unformed(links.hosts, views)
    if not missing:
        return ""
    refuse_other_cluster(links.stack, views)
    done = links.ask(missing_commands(links.stack, links.hosts, views))
    refused = [str(answer) for answer in done.values() if isinstance(answer, StackError)]
    return shortened(refused + missing)


def unformed(hosts: Mapping[str, str], views: Mapping[str, ClusterView]) -> list[str]:
    """Why this is not a formed cluster, whoever is primary in it; empty if it is."""
    reasons: list[str] = []
    for name, view in views.items():
        unknown = [other for other, host in hosts.items() if other != name and view.at(host) is None]
        if unknown:
            reasons.append(f"{name} does not know {', '.join(unknown)}")
        if view.owned_slots != SLOTS:
            reasons.append(f"{name} knows the owners of {view.owned_slots} of {SLOTS} slots")
        if view.myself.is_primary and not view.myself.slots:
            reasons.append(f"{name} has neither slots nor a primary")
    return reasons


def refuse_other_cluster(stack: Stack, views: Mapping[str, ClusterView]) -> None:
    """Raises `StackError` if a member holds slots that the stack file does not give it: old data, never mended."""
    planned = {shard.primary: slots for shard, slots in zip(stack.shards, shard_slots(stack), strict=True)}
    for name, view in views.items():
        held = view.myself.slots
        if held and held != (planned.get(name),):
            raise StackError(
                f"{name} belongs to a cluster that was formed otherwise: it owns slots {held}, the stack file gives it "
                f"{planned.get(name, 'none')}; start the stack with empty data folders"
            )


def missing_commands(
    stack: Stack, hosts: Mapping[str, str], views: Mapping[str, ClusterView]
) -> dict[str, list[Command]]:
    """What each member has to be told next on the way to a formed cluster.

    Config epochs can be set only on a member that knows nobody, so meeting starts when all have theirs.
    """
    first = {name: _first_commands(stack, name, number, views[name]) for number, name in enumerate(hosts, 1)}
    if any(first.values()):
        return {name: commands for name, commands in first.items() if commands}
    ids = {name: view.myself.id for name, view in views.items()}
    later = {
        name: [*_meet_commands(name, hosts, views), *_replicate_commands(stack, name, ids, views[name])]
        for name in hosts
    }
    return {name: commands for name, commands in later.items() if commands}


def _first_commands(stack: Stack, member: str, epoch: int, view: ClusterView) -> list[Command]:
    commands: list[Command] = []
    group = formed_group(stack, member)
    if group and stack.shards[group - 1].primary == member and not view.myself.slots:
        commands.append(("CLUSTER", "ADDSLOTSRANGE", *shard_slots(stack)[group - 1]))
    if len(view.nodes) == 1 and view.myself.epoch == 0:
        commands.append(("CLUSTER", "SET-CONFIG-EPOCH", epoch))
    return commands


def _meet_commands(member: str, hosts: Mapping[str, str], views: Mapping[str, ClusterView]) -> list[Command]:
    view = views[member]
    meeting = {node.host for node in view.nodes if not node.met}
    names = list(hosts)
    # Both ends learn of each other by one MEET, so each pair needs only one.
    unknown = [other for other in names[names.index(member) + 1 :] if view.at(hosts[other]) is None]
    # What a primary owns comes with its next ping, up to half a node time-out later; a second MEET tells it at once.
    told = [other for other in names if view.myself.slots and _lacks_slots(views[other], hosts[member])]
    return [
        ("CLUSTER", "MEET", hosts[other], PORTS["redis"]) for other in unknown + told if hosts[other] not in meeting
    ]


def _lacks_slots(view: ClusterView, primary_host: str) -> bool:
    """Whether a member has met a primary and does not know yet that it owns anything."""
    primary = view.at(primary_host)
    return primary is not None and not primary.is_myself and not primary.slots


def _replicate_commands(stack: Stack, member: str, ids: Mapping[str, str], view: ClusterView) -> list[Command]:
    shard = next((shard for shard in stack.shards if member in shard.replicas), None)
    if shard is None or not view.myself.is_primary:
        return []
    primary = view.node(ids[shard.primary])
    return [("CLUSTER", "REPLICATE", primary.id)] if primary is not None and primary.met else []
