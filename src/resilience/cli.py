"""The command ``resilience``: reads its arguments, calls the rooms, turns errors into one line and an exit code.

Exit codes: 0 pass · 1 fail (the platform missed an SLO or lost data) · 2 a file or the command is wrong ·
3 inconclusive · 4 the harness or its stack could not do its work · 130 interrupted · 143 ended by SIGTERM.
"""

import argparse
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args

from rich.console import Console
from rich.table import Table

from resilience import cluster_cli, runner, standing_cli, supervise
from resilience.controlled import controlled
from resilience.errors import HarnessError, SpecError
from resilience.outside import VERDICT_CODES, RunOutside, TakeControl, Wanted, prepared, require_possible
from resilience.report.html import html_page
from resilience.report.store import RunStore, find_run
from resilience.report.suite import suite_code, suite_json, suite_junit, suite_table
from resilience.report.terminal import console_for, one_line, plain
from resilience.report.text import visible
from resilience.spec.read import list_scenarios, read_scenario, read_suite, read_suites
from resilience.spec.scenario import Scenario
from resilience.suite import require_known_findings, run_suite

ROOT = Path(__file__).resolve().parents[2]

_UNTRIED = "not tried, for want of what is marked ✗"
_EXAMPLES = """\
examples:
  resilience list                                        what can be run
  resilience plan redis-failover                         what a run would do, and to whom; does nothing
  resilience run redis-failover                          one run, a verdict, a report
  resilience run redis-partition-primary --set durability=wait:1
  resilience run redis-failover --set timeline.fault_s=40 --seed 7
  resilience up                                          a stack to look at; returns when it is ready
  resilience exec redis-cluster-0 -- redis-cli ping      a command in one of its members
  resilience suite smoke                                 several runs, one table, one exit code
  resilience judge latest                                judge what was recorded once more
  resilience report latest                               render the report of a run once more

exit codes:
  0 pass   1 fail   2 a file or the command is wrong   3 inconclusive (never green)
  4 the harness could not do its work   130 interrupted   143 ended by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    _show_what_cannot_be_encoded()
    try:
        arguments = _parser().parse_args(argv)
        supervise.find_system_tools()
        code: int = arguments.command(arguments)
    except HarnessError as error:
        print(f"resilience: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read this wants no more, as 'head' does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does the interpreter's last flush complain
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001  the last boundary: a fault of ours must never look like a verdict
        print(*map(visible, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)  # noqa: T201
        print(f"resilience: a fault of the harness itself ({type(error).__name__}); please report it", file=sys.stderr)  # noqa: T201
        return HarnessError.exit_code
    return code


def _show_what_cannot_be_encoded() -> None:
    """A terminal or locale that lacks a character gets its number instead of a broken-off command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Parser(argparse.ArgumentParser):
    """A wrong command is one line, as a wrong file is."""

    def error(self, message: str) -> NoReturn:
        """Raises `SpecError`."""
        command = self.prog.removeprefix("resilience").strip()
        raise SpecError(f"{command and f'{command}: '}{message}; '{self.prog} --help' shows what is expected")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="resilience",
        description="What do people lose, and for how long, when a node, a replica or a broker fails?",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    suite = _add(commands, "suite", _suite, "run a list of scenarios: one table, one JUnit file, one exit code")
    suite.add_argument("suite", metavar="SUITE", nargs="?", help="a suite of scenarios/suites.yaml; none: list them")
    _add_shared(suite)
    _add(commands, "list", _list, "the scenarios that can be run")
    standing_cli.add_plan(partial(_add, commands))
    standing_cli.add_standing(partial(_add, commands))
    judge = _add(commands, "judge", _judge, "judge a recorded run again, without the system")
    report = _add(commands, "report", _report, "render the report of a judged run again")
    for command in (judge, report):
        command.add_argument("run", metavar="RUN", help="'latest', a scenario's name (its latest run) or a directory")
        _add_reports(command)
    image = _add(commands, "image", _image, "build the stack image if it is not there")
    image.add_argument("--rebuild", action="store_true", help="build it again")
    standing_cli.add_stack(image, "whose image")
    heal = _add(
        commands, "heal", _heal, "heal what is injected in the stacks that run now, from nothing but their ledgers"
    )
    standing_cli.add_stack(heal, "whose stacks")
    _add(commands, "doctor", _doctor, "what this machine can do and what it lacks, with the command that mends it")
    sandbox = _add(commands, "sandbox", _sandbox, "run a command in an empty sandbox (for component tests)")
    sandbox.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    return parser


