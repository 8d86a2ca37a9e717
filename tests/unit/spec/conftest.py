"""A small project on disk whose files are all right; tests spoil one of them."""

from pathlib import Path

import pytest

SCENARIO = """\
title: Failover
description: A node is lost.
stack: stacks/small.yaml
experiment: experiments/lose-node.yaml
seed: 3
load: {timeout_s: 2.0, stop_timeout_s: 6.0}
timeline: {warmup_s: 5, steady_s: 20, fault_s: 25, recovery_s: 20}
checks: [durability]
slos: [scenarios/slo/all.yaml]
"""

STACK = """\
durability: {mode: async}
nodes: [node-1, node-2, node-3]
restart_delay_s: 1.0
session_ttl_s: 604800
scrape_interval_s: 1.0
redis: {cluster_node_timeout_ms: 5000}
shards:
  - {primary: r0, replicas: [r3]}
  - {primary: r1, replicas: [r4]}
  - {primary: r2, replicas: []}
members:
  - {name: r0, component: redis, node: node-1}
  - {name: r1, component: redis, node: node-2}
  - {name: r2, component: redis, node: node-3}
  - {name: r3, component: redis, node: node-2}
  - {name: r4, component: redis, node: node-3}
  - {name: session-0, component: session, node: node-1}
  - {name: collaboration-0, component: collaboration, node: node-2}
  - {name: edge-0, component: edge, node: outside}
  - {name: prometheus-0, component: prometheus, node: observer}
  - {name: loadgen, component: loadgen, node: observer}
  - {name: direct-client, component: direct-client, node: observer}
"""

EXPERIMENT = """\
title: A node is lost
description: All of it, in silence.
configuration:
  steady_s: {type: env, key: RESILIENCE_STEADY_S, default: 20, env_var_type: float}
  fault_s: {type: env, key: RESILIENCE_FAULT_S, default: 25, env_var_type: float}
  recovery_s: {type: env, key: RESILIENCE_RECOVERY_S, env_var_type: float}
steady-state-hypothesis:
  title: All is well
  probes:
    - type: probe
      name: members run
      tolerance: true
      provider: {type: python, module: resilience.chaos.probes, func: members_running}
method:
  - type: action
    name: hold steady
    provider:
      type: python
      module: resilience.chaos.actions
      func: hold_phase
      arguments: {phase: steady, duration_s: "${steady_s}"}
  - type: probe
    name: all is well still
    provider: {type: python, module: resilience.chaos.probes, func: load_at_rate}
  - type: action
    name: lose it
    provider:
      type: python
      module: resilience.chaos.actions
      func: inject
      arguments:
        fault: {kind: power-off}
        target: {component: redis, role: primary, shard: 1, scope: node}
  - type: probe
    name: it is lost
    provider: {type: python, module: resilience.chaos.probes, func: in_effect, arguments: {when: injected}}
  - type: action
    name: hold fault
    provider:
      type: python
      module: resilience.chaos.actions
      func: hold_phase
      arguments: {phase: fault, duration_s: "${fault_s}"}
  - type: probe
    name: it is lost still
    provider: {type: python, module: resilience.chaos.probes, func: in_effect, arguments: {when: before-heal}}
  - type: action
    name: mend it
    provider: {type: python, module: resilience.chaos.actions, func: heal}
  - type: probe
    name: it is mended
    tolerance: true
    provider: {type: python, module: resilience.chaos.probes, func: healed}
  - type: action
    name: hold recovery
    provider:
      type: python
      module: resilience.chaos.actions
      func: hold_phase
      arguments: {phase: recovery, duration_s: "${recovery_s}"}
rollbacks:
  - type: action
    name: mend it again
    provider: {type: python, module: resilience.chaos.actions, func: heal, arguments: {by: rollback}}
"""

SLOS = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: latency
  displayName: Fast answers
  annotations: {resilience/phases: steady+fault, resilience/threshold: 250ms, resilience/events-min: "300"}
spec:
  service: session
  indicator:
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: Prometheus, spec: {query: 'load_seconds_bucket{op=~"session.*",le="0.25"}'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'load_seconds_count{op=~"session.*"}'}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: recovery-time
  annotations: {resilience/phases: fault, resilience/unit: s}
spec:
  service: redis
  indicator:
    spec:
      thresholdMetric: {metricSource: {type: History, spec: {measure: recovery.first_good_write_s}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{op: lte, value: 12.5, target: 0.9}]
"""

FILES = {
    "scenarios/redis/failover.yaml": SCENARIO,
    "stacks/small.yaml": STACK,
    "experiments/lose-node.yaml": EXPERIMENT,
    "scenarios/slo/all.yaml": SLOS,
    "other/session.py": "raise SystemExit('it is never run by who reads its name')\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The root of a project with one scenario, ``failover``."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path
