"""The commands about a stack in a cluster: ``image``, ``up``, ``status`` and ``down`` with ``--stack kind``, or with
``--stack kubernetes:NAME`` in one that the user's file names.

What people ask for a cluster by is ``where``.
"""

import getpass
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.table import Table

from resilience.backend.base import MemberState
from resilience.backend.kind import Kind, config_file
from resilience.backend.kubernetes import images
from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.cluster import AGENTS, Cluster, namespaces_up, platform_of, pods
from resilience.backend.kubernetes.lease import ClusterLock, locked, require_unused
from resilience.backend.kubernetes.manifests import COMPONENT, NAMESPACES, PLATFORM_NODES
from resilience.backend.kubernetes.needs import images_of
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.readiness import reasons, refusals, unready
from resilience.backend.kubernetes.split import WITNESS
from resilience.backend.kubernetes.tiers import NOTHING_MORE, Extent, tiers_of
from resilience.backend.local.image import ImageStore
from resilience.backend.local.place import cache_dir, calling_user
from resilience.backend.machine.docker import KIND
from resilience.backend.named import (
    images_on,
    lacks_nodes,
    named_cluster,
    names,
    reached,
    require_ours,
    roles_of,
)
from resilience.backend.preflight import There, require_images, require_quota, require_room, stack_objects
from resilience.errors import FaultError, HarnessError, HostError, SpecError, StackError
from resilience.host import Answer
from resilience.interrupt import Alarm, Interrupted, interruptible
from resilience.report.progress import Steps
from resilience.report.standing import doors_text, led, postgresql_part
from resilience.report.terminal import can_move, console_for, plain
from resilience.report.text import visible
from resilience.spec.rabbitmq import VHOST
from resilience.spec.scenario import Scenario
from resilience.spec.stack import GENERATORS, Stack
from resilience.stack import postgresql_role
from resilience.stack.cluster_nodes import ClusterView, view_from_text
from resilience.stack.rabbitmq_view import QueueRole, QueueView, queues_from_answer, roles_by
from resilience.stack.redis_role import RedisRole, decide
from resilience.stack.service import SERVICES
from resilience.stack.wait import wait_until

READY_WITHIN_S = 300.0
_LOOK_EVERY_S = 1.0
_MEMBERS_OF = "the pods' readiness"
_SHOWN = 4
# RabbitMQ's own tool: its management plugin answers to a password that is known inside of the cluster only
_QUEUES = (
    "rabbitmqctl", "--quiet", "list_queues", "-p", VHOST, "--formatter", "json",
    "name", "state", "leader", "members", "online",
)  # fmt: skip
_PSQL_S = 10.0
# what is asked comes as its input; by the shell, which knows where this version's is
_ASK = "psql --host=/tmp --username=postgres --dbname=harmonyflow --no-psqlrc --no-align --tuples-only --quiet"
PSQL = ("sh", "-c", f"PGPASSFILE=/config/pgpass exec /usr/lib/postgresql/*/bin/{_ASK}")


def build(cluster: Cluster, tiers: Sequence[str] = ()) -> dict[str, str]:
    """The images that take the place of official ones in a cluster, built now, with progress, if they are not there.

    ``tiers``: those of these tiers, too.
    """
    wanted = images.wanted()
    cluster.require_filling()
    owner = calling_user()
    cache = cache_dir(owner)
    with _steps().step("images") as step:
        return cluster.provided(images.ensure(wanted, tiers, ImageStore(cache, owner), cache, step.say))


def preflight(cluster: Cluster, extent: Extent = NOTHING_MORE) -> None:
    """Raises `HostError` where no stack could come up: tools, room, quotas, images; makes nothing.

    Raises `SpecError` and `StackError` for a cluster that is not to be used.
    """
    cluster.require_filling()
    if isinstance(cluster, Kind):
        _preflight_kind(cluster, extent)
        return
    wanted, api = images.wanted(), cluster.open()
    objects = stack_objects(extent, cluster.overlay)
    require_ours(api, objects)
    nodes = api.items("/api/v1/nodes")
    if lacking := list(lacks_nodes(nodes)):
        raise HostError(f"the cluster {cluster.name} has not the nodes that the stack stands on: {'; '.join(lacking)}")
    require_quota(objects, api, _staying(api), Counter(roles_of(nodes)))
    require_images(images_of(objects), wanted, set[str]().union(*map(images_on, nodes)))