def _add(commands: Any, name: str, command: Callable[[Any], int], title: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=title, description=title)
    parser.set_defaults(command=command)
    return parser


def _add_reports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reports", type=Path, default=ROOT / "reports", metavar="DIR", help="where runs are kept (default: reports/)"
    )


def _add_run(commands: Any) -> None:
    run = _add(commands, "run", _run, "run a scenario: stack, load, fault, verdict, report")
    run.add_argument("scenario", metavar="SCENARIO", help="a name that 'resilience list' shows, or a file")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="change a field, e.g. durability=wait:1, redis.cluster_node_timeout_ms=2000, timeline.fault_s=40",
    )
    run.add_argument(
        "--control",
        choices=get_args(TakeControl),
        default="auto",
        help="the run of the same stack without a fault: taken first if it is missing (auto), not taken, so that the "
        "verdict is inconclusive (none), or run alone (only)",
    )
    _add_shared(run)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    """What a run and a suite of runs both know."""
    standing_cli.add_stack(parser, "where the platform runs")
    parser.add_argument(
        "--break-lock", action="store_true", help="take a cluster from a run that has been silent for too long"
    )
    parser.add_argument("--seed", type=_seed, help="of every random choice in a run (default: the scenario's)")
    parser.add_argument("--share", action="store_true", help="do not wait for other runs on this machine")
    _add_reports(parser)


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more (got {text[:20]!r})")
    return int(text)


def _run(arguments: Any) -> int:
    scenario = _scenario(arguments)
    if arguments.control != "only":
        require_possible(scenario, arguments.stack)
    if runner.in_place():
        return _run_here(scenario, arguments)
    run_outside, console = _prepared(arguments, [scenario]), console_for(sys.stderr)

    def say(text: str) -> None:
        console.print(plain(text))

    if beside := standing_cli.notice():
        say(beside)
    with _machine(arguments, say):
        return controlled(run_outside, arguments.stack, say)(_wanted(arguments)).code


def _prepared(arguments: Any, scenarios: Sequence[Scenario]) -> RunOutside:
    return prepared(arguments.stack, arguments.reports, break_lock=arguments.break_lock, scenarios=scenarios)


def _wanted(arguments: Any) -> Wanted:
    return Wanted(
        scenario=arguments.scenario,
        overrides=arguments.overrides,
        seed=arguments.seed,
        reports=arguments.reports,
        control=arguments.control,
    )


def _machine(arguments: Any, say: Callable[[str], None]) -> AbstractContextManager[None]:
    return nullcontext() if arguments.share else supervise.machine_to_itself(say)


def _scenario(arguments: Any) -> Scenario:
    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    scenario = read_scenario(ROOT, arguments.scenario, tuple(overrides))
    runner.require_known_checks(scenario)
    return scenario


def _run_here(scenario: Scenario, arguments: Any) -> int:
    console = console_for(sys.stdout)
    store = RunStore(arguments.reports, runner.owner_of_reports())
    rerun = _wanted(arguments).rerun(scenario.seed, arguments.stack)
    outcome = runner.run(scenario, store, console, rerun, as_control=arguments.control == "only")
    return outcome.cut_short_code or VERDICT_CODES[outcome.judgement.verdict]


