"""The local platform: a stack's members in the sandbox that this process runs in.

`LocalBackend.up` makes an `OwnedLocalPlatform`; another process of the same run opens a `LocalPlatform` on the state
folder and sees the same members.
"""

import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from resilience.backend.base import MemberState, Say
from resilience.backend.local.injector import Injector
from resilience.backend.local.kubelet import Kubelet, Server
from resilience.backend.local.member import Ground, Pod
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.rabbitmq import tool_environment
from resilience.backend.local.secret import write_secret
from resilience.backend.local.server import OWN_CODE, POSTGRESQL_PASSWORD, Site, by_name, prepare
from resilience.backend.local.tool import TIMEOUT_S, call
from resilience.backend.postgresql_settings import DATABASES, databases_ini
from resilience.errors import StackError
from resilience.spec.stack import GENERATORS, PORTS, Stack


class PlatformFile(msgspec.Struct, frozen=True):
    """What stays the same while a platform lives (``platform.json``)."""

    stack: Stack
    ledger: str
    base_ns: int


class LocalPlatform(Injector):
    """A running local stack, seen from any process in its sandbox; see `backend.base.Platform`."""

    def __init__(self, state: Path) -> None:
        """Opens the platform whose state folder this is. Raises `StackError` if there is none."""
        try:
            facts = msgspec.json.decode((state / "platform.json").read_bytes(), type=PlatformFile)
        except OSError as error:
            raise StackError(f"{state}: no stack is up here ({error.strerror})") from error
        super().__init__(state, Path(facts.ledger), facts.base_ns, self.states)
        self.stack = facts.stack

    def states(self) -> tuple[MemberState, ...]:
        """All members, in the order of the stack file."""
        return tuple(self.state(member.name) for member in self.stack.members)

    def state(self, name: str) -> MemberState:
        """One member. Raises `StackError` if there is none of that name."""
        try:
            return msgspec.json.decode((self._state / "members" / f"{name}.json").read_bytes(), type=MemberState)
        except OSError as error:
            raise StackError(f"{name}: no such member is up") from error

    def secret(self, name: str) -> str:
        """A secret of the stack; never to be logged. Raises `StackError` if there is none of that name."""
        try:
            return (self._state / "secrets" / name).read_text()
        except OSError as error:
            raise StackError(f"secret {name}: {error.strerror}") from error

    def secret_file(self, name: str) -> Path:
        """The file that holds a secret."""
        return self._state / "secrets" / name

    def lead_writes(self, pgbouncer: str, primary: str) -> None:
        """See `backend.base.Leading`."""
        text = databases_ini(self.stack, self.stack.member(pgbouncer), by_name, primary)
        place = self._state / "pods" / pgbouncer / "config" / DATABASES
        beside = place.with_suffix(".new")
        beside.write_text(text)
        beside.replace(place)


class MemberProcess:
    """A command that runs in a member; see `backend.base.Process`."""

    def __init__(self, name: str, pod: Pod, process: "subprocess.Popen[bytes]") -> None:
        """Takes over a process that was started in the pod."""
        self.name = name
        self._pod = pod
        self._process = process

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Asks every process of the command to end.

        By SIGTERM: what a shell starts in the background may have been told to ignore SIGINT.
        """
        self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """Waits for its end, kills it after the time-out; the exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.kill()  # what entered the member for it stops when it is stopped, and would not see its end
            return self._process.wait(TIMEOUT_S)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._pod.processes():
            process.signal(number)


class OwnedLocalPlatform(LocalPlatform):
    """The platform in the hands of the process that brought it up."""

    def __init__(self, state: Path, pods: Mapping[str, Pod], kubelet: Kubelet) -> None:
        """Opens the state folder as others do, and keeps what only the owner has."""
        super().__init__(state)
        self._pods = pods
        self._kubelet = kubelet

    @property
    def runner_address(self) -> str:
        """Nobody has to reach the runner for its clock: a sandbox has one kernel."""
        return ""

    def run_beside(self, name: str, argv: Sequence[str], log: Path) -> MemberProcess:
        """Starts a command in a member that has no server of its own (the load's). Raises `StackError`."""
        if name not in self._pods or self.stack.member(name).component not in GENERATORS:
            raise StackError(f"{name}: the stack has no member of that name for a load generator")
        pod = self._pods[name]
        with log.open("ab") as output:
            return MemberProcess(name, pod, pod.start(argv, output, str(PROJECT_ROOT)))

    def enter(self, name: str, argv: Sequence[str], streams: Sequence[int]) -> "subprocess.Popen[bytes]":
        """Starts a person's command in a member, whether its server runs or not. Raises `StackError`.

        ``redis-cli`` and ``psql`` find the stack's passwords in their environment, ``rabbitmqctl`` its cookie.
        """
        if name not in self._pods:
            raise StackError(f"{name}: the stack has no such member; it has {', '.join(self._pods)}")
        return self._pods[name].run(argv, streams, self._environment(self.stack.member(name).component))

    def _environment(self, component: str) -> dict[str, str]:
        """What a person's tools need to get into a member's server."""
        match component:
            case "redis":
                return {"REDISCLI_AUTH": self.secret("redis-password")}
            case "postgresql" | "pgbouncer":
                user = "postgres" if component == "postgresql" else "harmonyflow"
                here = {"PGHOST": "/tmp", "PGPORT": str(PORTS[component])}  # noqa: S108  the socket's folder, its own
                who = {"PGUSER": user, "PGDATABASE": "harmonyflow", "PGPASSWORD": self.secret(POSTGRESQL_PASSWORD)}
                return here | who
            case "rabbitmq":
                return tool_environment()
            case _:
                return {}

    def down(self) -> None:
        """Ends every member; harmless if they are gone. Raises `ExceptionGroup` with all that went wrong."""
        pods = tuple(self._pods.values())
        problems = _try_each([self._kubelet.stop, *_ends(pods), self._kubelet.reap])
        if problems:
            raise ExceptionGroup("the stack could not be ended cleanly", problems)


