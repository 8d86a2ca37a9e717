"""What a Job that forms something from within a Kubernetes cluster has in common with the others: how it is called."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.platform import KubernetesPlatform, secret_in
from resilience.errors import HarnessError, SpecError
from resilience.spec.stack import Stack
from resilience.stack.wait import wait_until

Say = Callable[[str], None]
Form = Callable[[Stack, Api, Path, float, Say], None]  # the password's file, an instant of `time.monotonic`


def run(name: str, form: Form, argv: Sequence[str] | None = None) -> int:
    """Forms what ``name`` stands for, as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"resilience.{name}")
    parser.add_argument("--stack", type=Path, required=True, help="the stack file, as JSON")
    parser.add_argument("--password", type=Path, required=True, help="the file that holds the servers' password")
    parser.add_argument("--within", type=float, default=120.0, help="seconds that it may take")
    arguments = parser.parse_args(argv)
    try:
        form(read_stack(arguments.stack), Api.of_pod(), arguments.password, time.monotonic() + arguments.within, _say)
    except HarnessError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def read_stack(path: Path) -> Stack:
    """The stack of a file. Raises `SpecError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Stack)
    except (OSError, msgspec.MsgspecError) as error:
        raise SpecError(f"{path}: no stack: {error}") from error


def platform_with(stack: Stack, api: Api, password: Path, namespace: str) -> KubernetesPlatform:
    """The part of a stack that stands in one namespace, and its password."""

    def secret(_name: str) -> str:
        return secret_in(password.parent)(password.name).strip()

    return KubernetesPlatform(api, stack, secret, (namespace,))


def wait_pods(platform: KubernetesPlatform, component: str, what: str, deadline: float) -> None:
    """Waits until every member of a component runs. Raises `StackError` that says which do not."""

    def missing() -> str:
        late = [state.name for state in platform.states() if state.component == component and not state.running]
        return f"no running pod for {', '.join(late)}" if late else ""

    wait_until(f"the {what} members' pods", missing, deadline=deadline, every_s=0.5)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
