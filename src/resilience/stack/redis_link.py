"""Connections to Redis members for the harness's own questions: raw answers, a time-out on all, no hidden retry."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.spec.stack import PORTS

Command = tuple[str | int, ...]
Answers = list[Any] | StackError  # one raw answer for each command, or why there is none


class RedisLink:
    """One member's connection; it is opened by the first question, and again after an error by the next."""

    def __init__(self, member: str, address: str, password: str, timeout_s: float) -> None:
        """``timeout_s`` holds for connecting and for each answer; nothing is opened here."""
        self.member = member
        self._client = Redis(
            host=address,
            port=PORTS["redis"],
            password=password,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            decode_responses=True,
            encoding_errors="backslashreplace",
        )
        # Answers are read as the server sent them: redis-py's own shapes differ from version to version.
        self._client.response_callbacks.clear()

    def ask(self, *commands: Command) -> list[Any]:
        """Sends commands in one go and returns their raw answers.

        Raises `StackError` if the member cannot be asked, or answers any of them with an error.
        """
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            return pipeline.execute()
        except (RedisError, OSError) as error:
            # The class says what redis-py cuts off the text of some errors (MOVED).
            raise StackError(f"{self.member}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Closes the connection; a later question would open it again."""
        self._client.close()
        self._client.connection_pool.disconnect()


class RedisLinks:
    """Links to all Redis members of a platform, which are asked at the same time."""

    def __init__(self, platform: Platform, timeout_s: float = 1.0) -> None:
        """Takes the members' addresses from the platform now; connects when it first asks."""
        self.stack = platform.stack
        self.hosts = {state.name: state.address for state in platform.states() if state.component == "redis"}
        password = platform.secret("redis-password")
        self._links = {name: RedisLink(name, host, password, timeout_s) for name, host in self.hosts.items()}
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self._links)), thread_name_prefix="redis-link")

    def link(self, member: str) -> RedisLink:
        """The link to one member. Raises `KeyError` if there is no such Redis member."""
        return self._links[member]

    def ask(self, commands: Mapping[str, Sequence[Command]]) -> dict[str, Answers]:
        """Asks each of these members its own commands; a member that cannot answer costs no more than a time-out."""
        futures = {name: self._pool.submit(self._answers, name, todo) for name, todo in commands.items()}
        return {name: future.result() for name, future in futures.items()}

    def ask_each(self, *commands: Command) -> dict[str, Answers]:
        """Asks every member the same commands."""
        return self.ask(dict.fromkeys(self._links, commands))

    def _answers(self, member: str, commands: Sequence[Command]) -> Answers:
        try:
            return self._links[member].ask(*commands)
        except StackError as error:
            return error

    def close(self) -> None:
        """Closes all connections."""
        self._pool.shutdown()
        for link in self._links.values():
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
