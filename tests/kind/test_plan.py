"""A plan in a real cluster means what stands there and touches nothing; what is injected keeps a run from beginning."""

import pytest

from resilience import cluster_cli, cluster_plan
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.spec.fault import Pause
from resilience.spec.read import read_scenario
from tests.kind.conftest import Field

pytestmark = pytest.mark.kind


@pytest.mark.parametrize("scenario", ["redis-pause-primary", "redis-failover"])
def test_a_plan_names_what_stands_there_and_changes_nothing(field: Field, scenario: str) -> None:
    before = {state.name: state for state in field.platform.states()}
    plan = cluster_plan.fault_plan(read_scenario(PROJECT_ROOT, scenario))
    assert plan
    assert plan.nothing == ""
    names = [name for name, _what in plan.members]
    assert names == [name for name, state in before.items() if state.node in plan.nodes] or len(names) == 1
    assert all(before[name].running for name in names)
    assert "primary" in " ".join(what for _name, what in plan.members)
    assert len(plan.allowed) == 1 + len(plan.nodes) + len(names)
    assert bool(plan.besides) == bool(plan.nodes), "a node takes its agent with it"
    after = {state.name: state.identity for state in field.platform.states()}
    assert after == {name: state.identity for name, state in before.items()}
    assert field.platform.open_injections() == {}
    assert field.cluster.broken_nodes() == []


def test_what_is_injected_still_keeps_a_run_from_beginning(field: Field) -> None:
    cluster_cli.require_healed(field.platform)
    injection = field.plan(Pause(), "session-0")
    field.injector.inject(injection)
    with pytest.raises(StackError, match=f"an older run has left what it injected: {injection.id} "):
        cluster_cli.require_healed(field.platform)
    field.injector.heal(injection.id, "request")
    cluster_cli.require_healed(field.platform)
