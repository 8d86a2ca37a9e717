"""Small real classes that stand for the world in tests."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import AddressFamily
from typing import Any, Literal, Self

from aiohttp.abc import AbstractResolver

from resilience.backend.base import At, Evidence, Injected, MemberState, NodeFault, Pace, Proof, Undone, at_once
from resilience.backend.kubernetes.api import Api, ApiError
from resilience.backend.kubernetes.readiness import is_ready
from resilience.backend.kubernetes.records import MODULE, listed, packed
from resilience.backend.kubernetes.staging import Staging
from resilience.backend.machine.control_plane import ControlPlane
from resilience.errors import FaultError, HostError, StackError
from resilience.history.record import Drained
from resilience.outside import Ended, Wanted
from resilience.spec.clock import Trip
from resilience.spec.fault import FaultSpec, Target
from resilience.spec.stack import Stack
from resilience.stack.postgresql_role import QUESTION


class FakePlatform:
    """A `Platform` whose members are wherever the test says: addresses and running or not, by name."""

    def __init__(self, stack: Stack, addresses: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.stack = stack
        self.addresses = dict(addresses)
        self.stopped: set[str] = set()
        self.restarts: dict[str, int] = {}
        self.last_words: dict[str, str] = {}
        self._secrets = dict(secrets)

    def states(self) -> tuple[MemberState, ...]:
        return tuple(self.state(member.name) for member in self.stack.members)

    def state(self, name: str) -> MemberState:
        if name not in self.addresses:
            raise StackError(f"there is no member {name}")
        member, running = self.stack.member(name), name not in self.stopped
        return MemberState(
            name=name,
            component=member.component,
            node=member.node,
            address=self.addresses[name],
            running=running,
            identity=f"{name}:1" if running else "",
            restarts=self.restarts.get(name, 0),
            last_words=self.last_words.get(name),
        )

    def secret(self, name: str) -> str:
        return self._secrets[name]


class FakePostgresqlLink:
    """A link to a PostgreSQL server, and the server: it answers as what it is unless it is silent, and obeys."""

    def __init__(self, member: str, role: Literal["primary", "standby", "gone"], timeline: int = 1) -> None:
        self.member = member
        self.role = role
        self.timeline = timeline
        self.follows = ""
        self.silent = 0  # so many questions are not answered; -1: none is
        self.deaf = 0  # so many orders to stop do not come to it; -1: none does
        self.told: list[str] = []  # what changed it

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        if self.role == "gone" or self._missed("silent"):
            raise StackError(f"{self.member}: connection {'refused' if self.role == 'gone' else 'timed out'}")
        if "pg_ctl" in sql:
            return self._stop(sql)
        if "pg_promote" in sql:
            self.told.append("promote")
            self.role, self.timeline = "primary", self.timeline + 1
            return [("t",)]
        if sql == QUESTION:
            return [(json.dumps({"recovering": self.role == "standby", "timeline": self.timeline, "written": 1}),)]
        if sql == "SHOW primary_conninfo":
            return [(f"host={self.follows}" if self.follows else None,)]
        return [("t" if self.role == "standby" else "f",)] if sql == "SELECT pg_is_in_recovery()" else []

    def is_refused(self) -> bool:
        return self.role == "gone"

    def close(self) -> None:
        pass

    def _missed(self, what: Literal["silent", "deaf"]) -> bool:
        left: int = getattr(self, what)
        setattr(self, what, left - 1 if left > 0 else left)
        return left != 0

    def _stop(self, sql: str) -> list[tuple[str | None, ...]]:
        if self._missed("deaf"):
            raise StackError(f"{self.member}: sending a question took too long")
        self.told.append("fence" if "touch fenced" in sql else "restart")
        self.role = "gone"
        return []


class FakePgbouncer:
    """A PgBouncer, by its console and as what leads to a server, which is another one only once it connects anew."""

    def __init__(self, leads_to: Sequence[str], *, silent: bool = False) -> None:
        """``leads_to``: now, and after each time that it was told to connect anew."""
        self.leads_to = list(leads_to)
        self.silent = silent
        self.told: list[str] = []

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        if self.silent:
            raise StackError("connection timed out")
        if sql == "SHOW cluster_name":
            if not self.leads_to[0]:
                raise StackError("server login has been failing")
            return [(self.leads_to[0],)]
        self.told.append(sql)
        if sql == "RECONNECT" and len(self.leads_to) > 1:
            del self.leads_to[0]
        return []

    def close(self) -> None:
        pass


class FakePostgresqlLinks:
    """The links to all servers of a tier."""

    def __init__(self, *servers: FakePostgresqlLink) -> None:
        self.servers = {server.member: server for server in servers}
        self.hosts = dict.fromkeys(self.servers, "10.0.0.1")

    def link(self, member: str) -> FakePostgresqlLink:
        return self.servers[member]

    def ask_each(self, sql: str) -> dict[str, list[tuple[str | None, ...]] | StackError]:
        return {name: self._answer(server, sql) for name, server in self.servers.items()}

    def _answer(self, server: FakePostgresqlLink, sql: str) -> list[tuple[str | None, ...]] | StackError:
        try:
            return server.ask(sql)
        except StackError as error:
            return error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


class FakeWay:
    """A RabbitMQ member as a way to queues, which it may share with others; it hands out two messages at a time."""

    def __init__(
        self, member: str, held: dict[str, list[Drained]], *, silent: bool = False, breaks_after: int | None = None
    ) -> None:
        """``breaks_after``: of how many batches."""
        self.member = member
        self.held = held
        self.silent = silent
        self.unacknowledged = 0  # held by a consumer of the first queue
        self.opened = 0
        self._batches = breaks_after

    def taken(self, queues: Sequence[str]) -> Iterator[tuple[str, tuple[Drained, ...]]]:
        self._answer()
        self.opened += 1
        for queue in queues:
            batch: tuple[Drained, ...] | None = None
            while batch != ():
                self._count()
                batch = tuple(self.held[queue][:2])
                yield queue, batch
                del self.held[queue][:2]

    def left(self, queues: Sequence[str]) -> list[str]:
        self._answer()
        held = {queue: len(self.held[queue]) for queue in queues}
        held[queues[0]] += self.unacknowledged
        return [
            f"{self.member}: {queue} holds {number} messages, {self.unacknowledged} of them unacknowledged"
            for queue, number in held.items()
            if number
        ]

    def _answer(self) -> None:
        if self.silent:
            raise StackError(f"{self.member} does not answer")

    def _count(self) -> None:
        if self._batches == 0:
            raise StackError(f"{self.member} broke off")
        if self._batches is not None:
            self._batches -= 1


class FakeFaultPlatform(FakePlatform):
    """A platform whose agent only counts: what it was told, in order, and what the test has it answer."""

    def __init__(self, stack: Stack) -> None:
        addresses = {member.name: f"198.18.0.{number}" for number, member in enumerate(stack.members, start=1)}
        super().__init__(stack, addresses, {})
        self.told: list[tuple[str, str]] = []  # (what, injection)
        self.works = True  # whether injections take effect
        self.heals = True  # whether the opposite of the effect is seen after healing
        self.refuses: set[str] = set()  # what raises: apply, probe, undo
        self.ended_by: dict[str, str] = {}
        self.now_ns = 0  # of the answers' instants
        self.preparing_ns = 0  # how long it takes to prepare an injection
        self.undoing_ns = 0  # how long undoing takes
        self.probing_s: list[float] = []  # how long each probe takes
        self.paces: dict[str, Pace] = {}  # by the kind of a fault

    def pace(self, fault: FaultSpec, target: Target) -> Pace:
        del target
        return self.paces.get(str(fault.__struct_config__.tag), Pace())

    def node_steps(self, what: NodeFault, nodes: Sequence[str], members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": what, "nodes": list(nodes), "members": list(members)},)

    def drain_steps(self, nodes: Sequence[str], members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "drain", "nodes": list(nodes), "members": list(members)},)

    def delete_steps(self, members: Sequence[str], grace_s: int) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "delete", "grace_s": grace_s, "members": list(members)},)

    def scale_steps(self, members: Sequence[str], replicas: int) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "scale", "replicas": replicas, "members": list(members)},)

    def deny_steps(self, members: Sequence[str], others: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "deny", "members": list(members), "to_component": list(others)},)

    def rollout_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "rollout", "members": list(members)},)

    def kill_steps(self, members: Sequence[str], signal: str) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "signal", "signal": signal, "members": list(members)},)

    def pause_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "pause", "members": list(members)},)

    def restart_steps(self, members: Sequence[str], delay_s: float, *, wiped: bool) -> tuple[dict[str, Any], ...]:
        wipe = ({"primitive": "wipe", "folders": list(members)},) if wiped else ()
        release = {"primitive": "release", "dirs": list(members), "after_s": delay_s}
        return (*self.hold_steps(members), *self.kill_steps(members, "KILL"), *wipe, release)

    def hold_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "hold", "dirs": list(members)},)

    def partition_steps(self, member: str, others: Sequence[str], direction: str) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "drop", "member": member, "others": list(others), "direction": direction},)

    def apply(self, injection: Mapping[str, Any], at_ns: At = at_once) -> Injected:
        self._tell("apply", injection["id"])
        self.now_ns += self.preparing_ns
        began_ns = max(self.now_ns, at_ns())
        return Injected(began_ns=began_ns, applied_ns=began_ns + 2_000_000)

    def probe(self, injection_id: str) -> Proof:
        self._tell("probe", injection_id)
        self.now_ns += int(self.probing_s.pop(0) * 1e9) if self.probing_s else 0
        return self._proof(ok=self.works and injection_id not in self.ended_by)

    def undo(self, injection_id: str, at_ns: int = 0) -> Undone:
        self._tell("undo", injection_id)
        by = self.ended_by.setdefault(injection_id, "request")
        began_ns = max(self.now_ns, at_ns)
        self.now_ns = began_ns + self.undoing_ns
        return Undone(began_ns=began_ns, healed_ns=self.now_ns, by=by, proof=self._proof(ok=self.heals))

    def _tell(self, what: str, injection_id: str) -> None:
        self.told.append((what, injection_id))
        if what in self.refuses:
            raise FaultError(f"{what} {injection_id}: refused by the test")

    def _proof(self, *, ok: bool) -> Proof:
        return Proof(evidence=(Evidence(what="fake", expected="seen", observed="seen" if ok else "not", ok=ok),))


class FakeAgents:
    """The agents' pods of a cluster: each keeps what it was told to apply, and answers as the test has it.

    ``run`` stands for `kubectl exec`.
    """

    def __init__(self, pods: Mapping[str, str]) -> None:
        self.pods = dict(pods)  # the name that the test knows an agent by, by its pod's
        self.asked: list[tuple[str, str]] = []  # (agent, command)
        self.told: dict[str, dict[str, Any]] = {}  # what each was last told to apply
        self.requests: dict[str, dict[str, Any]] = {}  # what each was last asked
        self.ended_by: dict[str, str] = {}
        self.forgets: set[str] = set()  # agents that have lost what they knew
        self.blind: set[str] = set()  # agents whose probes see nothing of it
        self.idle: set[str] = set()  # agents that have no probe, and look at nothing
        self.refuses: set[str] = set()  # agents that answer with an error
        self.refuses_undo: set[str] = set()  # those that do so when they are to end something
        self.away: dict[str, int] = {}  # calls that break before an agent answers again
        self.silent_on: set[str] = set()  # what their answers do not say
        self.now_ns = 5_000
        self.ahead_ns: dict[str, int] = {}  # how far an agent's clock is ahead of the caller's
        self.kernels: dict[str, str] = {}  # the boot id of an agent that tells its clock

    def trips(
        self, _namespace: str, pod: str, argv: tuple[str, ...], _timeout_s: float
    ) -> tuple[str, tuple[Trip, ...]]:
        """Stands for a conversation by `exec`: the best of its trips takes 6 ms, and was told in its middle."""
        agent = self.pods[pod]
        self.asked.append((agent, argv[-1]))
        if agent not in self.kernels:
            raise StackError(f"{pod}: the connection broke")
        ahead_ns = self.ahead_ns[agent]
        slow = Trip(0, 1_000_000 + ahead_ns, 20_000_000)
        return self.kernels[agent], (slow, Trip(30_000_000, 33_000_000 + ahead_ns, 36_000_000))

    def run(self, _namespace: str, pod: str, argv: tuple[str, ...], text: str, _timeout_s: float) -> str:
        agent, command, request = self.pods[pod], argv[-1], json.loads(text)
        self.asked.append((agent, command))
        self.requests[agent] = request
        if self.away.get(agent, 0) > 0:
            self.away[agent] -= 1
            raise StackError(f"{pod}: the connection broke")
        if agent in self.refuses or (command == "undo" and agent in self.refuses_undo):
            return json.dumps({"error": "refused by the test"})
        answer = self._answer(agent, command, request)
        return json.dumps({key: value for key, value in answer.items() if key not in self.silent_on})

    def _answer(self, agent: str, command: str, request: dict[str, Any]) -> dict[str, Any]:
        if command == "apply":
            self.told[agent] = request
            return {"began_ns": self.now_ns, "applied_ns": self.now_ns + 1_000}
        known = agent in self.told and agent not in self.forgets
        if command == "open":
            told = [self.told[agent]["injection"]] if known and agent not in self.ended_by else []
            return {"open": [one["id"] for one in told], "looks": [one["id"] for one in told if not one["steps"]]}
        if not known or self.told[agent]["injection"]["id"] != request["id"]:
            return {"unknown": True}
        seen = {"what": f"seen by {agent}", "expected": "x", "observed": "x", "ok": agent not in self.blind}
        answer = {"parts": self.told[agent]["parts"], "evidence": [] if agent in self.idle else [seen]}
        if command == "undo":
            self.now_ns = began_ns = max(self.now_ns + 1, request["at_ns"])
            does = bool(self.told[agent]["injection"]["steps"])
            by = self.ended_by.setdefault(agent, "request")
            answer |= {"began_ns": began_ns, "healed_ns": self.now_ns, "by": by, "does": does}
        return answer


class FakeDocker:
    """Containers of kind nodes as Docker would tell them; a node's own network is up or silent.

    ``run`` stands for calling ``docker``. Starts are numbered, in the place of instants.
    """

    def __init__(self, cluster: str, hosts: Mapping[str, str]) -> None:
        """``hosts``: the role of each container."""
        self.cluster = cluster
        self.roles = dict(hosts)
        self.states = dict.fromkeys(hosts, "running")
        self.networks: dict[str, dict[str, str]] = {
            host: {"kind": f"172.30.0.{number}"} for number, host in enumerate(hosts, start=2)
        }
        self.starts = dict.fromkeys(hosts, 1)
        self.silent: set[str] = set()
        self.kept: dict[str, set[str]] = {host: set() for host in hosts}  # addresses that it keeps in mind
        self.done: list[str] = []
        self.broken: set[str] = set()  # words that fail

        self.raced: set[str] = set()  # words that somebody else is quicker with: done, and refused

    def run(self, argv: Sequence[str], _timeout_s: float) -> str:
        _docker, word, *rest = argv
        if word in self.broken:
            raise StackError(f"'docker {word}' failed: refused by the test")
        if word == "ps":
            mine = "--filter" not in rest or f"label=io.x-k8s.kind.cluster={self.cluster}" in rest
            return "".join(f"{host}\n" for host in self.roles if mine)
        if word == "inspect":
            return json.dumps([self._inspected(host) for host in rest[2:]])
        self.done.append(" ".join(argv[1:3] if word == "exec" else argv[1:]))
        said = str(getattr(self, f"_{word}")(*rest) or "")
        if word in self.raced:
            raise StackError(f"'docker {word}' failed: it is so already")
        return said

    def _inspected(self, host: str) -> dict[str, Any]:
        if host not in self.roles:
            raise StackError(f"'docker inspect {host}' failed: no such container")
        return {
            "Name": f"/{host}",
            "State": {"Status": self.states[host], "StartedAt": f"2026-11-25T10:00:{self.starts[host]:02}.5Z"},
            "NetworkSettings": {
                "Networks": {
                    name: {"IPAddress": address, "MacAddress": "02:42:ac:1e:00:02"}
                    for name, address in self.networks[host].items()
                }
            },
            "Config": {
                "Labels": {"io.x-k8s.kind.cluster": self.cluster, "io.x-k8s.kind.role": self.roles[host]},
            },
        }

    def _exec(self, host: str, _sh: str, _c: str, text: str) -> str:
        if self.states[host] != "running":
            raise StackError(f"'docker exec {host}' failed: it is {self.states[host]}")
        if "flags" in text:
            return "0x1002" if host in self.silent else "0x1003"
        if "down" in text:
            self.silent.add(host)
        elif "replace" in text:
            self.kept[host].update(words.split()[3] for words in text.split(" && "))
        elif "flush" in text:
            self.kept[host].clear()
        elif "show" in text:
            return "\n".join(self.kept[host])
        return ""

    def _kill(self, host: str) -> None:
        assert host in self.silent, "a last word is heard"
        self.states[host] = "exited"

    def _start(self, host: str) -> None:
        self.states[host] = "running"
        self.silent.discard(host)
        self.starts[host] += 1

    def _pause(self, host: str) -> None:
        self.states[host] = "paused"

    def _unpause(self, host: str) -> None:
        self.states[host] = "running"

    def _network(self, word: str, network: str, host: str) -> None:
        if word == "connect":
            self.networks[host][network] = "172.30.0.99"
        else:
            del self.networks[host][network]


class FakeCluster:
    """An API server with two nodes, StatefulSets' pods on them, and budgets of one pod that may be away.

    Its controllers and kubelets work while somebody waits: in `sleep`, each by itself, as the test lets them.
    """

    HOSTS = ("hf-worker", "hf-worker2")

    def __init__(self, pods: Mapping[str, str]) -> None:
        """``pods``: the host of each by its name; those of Redis have a volume there."""
        self.nodes: dict[str, dict[str, Any]] = {host: {"metadata": {"name": host}, "spec": {}} for host in self.HOSTS}
        self.labels: dict[str, str] = {"harmonyflow.dev/harness": "allowed"}  # of namespaces
        self.now = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
        self.pods = {name: self._made(name, host, number=1) for number, (name, host) in enumerate(pods.items())}
        self.homes = dict(pods)
        self.starts = True  # whether pods that were made get ready
        self.evicts = True  # whether what is accepted is done, too
        self.at_once = False  # whether a rollout has all of them replaced in one second
        self.policies: dict[str, dict[str, Any]] = {}
        self.enforces = True  # whether anybody enforces policies
        self.sets: dict[str, dict[str, Any]] = {}  # StatefulSets, once somebody has asked for them
        self.scales = True  # whether the controller of StatefulSets works
        self.restarts: list[str] = []  # names of pods that a rollout has not come to
        self.broken: dict[str, int] = {}  # the status by which the server refuses a method
        self.said = ""  # by Redis members, of their cluster
        self.deletes = True  # whether a deletion that is accepted is done, too
        self.ending: dict[str, int] = {}  # pods that end by themselves, and how often somebody may wait until then
        self.gone: dict[str, int] = {}  # pods that are to be made again, and the number that they get
        self.witness = self._made("witness-0", "hf-worker4", number=1)
        self.kept_ports: set[str] = set()  # addresses that answer although nobody has them

    def plane(self, stack: str = "kind") -> ControlPlane:
        """What the machine has of it."""
        api = Api(self.call, "a cluster", sleep=lambda _seconds: None, patience_s=2.0)
        return ControlPlane(lambda: api, self.run, self.sleep, stack=stack)

    def place(self, name: str) -> dict[str, Any]:
        """A pod as an injection names it."""
        workload, component = name.rpartition("-")[0], name.split("-", maxsplit=1)[0]
        return {
            "name": name, "pod": name, "namespace": "a", "pod_uid": self.pods[name]["metadata"]["uid"],
            "host": self.homes[name], "container": component, "workload": workload, "bound": component == "redis",
            "address": self.pods[name]["status"]["podIP"], "port": 8080,
        }  # fmt: skip

    def sleep(self, seconds: float) -> None:
        """Lets time pass, and everybody do one thing."""
        self.now += timedelta(seconds=seconds)
        for name, number in self.gone.items():
            self.pods[name] = self._made(name, self.homes[name], number=number, ready=self.starts)
        self.gone = {}
        self.ending = {name: left - 1 for name, left in self.ending.items()}
        for name in [name for name, left in self.ending.items() if left <= 0]:
            del self.ending[name]
            self._end(name)
        self._scale()
        for name, pod in self.pods.items():
            if not pod["spec"].get("nodeName") and (host := self._free(name)):
                self.pods[name] = self._made(name, host, number=int(pod["metadata"]["uid"][-1]), ready=self.starts)
        if self.restarts and self.at_once:
            self.now += timedelta(seconds=5)
            self.pods |= {name: self._made(name, self.homes[name], number=2) for name in self.restarts}
            self.restarts = []
        elif self.restarts:
            self.now += timedelta(seconds=5)
            name = self.restarts.pop()
            self.pods[name] = self._made(name, self.homes[name], number=2, ready=self.starts)

    def call(self, method: str, path: str, _query: Mapping[str, str], body: Any) -> bytes:
        """Answers."""
        if method in self.broken:
            raise ApiError(f"{method} {path}: refused by the test", self.broken[method])
        *_parts, kind, name = path.split("/")
        if path.startswith("/api/v1/nodes"):
            return json.dumps(self._node(method, name if kind == "nodes" else "", body)).encode()
        if kind == "namespaces":
            labels = {} if path.endswith("/kube-system") else self.labels
            return json.dumps({"metadata": {"labels": labels}}).encode()
        if kind == "statefulsets":
            return json.dumps(self._workload(method, name, body)).encode()
        if "networkpolicies" in {kind, name}:
            return json.dumps(self._policy(method, name, body)).encode()
        if name == "statefulsets":
            return json.dumps({"items": [self._workload("GET", one, None) for one in self.sets]}).encode()
        return self._of_pods(method, path, body)

    def _of_pods(self, method: str, path: str, body: Any) -> bytes:
        *_parts, kind, name = path.split("/")
        if method == "POST":
            return self._evict(kind, body["deleteOptions"])
        if method == "DELETE":
            return self._delete(name, body)
        if "/namespaces/monitoring/" in path:
            return json.dumps({"items": [self.witness]}).encode()
        if name == "pods":
            return json.dumps({"items": list(self.pods.values())}).encode()
        if name not in self.pods:
            raise ApiError(f"{path}: 404 not found", 404)
        return json.dumps(self.pods[name]).encode()

    def _node(self, method: str, host: str, body: Any) -> dict[str, Any]:
        if not host:
            return {"items": list(self.nodes.values())}
        if host not in self.nodes:
            raise ApiError(f"{host}: 404 not found", 404)
        if method == "PATCH":
            self.nodes[host] = merged(self.nodes[host], body)
        return self.nodes[host]

    def _evict(self, name: str, options: dict[str, Any]) -> bytes:
        pod = self.pods.get(name)
        if pod is None or pod["metadata"]["uid"] != options["preconditions"]["uid"]:
            raise ApiError(f"{name}: another", 409)
        mates = [one for other, one in self.pods.items() if other.rpartition("-")[0] == name.rpartition("-")[0]]
        if not all(one["status"]["conditions"][0]["status"] == "True" for one in mates):
            raise ApiError(f"{name}: 429 its disruption budget", 429)
        if "dryRun" not in options and self.evicts:
            self.pods[name] = self._made(name, "", number=2, ready=False)
        return b"{}"

    def run(self, _namespace: str, pod: str, _container: str, argv: Sequence[str]) -> str:
        """What a command in a pod prints: of connections, or what members say."""
        return "\n".join(self._connection(pod, to) for to in argv[3:]) if argv[0] == "python3" else self.said

    def _connection(self, via: str, to: str) -> str:
        address = to.partition(":")[0]
        there = {pod["status"]["podIP"]: name for name, pod in self.pods.items()} | dict.fromkeys(self.kept_ports, "x")
        if address not in there:
            return "no route to host"
        return "timed out" if self.enforces and self._denies(via, there[address]) else "accepted"

    def _denies(self, via: str, to: str) -> bool:
        """Whether a policy lets nothing out from one component to another; all are in one namespace here."""
        for spec in (policy["spec"] for policy in self.policies.values()):
            labels = spec["podSelector"].get("matchLabels", {})
            (others,) = spec["egress"][1]["to"][0]["podSelector"]["matchExpressions"]
            if labels.get("app.kubernetes.io/component", _component(via)) == _component(via):
                return _component(to) in others["values"]
        return False

    def _policy(self, method: str, name: str, body: Any) -> dict[str, Any]:
        if method == "POST":
            self.policies[body["metadata"]["name"]] = body
        elif name == "networkpolicies":
            return {"items": list(self.policies.values())}
        elif name not in self.policies:
            raise ApiError(f"{name}: 404 not found", 404)
        elif method == "DELETE":
            self.policies.pop(name)
        return {} if method in {"POST", "DELETE"} else self.policies[name]

    def _delete(self, name: str, options: dict[str, Any]) -> bytes:
        pod = self.pods.get(name)
        if pod is None:
            raise ApiError(f"{name}: 404 not found", 404)
        if pod["metadata"]["uid"] != options["preconditions"]["uid"]:
            raise ApiError(f"{name}: another", 409)
        if self.deletes and options["gracePeriodSeconds"]:
            self.ending[name] = 2
        elif self.deletes:
            self._end(name)
        return b"{}"

    def _end(self, name: str) -> None:
        self.gone[name] = int(self.pods.pop(name)["metadata"]["uid"][-1]) + 1

    def _scale(self) -> None:
        """Every StatefulSet that was asked for gets as many pods as it is to keep."""
        for workload, found in self.sets.items() if self.scales else ():
            found["status"]["observedGeneration"] = found["metadata"]["generation"]
            keeps = found["spec"]["replicas"]
            for name in [name for name in self.homes if name.rpartition("-")[0] == workload]:
                if int(name[-1]) >= keeps:
                    self.pods.pop(name, None)
                elif name not in self.pods:
                    self.pods[name] = self._made(name, self.homes[name], number=2, ready=self.starts)

    def _workload(self, method: str, name: str, body: Any) -> dict[str, Any]:
        mine = sorted(pod for pod in self.pods if pod.rpartition("-")[0] == name)
        if name not in self.sets and mine:
            metadata = {"name": name, "namespace": "a", "generation": 2}
            self.sets[name] = {
                "metadata": metadata, "spec": {"replicas": len(mine)}, "status": {"observedGeneration": 2}
            }  # fmt: skip
        if name not in self.sets:
            raise ApiError(f"{name}: 404 not found", 404)
        if method == "PATCH":
            self.sets[name] = merged(self.sets[name], body)
            self.sets[name]["metadata"]["generation"] += 1
            self.restarts = mine if "template" in body.get("spec", {}) else self.restarts
        left, ready = len(self.restarts), [pod for pod in mine if is_ready(self.pods[pod])]
        revisions = {"currentRevision": "1" if left else "2", "updateRevision": "2"}
        counted = {"replicas": len(mine), "updatedReplicas": len(mine) - left, "readyReplicas": len(ready)}
        return merged(self.sets[name], {"status": {**counted, **revisions}})

    def _free(self, name: str) -> str:
        """Where a pod may start; "" for none."""
        home = self.homes[name]
        hosts = [home] if name.startswith("redis") else self.HOSTS
        return next((host for host in hosts if not self.nodes[host]["spec"].get("unschedulable")), "")

    def _made(self, name: str, host: str, *, number: int, ready: bool = True) -> dict[str, Any]:
        told = f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
        running = {"running": {"startedAt": told}} if host else {"waiting": {}}
        metadata = {"name": name, "namespace": "a", "uid": f"uid-{name}-{number}", "creationTimestamp": told}
        ip = f"10.244.{number}.{name[-1]}"
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        return {
            "metadata": metadata, "spec": {"nodeName": host} if host else {},
            "status": {
                "podIP": ip if host else "", "conditions": conditions, "containerStatuses": [{"state": running}],
            },
        }  # fmt: skip


def _component(name: str) -> str:
    return name.split("-", maxsplit=1)[0]


def merged(item: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """An object changed by a JSON merge patch."""
    new = {**item}
    for key, value in change.items():
        if isinstance(value, dict):
            new[key] = merged(new.get(key, {}), value)
        elif value is None:
            new.pop(key, None)
        else:
            new[key] = value
    return new


class FakeLease:
    """The API of a cluster that has one object at most, and counts its versions as a real one does."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.away = False

    def call(self, method: str, path: str, _query: Mapping[str, str], body: Any) -> bytes:
        if self.away:
            raise ApiError(f"{method} {path}: away", 0)
        if method == "POST" and self.lease is not None:
            raise ApiError(f"{path}: exists", 409)
        if method != "POST" and self.lease is None:
            raise ApiError(f"{method} {path}: none", 404)
        if method == "PUT" and body["metadata"].get("resourceVersion") != str(self.version):
            raise ApiError(f"{path}: somebody was quicker", 409)
        if method in {"POST", "PUT"}:
            self.version += 1
            self.lease = body | {"metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        if method == "DELETE":
            self.lease = None
        return json.dumps(self.lease or {}).encode()


class FakeConfigMap:
    """An API server with one ConfigMap, that can be got and patched; ``away``: calls that fail first."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.there = True
        self.away = 0

    def call(self, method: str, path: str, _query: Mapping[str, str], body: Any) -> bytes:
        if self.away:
            self.away -= 1
            raise ApiError(f"{method} {path}: away", 0)
        if not self.there:
            raise ApiError(f"{method} {path}: 404 not found", 404)
        if method == "PATCH":
            self.data |= body["data"]
        return json.dumps({"data": self.data}).encode()


class FakeMachine:
    """The machine under the nodes, that answers at once; ``away``: questions that it does not answer first."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  # (command, injection)
        self.told: dict[str, dict[str, Any]] = {}  # what it was told to apply, by injection
        self.requests: dict[str, dict[str, Any]] = {}  # what it was last asked, by command
        self.started_at: dict[str, str] = {}
        self.away = 0
        self.sees = True  # whether what it sees is as it has to be
        self.longest_s = 0.0  # that anybody wanted to wait for an answer

    def ask(self, command: str, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        self.longest_s = max(self.longest_s, timeout_s)
        name = request["injection"]["id"] if command == "apply" else request.get("id", "")
        self.asked.append((command, name))
        self.requests[command] = dict(request)
        if self.away:
            self.away -= 1
            raise StackError("nobody is there")
        if command == "apply":
            self.told[name] = dict(request)
            return {"began_ns": 7_000, "applied_ns": 8_000}
        if command == "open":
            return {"open": sorted(self.told)}
        if name not in self.told:
            return {"unknown": True}
        seen = {"what": "container hf-worker", "expected": "x", "observed": "x", "ok": self.sees}
        answer = {"parts": self.told[name]["parts"], "evidence": [seen]}
        if command == "undo":
            answer |= {"began_ns": 8_500, "healed_ns": 9_000, "by": "request", "does": True}
            answer |= {"started_at": self.started_at}
        return answer

    def hosts_of(self, injection_id: str) -> tuple[str, ...] | None:
        if injection_id not in self.told:
            return None
        steps = self.told[injection_id]["injection"]["steps"]
        return tuple(node["host"] for step in steps for node in step.get("nodes", ()))


class FakeRecords:
    """A pod that hands out a folder; ``spoil`` may change an answer or raise, by the number of the question."""

    def __init__(
        self,
        folder: Path,
        content: Mapping[str, bytes],
        spoil: Callable[[int, str], str] = lambda _number, answer: answer,
    ) -> None:
        self.folder = folder
        self.spoil = spoil
        self.asked: list[tuple[str, ...]] = []
        for name, text in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)

    def ask(self, argv: tuple[str, ...]) -> str:
        words = argv[len(MODULE) :]
        self.asked.append(words)
        if words[0] == "list":
            answer = json.dumps(listed(self.folder))
        else:
            answer = packed(self.folder / words[2], int(words[3]), int(words[4]))
        return self.spoil(len(self.asked), answer)


class FakeRunnerPod:
    """A cluster in which the runner's pod says more at each look, and ends with the last one."""

    def __init__(self, logs: Sequence[str | ApiError], code: int) -> None:
        self.logs = list(logs)
        self.code = code

    def call(self, _method: str, path: str, _query: Mapping[str, str], _body: Any) -> bytes:
        if path.endswith("/log"):
            said = self.logs.pop(0)
            if isinstance(said, ApiError):
                raise said
            return said.encode()
        state = {"running": {}} if len(self.logs) > 1 else {"terminated": {"exitCode": self.code}}
        status = {"phase": "Running", "containerStatuses": [{"name": "runner", "state": state}]}
        return json.dumps({"status": status}).encode()


class FakeStaging(Staging):
    """A run in a cluster that ends as the test says; ``fails``: what a step raises the first time, by its name."""

    def __init__(
        self,
        *,
        code: int = 0,
        missing: Sequence[str] = (),
        fails: Mapping[str, BaseException] | None = None,
        lost: str = "",
    ) -> None:
        self.code = code
        self._lost = lost
        self.missing = list(missing)
        self.fails = dict(fails or {})
        self.done: list[str] = []
        self.files: dict[str, str] = {}

    def start(self, image: str, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        self._step("start", image)

    def follow(self) -> int:
        self._step("follow")
        return self.code

    def interrupt(self, number: int) -> None:
        self._step("interrupt", str(number))

    def end_loads(self) -> None:
        self._step("end_loads")

    def fetch(self, directory: Path) -> list[str]:
        assert directory.is_dir()
        self._step("fetch")
        return self.missing

    def end(self) -> None:
        self._step("end")

    def _step(self, name: str, *words: str) -> None:
        self.done.append(" ".join((name, *words)))
        if name in self.fails:
            raise self.fails.pop(name)


class FakeRuns:
    """Runs that end as the test says, in order; an error is raised."""

    def __init__(self, ends: Sequence[Ended | HostError]) -> None:
        self.wanted: list[Wanted] = []
        self.said: list[str] = []
        self._ends = list(ends)

    def __call__(self, wanted: Wanted) -> Ended:
        self.wanted.append(wanted)
        ended = self._ends.pop(0)
        if isinstance(ended, HostError):
            raise ended
        return ended


class FakePeer:
    """Somebody that a witness talks to; it is also each connection to it.

    ``answers_after_s``: how long it takes with each question; the last counts for all others, without any it is silent.
    """

    def __init__(self, answers_after_s: Sequence[float]) -> None:
        self.answers_after_s = list(answers_after_s)
        self.accepts = True
        self.closed = 0

    def is_heard(self, timeout_s: float) -> bool:
        """Whether the next question is answered in that time."""
        if not self.answers_after_s:
            return False
        took_s = self.answers_after_s.pop(0) if len(self.answers_after_s) > 1 else self.answers_after_s[0]
        return took_s <= timeout_s

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class FakeResolver(AbstractResolver):
    """A name service that says of every name what it is told to."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def resolve(self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET) -> list[Any]:
        return [{"hostname": host, "host": self.address, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is kept open."""
