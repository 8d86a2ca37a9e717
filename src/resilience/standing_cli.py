"""The commands about a stack to look at: what they are called with, and what they print."""

import codecs
import os
import re
import sys
import time
from argparse import REMAINDER, ArgumentTypeError
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from resilience import cluster_cli, cluster_plan, supervise, upkeep
from resilience.backend.base import MemberState
from resilience.backend.choice import DEFAULT, NAMED
from resilience.backend.local.paper import PaperPlatform
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.docker import KIND
from resilience.backend.named import FILE
from resilience.controlled import control_plan
from resilience.errors import SpecError, StackError
from resilience.outside import require_possible
from resilience.plan import Ground, fault_plan, fault_plan_on
from resilience.report.plan import FaultPlan, plan_screen
from resilience.report.progress import Steps
from resilience.report.standing import doors_text, status_screen
from resilience.report.terminal import can_move, console_for, plain
from resilience.report.text import visible
from resilience.runner import in_sandbox, require_known_checks
from resilience.spec.convert import did_you_mean
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack
from resilience.stack.postgresql_role import PostgresqlRole
from resilience.stack.rabbitmq_view import QueueRole
from resilience.stack.redis_role import RedisRole
from resilience.standing import ASK_TIMEOUT_S, Asked, Post, Standing, down, life_s, refuse_second, require_standing, up
from resilience.standing import supervise as supervise_stack

LOOK_EVERY_S = 0.25
_MEMBER = "a name that 'resilience status' shows"
_PIECE_BYTES_MAX = 65_536

Add = Callable[[str, Callable[[Any], int], str], Any]  # name, what it does, what it says of itself: its parser


def add_plan(add: Add) -> None:
    """Adds ``plan``."""
    plan = add("plan", _plan, "what a run would do, and to whom, without doing it")
    _add_scenario(plan)
    _add_stack(plan)
    reports = PROJECT_ROOT / "reports"
    plan.add_argument("--reports", type=Path, default=reports, metavar="DIR", help="where a control is looked for")


def add_standing(add: Add) -> None:
    """Adds the commands about a stack that stays up."""
    bring = add("up", _up, "bring a stack up to look at, and keep it up; returns when it is ready")
    _add_scenario(bring, default="baseline")
    _add_stack(bring)
    bring.add_argument("--for", metavar="TIME", dest="life", default="8h", help="until it ends itself (default: 8h)")
    bring.add_argument("--port-prometheus", type=_port, default=0, metavar="PORT", help="default: a free one")
    bring.add_argument("--port-edge", type=_port, default=0, metavar="PORT", help="of the first edge; the next follow")
    bring.add_argument("--share", action="store_true", help="do not wait for runs on this machine")
    bring.add_argument(
        "--break-lock", action="store_true", help="take a cluster from whoever has been silent for too long"
    )
    bring.add_argument("--foreground", action="store_true", help="stay in the foreground until Ctrl-C")
    _add_stack(add("down", _down, "end the stack that is up; harmless if there is none"))
    status = add("status", _status, "the stack that is up: addresses, members, roles, what is injected, time left")
    _add_stack(status)
    logs = add(
        "logs",
        _logs,
        "what a member's server wrote; a terminal is shown control characters as text, a pipe gets the bytes",
    )
    logs.add_argument("member", metavar="MEMBER", help=_MEMBER)
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what it writes, until Ctrl-C")
    logs.add_argument("--lines", type=_count, default=50, metavar="N", help="how many of the last lines (default: 50)")
    execute = add("exec", _exec, "run a command in a member, e.g. exec redis-cluster-0 -- redis-cli cluster nodes")
    execute.add_argument("member", metavar="MEMBER", help=_MEMBER)
    execute.add_argument("argv", nargs=REMAINDER, metavar="-- COMMAND …", help="its exit code is handed on")


def _add_stack(parser: Any) -> None:
    add_stack(parser, "where it runs")


def add_stack(parser: Any, what: str) -> None:
    """Adds ``--stack``; in a cluster a stack stays up until it is ended."""
    words = f"{what}: local, kind, or kubernetes:NAME of your {FILE} (default: {DEFAULT})"
    parser.add_argument("--stack", type=_where, default=DEFAULT, metavar="WHERE", help=words)


def in_cluster(where: str) -> bool:
    """Whether what people ask for by this stands in a cluster."""
    return where != DEFAULT