def _ends(pods: Sequence[Pod]) -> Sequence[Callable[[], None]]:
    return (*(pod.close for pod in pods), partial(_remove_links, {pod.veth for pod in pods}))


def _remove_links(of_pods: AbstractSet[str]) -> None:
    """Most go with their members' networks. A network outlives its member while the kernel sends what a socket of it
    had left, for minutes to a peer that is gone: the next stack's link of that name could not be made so long.
    """
    if left := of_pods & _links():
        try:
            call("ip", "-force", "-batch", "-", text="\n".join(f"link delete {name}" for name in sorted(left)))
        except StackError:  # one that went by itself meanwhile is no problem
            if of_pods & _links():
                raise


def _links() -> AbstractSet[str]:
    return {name for _, name in socket.if_nameindex()}


def _try_each(steps: Sequence[Any]) -> list[Exception]:
    problems = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001  every step of a teardown is tried; all problems are raised together
            problems.append(error)
    return problems


class LocalBackend:
    """Brings stacks up in the sandbox that this process runs in."""

    name = "local"

    def __init__(self, state: Path, image: Path, ledger: Path, base_ns: int, say: Say) -> None:
        """``say`` hears of members' starts and ends (event ``member``)."""
        self.state = state
        self._image = image
        self._ledger = ledger
        self._base_ns = base_ns
        self._say = say

    def up(self, stack: Stack, log_dir: Path) -> OwnedLocalPlatform:
        """Starts all members; returns when their processes run. Raises `StackError`; then nothing is left running."""
        for folder in ("members", "secrets", "holds", "pods", "agent", "archive"):
            (self.state / folder).mkdir(mode=0o755)
        addresses = addresses_of(stack)
        ground = Ground(self.state, self._image, self._write_hosts(addresses), self.state / "archive")
        pods = {
            member.name: Pod(
                member=member,
                address=addresses[member.name],
                number=number,
                ground=ground,
                own_code=member.component in OWN_CODE,
            )
            for number, member in enumerate(stack.members)
        }
        try:
            return self._start(stack, pods, log_dir)
        except BaseException:
            _try_each(_ends(tuple(pods.values())))
            raise

    def _write_hosts(self, addresses: Mapping[str, str]) -> Path:
        hosts = self.state / "hosts"
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        hosts.write_text("\n".join(lines) + "\n")
        call("mount", "--bind", str(hosts), "/etc/hosts")
        return hosts

    def _start(self, stack: Stack, pods: Mapping[str, Pod], log_dir: Path) -> OwnedLocalPlatform:
        site = self._site(stack, {name: pod.address for name, pod in pods.items()})
        _open_pods(list(pods.values()), log_dir)
        servers = [
            Server(
                pod=pod,
                argv=prepare(pod, site),
                cwd=str(PROJECT_ROOT) if pod.own_code else "/",
                log=log_dir / pod.member.name / "server.log",
                holds=self.state / "holds" / pod.member.name,
            )
            for pod in pods.values()
        ]
        kubelet = Kubelet(servers, stack.restart_delay_s, self.state / "members", self._say)
        facts = PlatformFile(stack, str(self._ledger), self._base_ns)
        (self.state / "platform.json").write_bytes(msgspec.json.encode(facts))
        kubelet.start()
        return OwnedLocalPlatform(self.state, pods, kubelet)

    def _site(self, stack: Stack, addresses: Mapping[str, str]) -> Site:
        password = self._secret("redis-password")
        return Site(stack, addresses, password, self._secret_file("redis-password"), self._secret)

    def _secret(self, name: str) -> str:
        """A secret of the stack, made anew for each stack when it is asked for first."""
        file = self._secret_file(name)
        if not file.exists():
            write_secret(file, secrets.token_hex(24))
        return file.read_text()

    def _secret_file(self, name: str) -> Path:
        return self.state / "secrets" / name


def addresses_of(stack: Stack) -> dict[str, str]:
    """An address in 198.18.0.0/16 for each member: the third number is its node's, the fourth counts on the node."""
    places = [*stack.nodes, "observer", "outside"]
    counts = dict.fromkeys(places, 9)
    addresses = {}
    for member in stack.members:
        counts[member.node] += 1
        addresses[member.name] = f"198.18.{places.index(member.node) + 1}.{counts[member.node]}"
    return addresses


def _open_pods(pods: Sequence[Pod], log_dir: Path) -> None:
    logs = {pod.member.name: log_dir / pod.member.name / "init.log" for pod in pods}
    for pod in pods:
        logs[pod.member.name].parent.mkdir(parents=True, exist_ok=True)
        pod.open(logs[pod.member.name])
    for pod in pods:
        pod.wait_open(logs[pod.member.name])
    call("ip", "-batch", "-", text="\n".join(line for pod in pods for line in pod.outer_link_commands()))
    for pod in pods:
        assert pod.init is not None
        inside = ("nsenter", "--target", str(pod.init.pid), "--net", "--", "ip", "-batch", "-")
        call(*inside, text="\n".join(pod.inner_link_commands()))