def _preflight_kind(cluster: Kind, extent: Extent) -> None:
    wanted, there = images.wanted(), cluster.exists()
    api = cluster.open() if there else None
    objects = stack_objects(extent)
    require_room(objects, There(cluster=cluster, stack=_stack_stands(api)) if api else There(), extent)
    if api:
        require_quota(objects, api, _staying(api))
    require_images(images_of(objects), wanted, _held(cluster) if there else set())


def _stack_stands(api: Api) -> bool:
    """Whether one takes its part of what is needed already; what is being ended, or not ours, is told later."""
    try:
        return bool(set(namespaces_up(api)) - {AGENTS})
    except StackError:
        return False


def _staying(api: Api) -> set[str]:
    """The namespaces that are there and are not made anew with a stack; what is not ours is told later."""
    try:
        return {AGENTS} & set(namespaces_up(api))
    except StackError:
        return set()


def _held(cluster: Kind) -> set[str]:
    """The images that some node has: so there is a registry that has them."""
    try:
        return set[str]().union(*cluster.images_by_node().values())
    except StackError:  # a node is away: that is told where it matters
        return set()


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold on the cluster: why it was lost, if it was, and what ends then whatever is done under it."""

    lost: Sequence[str]
    alarm: Alarm


@contextmanager
def held(cluster: Cluster, api: Api, doing: str, *, break_lock: bool) -> Iterator[Hold]:
    """Holds the cluster's lock while it is entered; inside of `interruptible`, or a lock that is lost ends the process.

    Raises `StackError` if somebody else has it, and if it is lost: what was broken off then says so, and not by which
    signal.
    """
    namespaces_up(api)  # raises for one that is not ours, or is being ended, before anything is made in it
    cluster.make_room_for_lock()
    lock, alarm = ClusterLock(api, owner(doing)), Alarm()
    with locked(lock, break_stale=break_lock, end=alarm.ring) as lost:
        try:
            yield Hold(lost, alarm)
        except Interrupted as interrupted:
            if lost:
                raise StackError(f"broken off: {lost[0]}") from interrupted
            raise


def owner(doing: str) -> str:
    """What others are told of who has the cluster."""
    return f"{getpass.getuser()} on {socket.gethostname()} (process {os.getpid()}, {doing})"


def up(scenario: Scenario, *, break_lock: bool = False, where: str = KIND) -> int:
    """Brings the scenario's stack up in a cluster; returns when it is ready. Raises `HostError`, `StackError`."""
    require_reference_services(scenario.stack)
    cluster = cluster_of(where)
    preflight(cluster, Extent.of([scenario]))
    replaced = build(cluster, tiers_of(scenario.stack))
    make_if_missing(cluster)
    api = cluster.open()
    try:
        with (
            interruptible(lambda _text: print("resilience: ending", file=sys.stderr)),  # noqa: T201
            held(cluster, api, f"up {scenario.name}", break_lock=break_lock),
        ):
            _bring_up_first(cluster, api, scenario.stack, replaced)
    except Interrupted as interrupted:
        return interrupted.exit_code
    console_for(sys.stdout).print(doors_text(cluster.doors(api)))
    said = f"'resilience status --stack {where}' shows it, 'resilience down --stack {where}' ends it"
    console_for(sys.stdout).print(plain(f"the stack is up; {said}"), soft_wrap=True)
    return 0


