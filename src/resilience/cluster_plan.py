"""What a scenario would do in the cluster that is up, to which pods and nodes, and by which rule: looked up, not done.

The target is resolved and the injection worked out and divided among agents by the code of a run; nothing is handed to
anybody. A run renews the stack first, and resolves its target when it injects.
"""

from collections.abc import Sequence

from resilience import cluster_cli
from resilience.backend.base import MemberState
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.cluster import Cluster, platform_of
from resilience.backend.kubernetes.permission import Permission, besides
from resilience.backend.kubernetes.split import MACHINE, split
from resilience.backend.machine.desk import hosts_in
from resilience.backend.machine.docker import KIND
from resilience.errors import FaultError
from resilience.fault.injector import injection_json
from resilience.plan import Carried, Ground, fault_plan_on
from resilience.report.plan import FaultPlan
from resilience.spec.fault import Injection
from resilience.spec.scenario import Scenario


def fault_plan(scenario: Scenario, where: str = KIND) -> FaultPlan | None:
    """What would be done to the stack that is up in a cluster, by what people ask for that; None: no fault.

    Raises `HostError`, `SpecError` for a stack that cannot be there, and `StackError` where none is up.
    """
    if scenario.experiment is None:
        return None
    cluster_cli.require_reference_services(scenario.stack)
    cluster, api = cluster_cli.standing(where)
    return fault_plan_in(scenario, cluster, api)


def fault_plan_in(scenario: Scenario, cluster: Cluster, api: Api) -> FaultPlan | None:
    """The same in a cluster that is known to be the harness's. Raises `StackError` if it cannot be looked at."""
    platform, agents = platform_of(cluster, api, scenario.stack), Agents(api, cluster.run)
    states = platform.states()

    def carried(injection: Injection) -> Carried:
        parts = split(injection_json(injection), {state.name: state for state in states})
        if MACHINE in parts:
            if refused := cluster.machine_refused(api):
                raise FaultError(refused)
            cluster.machine(api).require_allowed(parts[MACHINE])
        return Carried(
            watches=[watch for part in parts.values() for watch in part["watch"]],
            allowed=[cluster.rule, *_rules(injection, states, Permission.of_cluster(api, agents))],
            besides=besides(api.items("/api/v1/pods"), states, hosts_in(injection_json(injection))),
        )

    ground = Ground(
        platform=platform,
        roles=(
            *cluster_cli.roles(cluster, platform.stack, states),
            *cluster_cli.postgresql_roles(cluster, platform.stack, states),
        ),
        queue_roles=cluster_cli.queue_roles(cluster, states),
        known=f"in the cluster {cluster.context}, by its pods and roles at this moment, without the load of a run",
        names=agents.addresses(),
        carried=carried,
    )
    return fault_plan_on(scenario, ground)


def _rules(injection: Injection, states: Sequence[MemberState], permission: Permission) -> list[str]:
    suffering = [state for state in states if state.name in injection.members]
    return list(permission.rules(suffering, hosts_in(injection_json(injection))))