def _where(text: str) -> str:
    if text not in {DEFAULT, KIND} and not re.fullmatch(rf"{NAMED}:[^\s:]+", text):
        raise ArgumentTypeError(f"expected local, kind or {NAMED}:NAME (got {text[:40]!r})")
    return text


def _add_scenario(parser: Any, default: str = "") -> None:
    """What names a scenario and changes it."""
    text = "a name that 'resilience list' shows, or a file"
    if default:
        parser.add_argument(
            "scenario", metavar="SCENARIO", nargs="?", default=default, help=f"whose stack: {text} (default: {default})"
        )
    else:
        parser.add_argument("scenario", metavar="SCENARIO", help=text)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="change a field, e.g. durability=wait:1, redis.cluster_node_timeout_ms=2000",
    )


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65_535:
        raise ArgumentTypeError(f"expected a port (got {text[:20]!r})")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ArgumentTypeError(f"expected a number of lines (got {text[:20]!r})")
    return int(text)


def _scenario(arguments: Any) -> Scenario:
    scenario = read_scenario(PROJECT_ROOT, arguments.scenario, tuple(arguments.overrides))
    require_known_checks(scenario)
    return scenario


# --- plan ------------------------------------------------------------------------------------------------------------


def _plan(arguments: Any) -> int:
    scenario = _scenario(arguments)
    faults = [_plan_in_cluster(scenario, arguments.stack)] if in_cluster(arguments.stack) else _plans_here(scenario)
    control = control_plan(scenario, arguments.reports, arguments.stack)
    console_for(sys.stdout).print(plan_screen(scenario, [fault for fault in faults if fault], control))
    return 0


def _plan_in_cluster(scenario: Scenario, where: str) -> FaultPlan | None:
    require_possible(scenario, where)
    return cluster_plan.fault_plan(scenario, where)


def _plans_here(scenario: Scenario) -> list[FaultPlan | None]:
    known = f"in a run of its own, by the placement and the first roles of its stack file ({scenario.stack.name})"
    return [fault_plan(scenario, known), _plan_on_standing(scenario)]


def _plan_on_standing(scenario: Scenario) -> FaultPlan | None:
    """The same on the stack that is up, by its members and roles at this moment; None where none is up."""
    post = Post.of_user()
    if post.standing() is None:
        return None
    known = "on the stack that is up, by its members and roles at this moment"
    try:
        look = post.ask({"do": "look"}, timeout_s=ASK_TIMEOUT_S)
    except StackError as error:
        return FaultPlan(known=known, nothing=str(error))
    states = msgspec.convert(look["states"], tuple[MemberState, ...])
    roles = msgspec.convert(look["roles"], tuple[RedisRole, ...])
    others = msgspec.convert(look["postgresql"], tuple[PostgresqlRole, ...])
    queue_roles = msgspec.convert(look["queues"], tuple[QueueRole, ...])
    platform = PaperPlatform(msgspec.convert(look["stack"], Stack), states)
    ground = Ground(platform=platform, roles=(*roles, *others), queue_roles=queue_roles, known=known)
    return fault_plan_on(scenario, ground)


# --- up and down -----------------------------------------------------------------------------------------------------


def _up(arguments: Any) -> int:
    scenario = _scenario(arguments)
    if in_sandbox():
        return upkeep.keep_up(scenario, console_for(sys.stdout))
    if in_cluster(arguments.stack):
        return cluster_cli.up(scenario, break_lock=arguments.break_lock, where=arguments.stack)
    asked = Asked(
        life_s=life_s(arguments.life),
        port_prometheus=arguments.port_prometheus,
        port_edge=arguments.port_edge,
        share=arguments.share,
    )
    refuse_second(Post.of_user())
    image = supervise.image_root()
    named = [arguments.scenario, *(word for override in arguments.overrides for word in ("--set", override))]
    if arguments.foreground:
        return supervise_stack(scenario, asked, image, named)
    console = console_for(sys.stderr)
    with Steps(console, time.monotonic, moving=can_move(console, os.environ)).step("bringing the stack up") as step:
        standing = up([*named, *_asked_again(arguments)], step.say)
    _say_up(standing, arguments.life)
    return 0


def _asked_again(arguments: Any) -> list[str]:
    again = ["--for", arguments.life]
    again += ["--port-prometheus", str(arguments.port_prometheus)] if arguments.port_prometheus else []
    again += ["--port-edge", str(arguments.port_edge)] if arguments.port_edge else []
    return [*again, "--share"] if arguments.share else again