def _bring_up_first(cluster: Cluster, api: Api, stack: Stack, replaced: Mapping[str, str]) -> None:
    """Brings a stack up where there is none, and nothing is injected still: agents outlive a stack, and what they do.

    Raises `StackError`.
    """
    require_whole(cluster)
    if set(namespaces_up(api)) - {AGENTS}:
        where = cluster.stack
        raise StackError(
            f"a stack is up already in the cluster {cluster.name}: 'resilience status --stack {where}' shows it,"
            f" 'resilience down --stack {where}' ends it"
        )
    require_healed(platform_of(cluster, api, stack), cluster.stack)
    bring_up(cluster, api, stack, replaced)


def make_if_missing(cluster: Cluster) -> None:
    """Makes the harness's own, with progress, if there is none; nobody else's is ever made. Raises `HarnessError`."""
    if isinstance(cluster, Kind) and not cluster.exists():
        with _steps().step(f"making the kind cluster {cluster.name}, about a minute"):
            cluster.create(config_file())


def bring_up(cluster: Cluster, api: Api, stack: Stack, replaced: Mapping[str, str]) -> None:
    """Fills a cluster without a stack with this one, and waits until all its pods are ready. Raises `StackError`."""
    steps = _steps()
    cluster.favour_observer(api)
    with steps.step("loading images into the nodes"):
        cluster.load(replaced.values())
    with steps.step("applying manifests"):
        cluster.apply(stack, replaced)
    with steps.step("waiting for pods") as step:
        wait_ready(api, stack, time.monotonic() + READY_WITHIN_S, step.say)
        cluster.wait_agents()


def clear(cluster: Cluster, api: Api) -> None:
    """Ends the stack that stands in a cluster, data included, and leaves the cluster. Raises `StackError`."""
    if set(namespaces_up(api)) - {AGENTS}:
        with _steps().step(f"ending the stack that stands in the cluster {cluster.name}"):
            cluster.clear()


def heal(stack: Stack, where: str = KIND) -> int:
    """Ends whatever is injected in the cluster, whoever did it, a line for each; 4 if one is not seen to have ended.

    Raises `StackError`, when all was tried.
    """
    cluster = _to_look(where)
    if not cluster.exists():
        print(f"nothing to heal: no stack of the harness is up on {where}")  # noqa: T201
        return 0
    api = cluster.open()
    told: list[str] = []
    proved: list[bool] = []
    troubles: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        print(visible(line), flush=True)  # noqa: T201  # at once, whatever comes of the rest

    def heard(ended: Ended) -> None:
        proved.append(ended.proved)
        say(f"{ended.injection}: healed{'' if ended.proved else ', but it is not proved'}")

    with trouble_told(troubles):  # first: an agent on a node that is away cannot be asked
        for line in cluster.put_nodes_right():
            say(line)
    with trouble_told(troubles):
        if namespaces_up(api):
            with trouble_told(troubles) as agents:
                cluster.wait_agents()
            heal_left(platform_of(cluster, api, stack_in(api) or stack), heard, known_by_running=bool(agents))
    if troubles:
        raise StackError("; ".join(troubles))
    if not told:
        print("nothing to heal: every node is well, and no agent knows of anything")  # noqa: T201
    return 0 if all(proved) else HarnessError.exit_code


def require_whole(cluster: Cluster) -> None:
    """Raises `StackError` if something is done to a node still, or ordered: no stack could be ended or brought up."""
    if broken := cluster.broken_nodes():
        raise StackError(
            f"an older run has left the cluster {cluster.name} broken: {', '.join(broken)};"
            f" 'resilience heal --stack {cluster.stack}' puts them right"
        )


def require_healed(platform: KubernetesPlatform, where: str = KIND) -> None:
    """Raises `StackError` if something is injected in the cluster still, or if that cannot be known."""
    try:
        left = platform.left_injections()
    except FaultError as error:
        raise StackError(f"whether an older run has left something injected cannot be known: {error}") from error
    if left:
        known_by: dict[str, list[str]] = {}
        for agent, injections in left.items():
            for injection in injections:
                known_by.setdefault(injection, []).append(agent)
        told = ", ".join(f"{injection} ({', '.join(agents)})" for injection, agents in sorted(known_by.items()))
        raise StackError(f"an older run has left what it injected: {told}; 'resilience heal --stack {where}' ends it")


