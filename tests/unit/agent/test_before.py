"""Who was not heard before an injection proves nothing by his silence; who was slow is asked again, and waited for.

Peers stand for what a real network would tell: no socket is opened.
"""

from dataclasses import dataclass, field

import pytest

from resilience.agent import mute, silence
from resilience.agent.before import ANSWERED, LOOKS_MAX, Before
from resilience.agent.connect import ANSWERS, SILENT, TIMEOUT_S
from resilience.agent.mute import Mute
from resilience.agent.probe import in_effect, prepare
from resilience.agent.silence import NO_BYTE, Silence
from tests.fakes import FakePeer


@dataclass
class Net:
    """All peers by their addresses, and what was asked of them."""

    peers: dict[str, FakePeer] = field(default_factory=dict)

    def connect(self, address: str, _port: int) -> tuple[FakePeer | None, str]:
        peer = self.peers[address]
        return (peer, ANSWERS) if peer.accepts else (None, SILENT)

    def converse(self, peer: FakePeer, say: bytes, timeout_s: float) -> str:
        return ANSWERED if say and peer.is_heard(timeout_s) else NO_BYTE

    def lose(self) -> None:
        """The node with all of them falls silent."""
        for peer in self.peers.values():
            peer.accepts, peer.answers_after_s = False, []


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    net = Net()
    for module in (silence, mute):
        monkeypatch.setattr(module, "connect", net.connect)
        monkeypatch.setattr(module, "converse", net.converse)
    return net


def silent(net: Net, name: str, peer: FakePeer, *, via: str = "witness", node: str = "node-1") -> Silence:
    return Silence.from_json("test-1", watch(net, name, peer, via, node))


def watch(net: Net, name: str, peer: FakePeer, via: str, node: str) -> dict[str, object]:
    net.peers[name] = peer
    here = {"name": via, "init_pid": 0, "init_start": 0, "here": True}
    to = {"name": name, "address": name, "init_pid": 0, "init_start": 0}
    return {"via": here, "to": to, "port": 80, "say": "PING", "node": node}


def quick() -> FakePeer:
    return FakePeer([0.01])


def never() -> FakePeer:
    return FakePeer([])


def test_a_slow_member_is_asked_again(net: Net) -> None:
    slow = FakePeer([9.0, 9.0, 0.1])
    probe = silent(net, "edge-0", slow)
    prepare([probe])
    assert (probe.before.looks, slow.closed) == (3, 2)
    net.lose()
    assert [item["ok"] for item in in_effect([probe])] == [True, True]


def test_one_that_is_heard_at_once_is_asked_once(net: Net) -> None:
    probe = silent(net, "redis-0", quick())
    prepare([probe])
    assert probe.before.looks == 1


def test_who_was_slow_before_has_to_be_silent_for_longer(net: Net) -> None:
    """It answers after a second, as it may have done before: so that nothing has been done to it."""
    peer = FakePeer([9.0, 0.1])
    probe = silent(net, "edge-0", peer)
    prepare([probe])
    peer.accepts, peer.answers_after_s = False, [1.0]
    assert TIMEOUT_S < 1.0 < probe.before.patience_s
    old, _new = in_effect([probe])
    assert (old["observed"], old["ok"]) == (ANSWERED, False)


def test_one_that_was_never_heard_proves_nothing(net: Net) -> None:
    probe = silent(net, "edge-0", never())
    prepare([probe])
    assert probe.before.looks == LOOKS_MAX
    net.lose()
    old, new = in_effect([probe])
    assert (old["ok"], new["ok"]) == (False, True)
    assert old["observed"] == "nothing to be learned: before the injection, in 3 looks: no byte"


def test_nor_do_many_that_were_never_heard(net: Net) -> None:
    probes = [silent(net, name, never()) for name in ("edge-0", "session-0", "redis-0")]
    prepare(probes)
    net.lose()
    assert [item["ok"] for item in in_effect(probes)] == [False, True] * 3


def test_one_that_was_never_heard_is_left_to_another_on_its_node(net: Net) -> None:
    probes = [silent(net, "edge-0", never()), silent(net, "redis-0", quick())]
    prepare(probes)
    net.lose()
    seen = in_effect(probes)
    assert [item["ok"] for item in seen] == [True] * 4
    assert seen[0]["observed"] == "before the injection, in 3 looks: no byte; left to redis-0"


@pytest.mark.parametrize(
    ("via", "node"), [("redis-1", "node-1"), ("witness", "node-2"), ("witness", "")], ids=["view", "node", "no node"]
)
def test_but_not_to_what_another_heard_nor_to_another_node(net: Net, via: str, node: str) -> None:
    probes = [silent(net, "edge-0", never(), node=node), silent(net, "redis-0", quick(), via=via)]
    prepare(probes)
    net.lose()
    assert [item["ok"] for item in in_effect(probes)] == [False, True, True, True]


def test_one_that_is_left_to_another_may_not_speak(net: Net) -> None:
    probes = [silent(net, "edge-0", never()), silent(net, "redis-0", quick())]
    prepare(probes)
    net.lose()
    net.peers["edge-0"].accepts = True
    assert [item["ok"] for item in in_effect(probes)] == [True, False, True, True]


def test_nor_may_the_one_that_it_is_left_to(net: Net) -> None:
    probes = [silent(net, "edge-0", never()), silent(net, "redis-0", quick())]
    prepare(probes)
    assert [item["ok"] for item in in_effect(probes)][2:] == [False, False]


@pytest.mark.parametrize(
    ("edge", "node", "heard"), [(never(), "node-1", True), (never(), "", False), (FakePeer([9.0, 0.1]), "", True)],
    ids=["left to another", "alone", "slow"],
)  # fmt: skip
def test_it_is_the_same_with_requests(net: Net, edge: FakePeer, node: str, heard: bool) -> None:
    watches = [watch(net, "edge-0", edge, "witness", node), watch(net, "redis-0", quick(), "witness", "node-1")]
    probes = [Mute.from_json("test-1", one) for one in watches]
    prepare(probes)
    for peer in net.peers.values():
        peer.answers_after_s = []  # the kernel goes on accepting
    assert [item["ok"] for item in in_effect(probes)] == [heard, True]
    net.peers["edge-0"].answers_after_s = [0.0]
    assert not in_effect(probes)[0]["ok"]


def test_nobody_has_looked_yet() -> None:
    assert not Before().answered
    assert Before().patience_s == TIMEOUT_S
