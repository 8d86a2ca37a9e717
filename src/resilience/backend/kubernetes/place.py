"""The place of a run in a cluster: the runner's pod on the observer node, from which members are reached by address."""

import os
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from resilience.backend.base import MemberState, Say
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api, ApiError
from resilience.backend.kubernetes.calling import caller_of_pod, trips_from_pod
from resilience.backend.kubernetes.ends import EndsWatch
from resilience.backend.kubernetes.mailbox import Mailbox
from resilience.backend.kubernetes.manifests import MEMBER, PLATFORM_NODES
from resilience.backend.kubernetes.neighbour import Neighbour
from resilience.backend.kubernetes.platform import KubernetesPlatform, ready_nodes, secret_in
from resilience.backend.kubernetes.readiness import reasons
from resilience.backend.kubernetes.workload import BESIDE_DIR, NAMESPACE, POD_UID, SECRET_DIR, STATE, load_job
from resilience.errors import StackError
from resilience.spec.stack import GENERATORS, Stack

_STACK_FILE = "stack.json"
_LOG = "server.log"  # of a member, in its folder
_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"


def is_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process stands in a runner's pod."""
    return POD_UID in environment


def servers(states: Iterable[MemberState]) -> tuple[MemberState, ...]:
    """The members that are servers: how a load's client ends is told by the load itself."""
    return tuple(state for state in states if state.component not in GENERATORS)


class PlacePlatform(KubernetesPlatform):
    """The stack, in the hands of the runner in its pod; see `backend.base.OwnedPlatform`."""

    def __init__(self, api: Api, stack: Stack, agents: Agents, *, log_dir: Path, say: Say) -> None:
        """``log_dir`` gets the members' logs at the end; ``say`` hears of their ends and starts (event ``member``)."""
        super().__init__(api, stack, _secret, agents=agents)
        self._log_dir = log_dir
        self._started: list[str] = []
        self._watch = EndsWatch(
            lambda: servers(self.states()), say, lambda: ready_nodes(api.items("/api/v1/nodes", PLATFORM_NODES))
        )

    def watch(self) -> None:
        """Tells of members' ends and starts from now on. Raises `StackError`."""
        self._watch.start()

    @property
    def runner_address(self) -> str:
        """The pod's own: its load may stand on another node, and so under another kernel."""
        return socket.gethostbyname(socket.gethostname())

    def run_beside(self, name: str, argv: Sequence[str], log: Path) -> Neighbour:
        """Starts a command as the job of a load's member; returns once it runs. Raises `StackError`."""
        component = self.stack.member(name).component
        if component not in GENERATORS:
            raise StackError(f"{name}: the stack has no member of that name for a load generator")
        folder = Path(BESIDE_DIR, name)
        shutil.rmtree(folder, ignore_errors=True)
        self._started.append(name)
        processes = len(self.stack.of(component))
        self._api.create(_JOBS, load_job(name, component, argv, str(log), os.environ, processes=processes))
        neighbour = Neighbour(name, folder)
        neighbour.wait_started(lambda: self._why_not(name))
        return neighbour

    def secret_file(self, name: str) -> Path:
        """The file that holds a secret of the stack, as such a command can read it."""
        return Path(SECRET_DIR, name)

    def down(self) -> None:
        """Ends what this run has added; the stack itself stays up. Raises `ExceptionGroup`, when all was tried."""
        problems: list[Exception] = []
        steps = [self._watch.stop, *map(self._ending, self._started)]
        try:
            steps = [*map(self._log_of, servers(self.states())), *steps]
        except StackError as error:
            problems.append(error)
        for step in steps:
            try:
                step()
            except (StackError, OSError) as error:
                problems.append(error)
        if problems:
            raise ExceptionGroup("what the run added to the cluster could not be ended cleanly", problems)

    def _ending(self, job: str) -> Callable[[], None]:
        return lambda: self._api.delete(f"{_JOBS}/{job}")

    def _log_of(self, state: MemberState) -> Callable[[], None]:
        def save() -> None:
            handle = state.handle
            if not handle:
                return
            folder = self._log_dir / state.name
            folder.mkdir(exist_ok=True)
            path = f"/api/v1/namespaces/{handle['namespace']}/pods/{handle['pod']}/log"
            before = self._last_words(path, handle["container"]) if state.restarts else ""
            whole = folder / f"{_LOG}.part"  # a disk that is full leaves half of it, which nobody is to take for all
            whole.write_text(before + self._api.text(path, container=handle["container"]))
            whole.replace(folder / _LOG)

        return save

    def _last_words(self, path: str, container: str) -> str:
        """What the server said that ran before the one that runs now; of those before nothing is kept."""
        try:
            return self._api.text(path, container=container, previous="true")
        except ApiError as error:
            return f"what the server before said cannot be had: {error}\n"

    def _why_not(self, name: str) -> str:
        try:
            return reasons(self._api, self._api.items(f"/api/v1/namespaces/{NAMESPACE}/pods", f"{MEMBER}={name}"))
        except ApiError as error:
            return str(error)


class PlaceBackend:
    """The stack that stands in the cluster of this pod; see `backend.base.Backend`."""

    name = "kind"

    def __init__(self, say: Say) -> None:
        """``say`` hears of members' starts and ends (event ``member``)."""
        self.state = Path(STATE)
        self._say = say

    def up(self, stack: Stack, log_dir: Path) -> PlacePlatform:
        """The stack, which was brought up from outside before this pod was made. Raises `StackError`."""
        (self.state / _STACK_FILE).write_bytes(msgspec.json.encode(stack))
        api = Api.of_pod()
        platform = PlacePlatform(api, stack, _agents(api), log_dir=log_dir, say=self._say)
        platform.watch()
        return platform


def attach(state: Path) -> KubernetesPlatform:
    """The stack for another process in the runner's pod. Raises `StackError` without one."""
    try:
        stack = msgspec.json.decode((state / _STACK_FILE).read_bytes(), type=Stack)
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(f"{state / _STACK_FILE}: no stack: {error}") from error
    api = Api.of_pod()
    return KubernetesPlatform(api, stack, _secret, agents=_agents(api))


def _agents(api: Api) -> Agents:
    return Agents(api, caller_of_pod(), trips=trips_from_pod(), machine=Mailbox(api))


def _secret(name: str) -> str:
    return secret_in(Path(SECRET_DIR))(name).strip()