def _suite(arguments: Any) -> int:
    if arguments.suite is None:
        return _list_suites()
    suite = read_suite(ROOT, arguments.suite)
    for scenario in suite.scenarios:
        runner.require_known_checks(scenario)
        require_possible(scenario, arguments.stack)
    require_known_findings(suite)
    run_outside, console = _prepared(arguments, suite.scenarios), console_for(sys.stderr)

    def say(text: str) -> None:
        console.print(plain(text))

    with _machine(arguments, say):
        run_one = controlled(run_outside, arguments.stack, say)
        rows = run_suite(suite, arguments.reports, arguments.seed, run_one, say)
    files = {"suite.json": suite_json(suite.name, rows), "junit.xml": suite_junit(suite.name, rows)}
    folder = RunStore(arguments.reports, runner.owner_of_reports()).save_suite(suite.name, files)
    console_for(sys.stdout).print(suite_table(suite.name, rows))
    say(f"junit   {folder / 'junit.xml'}")
    return suite_code(rows)


def _list_suites() -> int:
    table = Table(box=None, pad_edge=False)
    for column in ("suite", "what it is", "takes"):
        table.add_column(column)
    for suite in read_suites(ROOT):
        total_s = sum(scenario.timeline.total_s for scenario in suite.scenarios)
        table.add_row(plain(suite.name), plain(suite.title), f"{total_s / 60:.0f} min + set-ups, controls")
    console_for(sys.stdout).print(table)
    return 0


def _list(_arguments: Any) -> int:
    table = Table(box=None, pad_edge=False)
    for column in ("scenario", "what it asks", "takes"):
        table.add_column(column)
    for name in list_scenarios(ROOT):
        scenario = read_scenario(ROOT, name)
        table.add_row(plain(scenario.name), plain(scenario.title), f"{scenario.timeline.total_s:.0f} s + set-up")
    console_for(sys.stdout).print(table)
    return 0


def _judge(arguments: Any) -> int:
    run = find_run(arguments.reports, arguments.run)
    judgement = runner.judge_run(run, None, console_for(sys.stdout))
    return VERDICT_CODES[judgement.verdict]


def _report(arguments: Any) -> int:
    run = find_run(arguments.reports, arguments.run)
    page = html_page(run)
    console: Console = console_for(sys.stdout)
    console.print(plain(str(page)))
    return 0


def _image(arguments: Any) -> int:
    if standing_cli.in_cluster(arguments.stack):
        for name, image in cluster_cli.build(cluster_cli.cluster_of(arguments.stack)).items():
            print(f"{name} {image}")  # noqa: T201
        return 0
    print(supervise.image_root(rebuild=arguments.rebuild))  # noqa: T201
    return 0


def _heal(arguments: Any) -> int:
    if standing_cli.in_cluster(arguments.stack):
        return cluster_cli.heal(read_scenario(ROOT, "baseline").stack, arguments.stack)
    if runner.in_sandbox():
        return runner.heal_here(console_for(sys.stdout))
    codes = supervise.heal_everywhere()
    if not codes:
        print("nothing to heal: no stack of the harness is up, and what a run injected ends with its sandbox")  # noqa: T201
    return max(codes, default=0)


def _doctor(_arguments: Any) -> int:
    console = console_for(sys.stdout)
    answers = (*supervise.examined(), *cluster_cli.examined())
    for answer in answers:
        for problem in answer.problems:
            console.print(plain(f"✗ {answer.name:<10}  {problem}"), soft_wrap=True)
        if not answer.problems:
            console.print(plain(f"{'✓' if answer.well else '?'} {answer.name:<10}  {answer.well or _UNTRIED}"))
    lacks = any(answer.problems for answer in answers)
    console.print("this machine lacks what is marked ✗" if lacks else "this machine has all that a run needs")
    return 4 if lacks else 0


def _sandbox(arguments: Any) -> int:
    argv = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if runner.in_sandbox():
        return supervise.exec_inside(argv)
    image = supervise.image_root()
    supervise.require_machine()
    code, _ = supervise.run_inside(["sandbox", "--", *argv], image)
    return code
