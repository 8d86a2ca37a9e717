import pytest

from resilience.errors import StackError
from resilience.stack.cluster_nodes import ClusterView, view_from_text
from resilience.stack.redis_cluster import missing_commands, refuse_other_cluster, shortened, unformed
from resilience.stack.redis_link import Command
from resilience.stack.redis_role import shard_slots
from tests.unit.stack.views import HOSTS, NAMES, PRIMARIES, STACK, node_id, view, views


class Simulated:
    """Six servers that carry out the commands of forming; a meeting takes one more look to become known."""

    def __init__(self) -> None:
        self.slots: dict[str, tuple[int, int]] = {}
        self.epochs = dict.fromkeys(NAMES, 0)
        self.met: dict[str, set[str]] = {name: set() for name in NAMES}
        self.primary: dict[str, str] = {}
        self.told = 0
        self.refused: list[Command] = []

    def view(self, of: str) -> ClusterView:
        return view_from_text("\n".join(self._line(of, name) for name in (of, *sorted(self.met[of]))))

    def views(self) -> dict[str, ClusterView]:
        return {name: self.view(name) for name in NAMES}

    def _line(self, of: str, name: str) -> str:
        mark = "myself," if name == of else ""
        role = f"slave {node_id(self.primary[name])}" if name in self.primary else "master -"
        slots = "{}-{}".format(*self.slots[name]) if name in self.slots else ""
        host = HOSTS[name] if name != of or self.met[of] else ""
        return f"{node_id(name)} {host}:6379@16379 {mark}{role} 0 0 {self.epochs[name]} connected {slots}"

    def tell(self, member: str, command: Command) -> None:
        self.told += 1
        match command:
            case ("CLUSTER", "ADDSLOTSRANGE", int(first), int(last)):
                assert not {(first, last)} & set(self.slots.values()), "slot already busy"
                self.slots[member] = first, last
            case ("CLUSTER", "SET-CONFIG-EPOCH", int(epoch)):
                assert not self.met[member]
                assert self.epochs[member] == 0
                self.epochs[member] = epoch
            case ("CLUSTER", "MEET", str(host), 6379):
                other = next(name for name, address in HOSTS.items() if address == host)
                self.met[member].add(other)
                self.met[other].add(member)
            case ("CLUSTER", "REPLICATE", str(primary_id)):
                primary = next(name for name in NAMES if node_id(name) == primary_id)
                assert primary in self.met[member]
                assert member not in self.slots
                self.primary[member] = primary
            case _:
                pytest.fail(f"unexpected: {command}")

    def round(self) -> int:
        """One look and what follows from it; how many commands that were."""
        commands = missing_commands(STACK, HOSTS, self.views())
        for member, todo in commands.items():
            for command in todo:
                self.tell(member, command)
        return sum(map(len, commands.values()))

    def form(self) -> None:
        for _ in range(10):
            if not self.round():
                return
        pytest.fail("forming does not end")


def test_forming_ends_in_the_stack_files_placement():
    servers = Simulated()
    servers.form()
    assert not unformed(HOSTS, servers.views())
    assert servers.slots == dict(zip(NAMES[:3], shard_slots(STACK), strict=True))
    assert servers.primary == dict(zip(NAMES[3:], NAMES[:3], strict=True))
    assert sorted(servers.epochs.values()) == [1, 2, 3, 4, 5, 6]
    assert servers.told == 3 + 6 + 15 + 3  # slots, epochs, each pair once, replicas


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_forming_goes_on_where_it_was_broken_off(rounds: int):
    servers = Simulated()
    for _ in range(rounds):
        servers.round()
    for member, todo in list(missing_commands(STACK, HOSTS, servers.views()).items())[:2]:
        servers.tell(member, todo[0])
    servers.form()
    assert not unformed(HOSTS, servers.views())


def test_nobody_meets_before_all_have_their_epoch():
    servers = Simulated()
    servers.tell(NAMES[0], ("CLUSTER", "SET-CONFIG-EPOCH", 1))
    commands = missing_commands(STACK, HOSTS, servers.views())
    assert all(command[1] != "MEET" for todo in commands.values() for command in todo)
    assert ("CLUSTER", "SET-CONFIG-EPOCH", 1) not in commands[NAMES[0]]


def test_who_is_in_handshake_is_not_met_again():
    servers = Simulated()
    for _ in range(1):
        servers.round()
    waiting = servers.views()
    lines = [
        f"{node_id(NAMES[0])} {HOSTS[NAMES[0]]}:6379@16379 myself,master - 0 0 1 connected 0-5460",
        *(f"{'f' * 39}{at} {HOSTS[name]}:6379@16379 handshake - 0 0 0 connected" for at, name in enumerate(NAMES[1:])),
    ]
    waiting[NAMES[0]] = view_from_text("\n".join(lines))
    assert NAMES[0] not in missing_commands(STACK, HOSTS, waiting)
    assert any(reason.startswith(f"{NAMES[0]} does not know") for reason in unformed(HOSTS, waiting))


def test_a_primary_meets_again_who_does_not_know_its_slots():
    uninformed = views() | {NAMES[4]: view(NAMES[4], primaries={1: PRIMARIES[1], 3: PRIMARIES[3]})}
    meets = [("CLUSTER", "MEET", HOSTS[NAMES[4]], 6379)]
    assert missing_commands(STACK, HOSTS, uninformed) == {NAMES[1]: meets}
    meeting = uninformed | {NAMES[1]: view(NAMES[1], flags={NAMES[4]: "handshake"})}
    assert missing_commands(STACK, HOSTS, meeting) == {}


def test_nothing_is_missing_in_a_formed_cluster():
    assert missing_commands(STACK, HOSTS, views()) == {}


def test_a_formed_cluster_is_left_whoever_is_primary():
    assert not unformed(HOSTS, views())
    failed_over = {**PRIMARIES, 1: (NAMES[3], 7)}
    follows = {NAMES[0]: 1, NAMES[4]: 2, NAMES[5]: 3}
    assert not unformed(HOSTS, {name: view(name, primaries=failed_over, replicas=follows) for name in NAMES})


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (views() | {NAMES[2]: view(NAMES[2], flags={NAMES[4]: "handshake"})}, "redis-cluster-2 does not know"),
        (views() | {NAMES[2]: view(NAMES[2], primaries={1: (NAMES[0], 1)})}, "knows the owners of 5461 of 16384"),
        (views() | {NAMES[5]: view(NAMES[5], replicas={})}, "redis-cluster-5 has neither slots nor a primary"),
    ],
    ids=["a stranger", "slots without owner", "a replica that is none"],
)
def test_what_is_missing_is_said(seen: dict[str, ClusterView], reason: str):
    assert any(reason in text for text in unformed(HOSTS, seen))


def test_another_clusters_slots_are_refused():
    refuse_other_cluster(STACK, views())
    swapped = {1: (NAMES[3], 1), 2: (NAMES[1], 2), 3: (NAMES[2], 3)}
    with pytest.raises(
        StackError, match=r"redis-cluster-3 .* owns slots \(\(0, 5460\),\), the stack file gives it none"
    ):
        refuse_other_cluster(STACK, {NAMES[3]: view(NAMES[3], primaries=swapped, replicas={})})


def test_long_reasons_are_shortened():
    assert shortened([]) == ""
    assert shortened(["a", "b", "c"]) == "a; b; c"
    assert shortened(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
