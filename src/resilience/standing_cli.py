"""The commands about a stack to look at: what they are called with, and what they print."""

import sys
from collections.abc import Callable
from typing import Any

from resilience.backend.local.place import PROJECT_ROOT
from resilience.plan import fault_plan
from resilience.report.plan import plan_screen
from resilience.report.terminal import console_for
from resilience.runner import require_known_checks
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario

Add = Callable[[str, Callable[[Any], int], str], Any]  # name, what it does, what it says of itself: its parser


def add_plan(add: Add) -> None:
    """Adds ``plan``."""
    plan = add("plan", _plan, "what a run would do, and to whom, without doing it")
    add_scenario(plan)


def add_scenario(parser: Any) -> None:
    """What names a scenario and changes it."""
    parser.add_argument("scenario", metavar="SCENARIO", help="a name that 'resilience list' shows, or a file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="change a field, e.g. durability=wait:1, redis.cluster_node_timeout_ms=2000",
    )


def _plan(arguments: Any) -> int:
    scenario = _scenario(arguments)
    known = f"in a run of its own, by the placement and the first roles of its stack file ({scenario.stack.name})"
    faults = [fault_plan(scenario, known)]
    console_for(sys.stdout).print(plan_screen(scenario, [fault for fault in faults if fault]))
    return 0


def _scenario(arguments: Any) -> Scenario:
    scenario = read_scenario(PROJECT_ROOT, arguments.scenario, tuple(arguments.overrides))
    require_known_checks(scenario)
    return scenario
