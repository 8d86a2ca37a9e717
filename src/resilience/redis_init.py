"""``python -m resilience.redis_init``: forms the Redis Cluster from within a Kubernetes cluster (a Job).

It waits for the members' pods, pairs them across nodes, forms what is not formed and waits until the cluster is ready;
run again it looks, and does what is missing.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.platform import KubernetesPlatform, secret_in
from resilience.errors import HarnessError, SpecError
from resilience.spec.stack import Shard, Stack
from resilience.stack import redis_cluster
from resilience.stack.wait import wait_until


def main(argv: Sequence[str] | None = None) -> int:
    """Forms the cluster; returns the exit code."""
    parser = argparse.ArgumentParser(prog="resilience.redis_init")
    parser.add_argument("--stack", type=Path, required=True, help="the stack file, as JSON")
    parser.add_argument("--password", type=Path, required=True, help="the file that holds Redis' password")
    parser.add_argument("--within", type=float, default=120.0, help="seconds that it may take")
    arguments = parser.parse_args(argv)
    try:
        form(read_stack(arguments.stack), Api.of_pod(), arguments.password, time.monotonic() + arguments.within, _say)
    except HarnessError as error:
        print(f"redis_init: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def read_stack(path: Path) -> Stack:
    """The stack of a file. Raises `SpecError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Stack)
    except (OSError, msgspec.MsgspecError) as error:
        raise SpecError(f"{path}: no stack: {error}") from error


def form(stack: Stack, api: Api, password: Path, deadline: float, say: Callable[[str], None]) -> None:
    """Waits for the pods, forms, waits for readiness. Raises `StackError`."""

    def secret(_name: str) -> str:
        return secret_in(password.parent)(password.name).strip()

    platform = KubernetesPlatform(api, stack, secret, ("redis",))

    def missing() -> str:
        late = [state.name for state in platform.states() if state.component == "redis" and not state.running]
        return f"no running pod for {', '.join(late)}" if late else ""

    wait_until("the Redis members' pods", missing, deadline=deadline, every_s=0.5)
    for shard in platform.stack.shards:
        say(f"shard: {', '.join(f'{name} on {platform.stack.member(name).node}' for name in _members(shard))}")
    redis_cluster.form(platform, deadline)
    redis_cluster.wait_ready(platform, deadline)
    say("the cluster is ready")


def _members(shard: Shard) -> tuple[str, ...]:
    return (shard.primary, *shard.replicas)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