def _say_up(standing: Standing, life: str) -> None:
    console = console_for(sys.stdout)
    console.print(doors_text(standing.doors))
    console.print(plain(f"the stack is up and ends itself in {life}; 'resilience status' shows it,"
                        " 'resilience down' ends it"), soft_wrap=True)  # fmt: skip


def _down(arguments: Any) -> int:
    if in_cluster(arguments.stack):
        return cluster_cli.down(arguments.stack)
    ended = down()
    text = "no stack is up" if ended is None else f"ended the stack {ended.stack} ({ended.scenario})"
    print(visible(text))  # noqa: T201
    return 0


def notice() -> str:
    """What a run should tell of a stack that is up beside it; "" if there is none."""
    standing = Post.of_user().standing()
    if standing is None:
        return ""
    return "a stack is up and takes its share of this machine's cores ('resilience down' ends it)"


# --- looking ---------------------------------------------------------------------------------------------------------


def _status(arguments: Any) -> int:
    if in_cluster(arguments.stack):
        return cluster_cli.status(read_scenario(PROJECT_ROOT, "baseline").stack, arguments.stack)
    post, standing = require_standing()
    look = post.ask({"do": "look"}, timeout_s=ASK_TIMEOUT_S)
    facts = {"stack": standing.stack, "scenario": standing.scenario, "since_utc": standing.since_utc}
    console_for(sys.stdout).print(status_screen(facts, standing.doors, look))
    return 0


def _exec(arguments: Any) -> int:
    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not argv:
        raise SpecError(f"exec: expected a command: resilience exec {arguments.member} -- COMMAND …")
    post, _ = require_standing()
    _require_member(post, arguments.member)
    request = {"do": "exec", "member": arguments.member, "argv": argv}
    code: int = post.ask(request, streams=(0, 1, 2))["exit"]
    return code


def _logs(arguments: Any) -> int:
    post = Post.of_user()
    log = _log_of(post, arguments.member)
    if post.standing() is None:
        print("no stack is up; this is what the last one left", file=sys.stderr)  # noqa: T201
    show = _shown_as_text() if sys.stdout.isatty() else _as_it_is
    with log.open("rb") as file:
        file.seek(_start_of_last(file, arguments.lines))
        _copy(file, show)
        while arguments.follow and post.standing():
            time.sleep(LOOK_EVERY_S)
            _copy(file, show)
    return 0


def _log_of(post: Post, member: str) -> Path:
    """The member's log. Raises `SpecError` for a name that no member has, `StackError` where nothing was written."""
    _require_member(post, member)
    log = post.members / member / "server.log"
    if not log.exists():
        raise StackError(f"{member}: its server has not been started, so it has written nothing")
    return log


def _require_member(post: Post, member: str) -> None:
    names = sorted(path.name for path in post.members.iterdir()) if post.members.is_dir() else []
    if not names:
        raise StackError("no stack is up, nor are there logs of one; 'resilience up' brings one up")
    if member not in names:
        suggestion = did_you_mean(member, names) or "; 'resilience status' lists them"
        raise SpecError(f"no member is called {member[:40]!r}{suggestion}")


def _start_of_last(file: BinaryIO, count: int) -> int:
    """Where the last lines of a file begin, however long they are."""
    starts, position, ended = deque[int](maxlen=count), 0, True
    for piece in _pieces(file):
        if ended:
            starts.append(position)
        position, ended = position + len(piece), piece.endswith(b"\n")
    return starts[0] if starts else position


def _copy(file: BinaryIO, show: Callable[[bytes], None]) -> None:
    for piece in _pieces(file):
        show(piece)
    sys.stdout.flush()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """What is left of a file: lines, those that are very long in several pieces."""
    return iter(partial(file.readline, _PIECE_BYTES_MAX), b"")


def _as_it_is(piece: bytes) -> None:
    """To a file or another program go the very bytes, as from `ls`: it may search in them or store them."""
    sys.stdout.buffer.write(piece)


def _shown_as_text() -> Callable[[bytes], None]:
    """To a terminal goes text that cannot control it; a character may begin in one piece and end in the next."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def show(piece: bytes) -> None:
        text = decoder.decode(piece)
        line, end = text.removesuffix("\n"), "\n" if text.endswith("\n") else ""
        sys.stdout.write(visible(line) + end)

    return show