class Ended(NamedTuple):
    """An injection that has ended; that is always taken for proved of one that only looked."""

    injection: str
    proved: bool


def heal_left(
    platform: KubernetesPlatform,
    heard: Callable[[Ended], None] = lambda _ended: None,
    *,
    known_by_running: bool = False,
) -> list[str]:
    """Ends what is injected, as the cluster itself knows it, or those of its agents that run; the injections.

    ``heard`` is told of each as it has ended. Raises `StackError` if one cannot be ended, when all were tried.
    """
    troubles: list[str] = []
    left: list[str] = []
    with trouble_told(troubles):
        opened = platform.open_injections(known_by_running=known_by_running)
        left = sorted({name for names in opened.values() for name in names})
    does = set(left)  # until it is known that some only look
    with trouble_told(troubles):
        does = {name for names in platform.left_injections().values() for name in names} if left else does
    for injection in left:
        with trouble_told(troubles):
            proof = platform.undo(injection).proof
            heard(Ended(injection, proof.holds or injection not in does))
    if troubles:
        raise StackError(f"what is injected in the cluster could not be ended: {'; '.join(troubles)}")
    return left


@contextmanager
def trouble_told(troubles: list[str]) -> Iterator[list[str]]:
    """What goes wrong in one step is kept, and the next one is done all the same; the list says what it was."""
    found: list[str] = []
    try:
        yield found
    except (FaultError, StackError) as error:
        found.append(str(error))
        troubles.append(str(error))


def require_reference_services(stack: Stack) -> None:
    """Raises `SpecError` for a stack with programs of its own: what is no part of the image runs on ``local`` only.

    So does a tier that has no manifests.
    """
    for tier in ("postgresql", "rabbitmq", "content", "personalization"):
        if getattr(stack, tier) is not None and tier not in tiers_of(stack):
            raise SpecError(f"stack {stack.name}: {tier}: there are no manifests of it: use --stack local")
    if stack.patroni is not None:
        raise SpecError(
            f"stack {stack.name}: postgresql.failover: in a cluster only a runbook promotes yet: use --stack local"
        )
    for component in sorted({member.component for member in stack.members} & SERVICES):
        if stack.program(component) != f"services.{component}":
            field = f"programs.{component}" if hasattr(stack.programs, component) else f"{component}.program"
            raise SpecError(
                f"stack {stack.name}: {field}: in a cluster services are the project's own image: use --stack local"
            )


def down(where: str = KIND) -> int:
    """Ends the stack, on kind with its cluster; harmless if there is none. Raises `StackError` for somebody else's, and
    while a run goes on in it.
    """
    cluster = _to_look(where)
    if not cluster.exists():
        print("no kind cluster of the harness is up")  # noqa: T201
        return 0
    api = cluster.open()
    require_unused(api)
    if isinstance(cluster, Kind):
        with _steps().step(f"deleting the kind cluster {cluster.name}"):
            cluster.delete()
        return 0
    require_whole(cluster)  # with the agents goes what would take it back
    namespaces_up(api)  # raises for one that is not ours, or is being ended
    with _steps().step(f"ending what the harness has in the cluster {cluster.name}"):
        cluster.delete()
    return 0


def status(stack: Stack, where: str = KIND) -> int:
    """Shows the stack in the cluster, which says itself what it is; ``stack`` is taken where it does not. Raises
    `StackError` if none is up.
    """
    cluster, api = standing(where)
    platform = platform_of(cluster, api, stack_in(api) or stack)
    states = platform.states()
    console = console_for(sys.stdout)
    console.print(doors_text(cluster.doors(api)))
    parts = {one.member: f"{one.role}, shard {one.group}" for one in roles(cluster, platform.stack, states)}
    servers = postgresql_roles(cluster, platform.stack, states)
    parts |= {one.member: postgresql_part(msgspec.to_builtins(one)) for one in servers}
    parts |= led([msgspec.to_builtins(role) for role in queue_roles(cluster, states)])
    console.print(members_table(states, parts, pods(api)))
    return 0


