"""Views of a six-member cluster for the tests of this folder, written as the servers would answer."""

from collections.abc import Mapping

from resilience.spec.stack import Async, Member, Redis, Shard, Stack
from resilience.stack.cluster_nodes import ClusterView, view_from_text
from resilience.stack.redis_role import shard_slots

NAMES = tuple(f"redis-cluster-{number}" for number in range(6))
HOSTS = {name: f"198.18.1.{number}" for number, name in enumerate(NAMES)}
STACK = Stack(
    name="six",
    durability=Async(),
    nodes=("node-0", "node-1", "node-2"),
    restart_delay_s=2,
    session_ttl_s=604_800,
    scrape_interval_s=1,
    redis=Redis(),
    shards=tuple(Shard(primary=NAMES[at], replicas=(NAMES[at + 3],)) for at in range(3)),
    members=(
        *(Member(name=name, component="redis", node=f"node-{at % 3}") for at, name in enumerate(NAMES)),
        Member(name="session-0", component="session", node="node-0"),
        Member(name="edge-0", component="edge", node="outside"),
        Member(name="prometheus-0", component="prometheus", node="observer"),
        Member(name="loadgen", component="loadgen", node="observer"),
    ),
)
PRIMARIES = {1: (NAMES[0], 1), 2: (NAMES[1], 2), 3: (NAMES[2], 3)}  # group: owner, epoch
REPLICAS = {NAMES[3]: 1, NAMES[4]: 2, NAMES[5]: 3}  # member: group


def node_id(member: str) -> str:
    return member[-1] * 40


def view(
    of: str,
    *,
    primaries: Mapping[int, tuple[str, int]] = PRIMARIES,
    replicas: Mapping[str, int] = REPLICAS,
    flags: Mapping[str, str] = {},
    moving: str = "",
) -> ClusterView:
    """What a member says; members that are neither primary of a shard nor replica are primaries without slots."""
    text = told(of, primaries, replicas, flags)
    return view_from_text("\n".join(line + (f" {moving}" if "myself" in line else "") for line in text.splitlines()))


def told(
    of: str,
    primaries: Mapping[int, tuple[str, int]] = PRIMARIES,
    replicas: Mapping[str, int] = REPLICAS,
    flags: Mapping[str, str] = {},
) -> str:
    """The same, as the member says it."""
    return "\n".join(_line(of, name, primaries, replicas, flags.get(name, "")) for name in NAMES)


def _line(of: str, name: str, primaries: Mapping[int, tuple[str, int]], replicas: Mapping[str, int], extra: str) -> str:
    owned = {owner: (epoch, shard_slots(STACK)[group - 1]) for group, (owner, epoch) in primaries.items()}
    group = replicas.get(name)
    marks = ["myself"] if name == of else []
    marks += ["slave" if group else "master", *([extra] if extra else [])]
    primary, epoch = primaries.get(group, ("", 0)) if group else ("", owned.get(name, (0, None))[0])
    slots = "{}-{}".format(*owned[name][1]) if name in owned else ""
    above = node_id(primary) if primary else "-"
    return f"{node_id(name)} {HOSTS[name]}:6379@16379 {','.join(marks)} {above} 0 0 {epoch} connected {slots}".rstrip()


def views(*silent: str) -> dict[str, ClusterView]:
    """The views of a healthy cluster, without those that do not answer."""
    return {name: view(name) for name in NAMES if name not in silent}