def standing(where: str = KIND) -> tuple[Cluster, Api]:
    """The harness's cluster and its API, in which a stack is up.

    Raises `HostError`, and `StackError` where none is, or for somebody else's cluster.
    """
    cluster = _to_look(where)
    if not cluster.exists() or not set(namespaces_up(api := cluster.open())) - {AGENTS}:
        raise StackError(f"no stack is up on {where}; 'resilience up --stack {where}' brings one up")
    return cluster, api


def wait_ready(api: Api, stack: Stack, deadline: float, say: Callable[[str], None]) -> None:
    """Waits until every member has a ready pod, every node its agent, and the init job is done.

    Raises `StackError` that says why not.
    """
    hosts = [node["metadata"]["name"] for node in api.items("/api/v1/nodes", PLATFORM_NODES)]

    def unmet() -> str:
        found = pods(api)
        missing = missing_members(stack, found) + missing_agents(hosts, found)
        late = [pod["metadata"]["name"] for pod in unready(found)]
        say(f"{len(found) - len(late)} of {len(found) + len(missing)} ready")
        return shortened([f"no pod for {name}" for name in missing] + late)

    try:
        wait_until(_MEMBERS_OF, unmet, deadline=deadline, every_s=_LOOK_EVERY_S)
    except StackError as error:
        found = pods(api)
        missing = missing_members(stack, found) + missing_agents(hosts, found)
        unmade = [f"no pod for {shortened(missing)}", refusals(api, sorted({*NAMESPACES.values()}))] if missing else []
        raise StackError("; ".join(filter(None, [reasons(api, found), *unmade])) or str(error)) from error


def missing_members(stack: Stack, found: Sequence[Object]) -> list[str]:
    """The members that there is no pod for; the load's begin with a run."""
    names = {pod["metadata"]["name"] for pod in found}
    kept = [member for member in stack.members if member.component not in GENERATORS]
    return [member.name for member in kept if member.name not in names]


def missing_agents(hosts: Sequence[str], found: Sequence[Object]) -> list[str]:
    """Who would have to inject and to witness faults, and has no pod yet."""
    stand = {(pod["metadata"]["labels"].get(COMPONENT), pod["spec"].get("nodeName")) for pod in found}
    witness = [] if any(component == WITNESS for component, _host in stand) else [WITNESS]
    return [f"the agent of {host}" for host in hosts if ("agent", host) not in stand] + witness


def shortened(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = [f"and {len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join([*words[:_SHOWN], *more])


def members_table(states: Sequence[MemberState], parts: Mapping[str, str], found: Sequence[Object]) -> Table:
    """Members with their nodes, parts and pods."""
    late = {pod["metadata"]["name"] for pod in unready(found)}
    table = Table(box=None, pad_edge=False)
    for column in ("member", "node", "role", "pod", "restarts"):
        table.add_column(column, justify="right" if column == "restarts" else "left")
    for state in (one for one in states if one.running or one.component not in GENERATORS):
        pod = ("running, not ready" if state.name in late else "ready") if state.running else "not running"
        cells = (state.name, state.node, parts.get(state.name, state.component), pod, str(state.restarts))
        table.add_row(*(plain(cell) for cell in cells))
    return table


def roles(cluster: Cluster, stack: Stack, states: Sequence[MemberState]) -> tuple[RedisRole, ...]:
    """Who is what in the Redis Cluster, as the members say it themselves."""
    redis = [state for state in states if state.component == "redis" and state.running]

    def view(state: MemberState) -> ClusterView | None:
        try:
            return view_from_text(
                cluster.kubectl(
                    "exec", "-n", NAMESPACES["redis"], state.name, "-c", "redis", "--", "redis-cli", "cluster", "nodes"
                )
            )
        except StackError:  # it is shown without a part
            return None

    with ThreadPoolExecutor(max(1, len(redis))) as threads:
        views = dict(zip((state.name for state in redis), threads.map(view, redis), strict=True))
    hosts = {state.name: state.address for state in redis}
    known = {name: one for name, one in views.items() if one is not None}
    return decide(stack, hosts, known)


def postgresql_roles(
    cluster: Cluster, stack: Stack, states: Sequence[MemberState]
) -> tuple[postgresql_role.PostgresqlRole, ...]:
    """Who is what in PostgreSQL's tier, likewise; nobody where a stack has none."""
    if stack.postgresql is None:
        return ()
    servers = [state for state in states if state.component == "postgresql" and state.running]

    def look(state: MemberState) -> postgresql_role.Look | StackError:
        try:
            said = cluster.run(NAMESPACES["postgresql"], state.name, PSQL, postgresql_role.QUESTION, _PSQL_S)
            return postgresql_role.look_from_text(said)
        except StackError as error:
            return error

    with ThreadPoolExecutor(max(1, len(servers))) as threads:
        looks = dict(zip((state.name for state in servers), threads.map(look, servers), strict=True))
    return postgresql_role.decide(stack, {state.name: state.address for state in servers}, looks)


def queue_roles(cluster: Cluster, states: Sequence[MemberState]) -> tuple[QueueRole, ...]:
    """Who leads each queue of RabbitMQ's and who follows, as the members say it themselves; empty without RabbitMQ."""
    running = [state for state in states if state.component == "rabbitmq" and state.running]

    def told(state: MemberState) -> tuple[QueueView, ...]:
        try:
            said = cluster.kubectl("exec", "-n", NAMESPACES["rabbitmq"], state.name, "-c", "rabbitmq", "--", *_QUEUES)
            return queues_from_answer(state.name, msgspec.json.decode(said))
        except (StackError, msgspec.DecodeError):  # the others say it, or it is shown without a part
            return ()

    with ThreadPoolExecutor(max(1, len(running))) as threads:
        return roles_by([answer for answer in threads.map(told, running) if answer])


def stack_in(api: Api) -> Stack | None:
    """The stack that stands in a cluster, as it was applied; None where that cannot be read."""
    try:
        found = api.get(f"/api/v1/namespaces/{NAMESPACES['redis']}/configmaps/stack")
        return msgspec.json.decode(found["data"]["stack.json"], type=Stack)
    except (ApiError, KeyError, msgspec.MsgspecError):
        return None


def examined() -> tuple[Answer, ...]:
    """The clusters that the user's file names, each with whether it answers; none without a file."""
    try:
        found = names()
    except SpecError as error:
        return (Answer("clusters", (str(error),), ""),)
    return tuple(map(_examined, found))


def _examined(name: str) -> Answer:
    try:
        return Answer("cluster", (), f"{name}: {reached(name)}")
    except HarnessError as error:
        return Answer("cluster", (f"{name}: {error}",), "")


def cluster_of(where: str = KIND) -> Cluster:
    """The cluster that is asked for, to be found once by each command: what leads to one may be changed at any time.

    Nothing is asked of it. Raises `SpecError` where the user's file has none such.
    """
    return Kind(cache_folder()) if where == KIND else named_cluster(where.partition(":")[2])


def _to_look(where: str) -> Cluster:
    """The cluster, with what looks at one on this machine. Raises `HostError`, and `SpecError` as `cluster_of` does."""
    cluster = cluster_of(where)  # first: a file that is wrong is wrong on any machine
    cluster.require_looking()
    return cluster


def cache_folder() -> Path:
    """Where kubeconfigs and packages are kept."""
    return cache_dir(calling_user()) / "kind"


def _steps() -> Steps:
    console = console_for(sys.stderr)
    return Steps(console, time.monotonic, moving=can_move(console, os.environ))
