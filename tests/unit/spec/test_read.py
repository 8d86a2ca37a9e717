"""The reader takes what is right, and refuses what is not in one line that names file and field."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from resilience.errors import SpecError
from resilience.spec.document import BYTES_MAX
from resilience.spec.fault import PowerOff, Target
from resilience.spec.read import list_scenarios, read_scenario, read_slos, read_stack, read_suite, read_suites
from resilience.spec.scenario import Scenario
from resilience.spec.slo import FindingSource, RatioSource

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = (
    "baseline", "collaboration-events-baseline", "collaboration-events-kill-leader", "collaboration-kill",
    "content-baseline", "content-kill", "edge-kill", "no-effect", "node-drain", "node-freeze", "node-power-off",
    "node-power-off-whole", "personalization-kill", "postgresql-baseline", "postgresql-cancel-waiting",
    "postgresql-cut-failover", "postgresql-cut-failover-quorum",
    "postgresql-failover", "postgresql-failover-patroni", "postgresql-isolation", "postgresql-kill-replica",
    "postgresql-kill-sync-standby", "postgresql-split-brain", "postgresql-wrong-standby",
    "postgresql-wrong-standby-quorum", "rabbitmq-baseline",
    "rabbitmq-fast-restart-classic", "rabbitmq-fast-restart-leader", "rabbitmq-fast-restart-transient",
    "rabbitmq-kill-leader", "rabbitmq-kill-leader-automatic", "rabbitmq-partition-leader", "rabbitmq-pause-leader",
    "rabbitmq-poison", "rabbitmq-poison-no-dead-letter", "redis-crash-primary", "redis-failover", "redis-fast-restart",
    "redis-fast-restart-no-persistence", "redis-kill-primary", "redis-kill-replica", "redis-partition-primary",
    "redis-pause-primary", "redis-pause-replica-kill-primary", "redis-stop-primary", "rolling-restart-session",
    "session-delete", "session-denied-redis", "session-events-baseline", "session-events-cut-failover",
    "session-events-kill", "session-events-kill-leader", "session-kill", "session-scale-down", "short-ttl",
)  # fmt: skip
UNBROKEN = (
    "baseline",
    "collaboration-events-baseline",
    "content-baseline",
    "postgresql-baseline",
    "rabbitmq-baseline",
    "rabbitmq-poison",
    "session-events-baseline",
)  # nothing is injected
SCENARIO = "scenarios/redis/failover.yaml"
STACK = "stacks/small.yaml"
EXPERIMENT = "experiments/lose-node.yaml"
SLOS = "scenarios/slo/all.yaml"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file spoilt: ``old`` is replaced by ``new`` once; without ``old`` the file becomes ``new``."""

    name: str
    file: str
    old: str = ""
    new: str | bytes
    expect: tuple[str, ...]  # all of them stand in the message


def scenario(name: str, old: str, new: str, *expect: str) -> Case:
    return Case(name=f"scenario-{name}", file=SCENARIO, old=old, new=new, expect=expect)


def stack(name: str, old: str, new: str, *expect: str) -> Case:
    return Case(name=f"stack-{name}", file=STACK, old=old, new=new, expect=expect)


def experiment(name: str, old: str, new: str, *expect: str) -> Case:
    return Case(name=f"experiment-{name}", file=EXPERIMENT, old=old, new=new, expect=expect)


def slo(name: str, old: str, new: str, *expect: str) -> Case:
    return Case(name=f"slo-{name}", file=SLOS, old=old, new=new, expect=expect)


def whole(name: str, new: str | bytes, *expect: str, file: str = SCENARIO) -> Case:
    return Case(name=f"file-{name}", file=file, new=new, expect=expect)


INJECTED = "        target: {component: redis, role: primary, shard: 1, scope: node}\n"
PRELUDE = "        prelude: {fault: {kind: pause}, target: {component: redis, role: replica, shard: 1}, for_s: 1.0}\n"
PRELUDE_SAME = PRELUDE.replace("role: replica, shard: 1", "role: primary, shard: 1, scope: node")
EXPERIMENT_ROLLBACKS = """\
rollbacks:
  - type: action
    name: mend it again
    provider: {type: python, module: resilience.chaos.actions, func: heal, arguments: {by: rollback}}
"""
EXPERIMENT_INJECT = """\
  - type: action
    name: lose it again
    provider:
      type: python
      module: resilience.chaos.actions
      func: inject
      arguments: {fault: {kind: noop}, target: {component: redis}}
"""
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join([f'*{before}'] * 9)}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)
GOOD = 'load_seconds_bucket{op=~"session.*",le="0.25"}'
TOTAL = 'load_seconds_count{op=~"session.*"}'
SELECTOR = "spec.indicator.spec.ratioMetric.good.metricSource.spec.query"

MALFORMED = (
    # the file itself
    whole("empty", "", "one YAML document (got 0)"),
    whole("two-documents", "title: a\n---\ntitle: b\n", "one YAML document (got 2)"),
    whole("list", "- a\n", "the file: expected a mapping"),
    whole("scalar", "hello", "the file: expected a mapping"),
    whole("no-yaml", "title: [a\n", "line 2"),
    whole("tab", "title: a\n\tstack: b\n", "line 2"),
    whole("huge", "#" * (BYTES_MAX + 1), "at most 256 KiB"),
    whole("latin-1", "title: \xe9t\xe9\n".encode("latin-1"), "expected UTF-8 (byte 7"),
    whole("utf-16", "title: a\n".encode("utf-16"), "expected UTF-8"),
    whole("nul", b"title: a\x00b\n", "control characters"),
    whole("deep", "a: " + "[" * 5_000, "deeper than 40 levels"),
    whole("deep-block", "".join(" " * n + "a:\n" for n in range(60)), "deeper than 40 levels"),
    whole("alias-bomb", LAUGHS, "anchors and aliases"),
    whole("anchor", "title: &t a\n", "anchors and aliases"),
    whole("merge-key", "a: &a {b: 1}\nc: {<<: *a}\n", "anchors and aliases"),
    whole("merge-key-alone", "<<: {b: 1}\n", "a key must be plain text"),
    whole("python-tag", "title: !!python/object/apply:os.system [ls]\n", "tags are not allowed"),
    whole("duplicate-key", "title: a\ntitle: b\n", "line 2", "'title' stands twice"),
    whole("duplicate-after-escape", 'title: a\n"t\\x69tle": b\n', "'title' stands twice"),
    whole("number-as-key", "1: a\n", "a key must be plain text"),
    whole("list-as-key", "? [a]\n: b\n", "a key must be plain text"),
    whole("no-date", "title: 2026-02-30\n", "the file:"),
    # scenario
    scenario("unknown-field", "timeline:", "timelin:", "timelin: unknown field, did you mean 'timeline'?"),
    scenario("missing-field", "title: Failover\n", "", "title: is missing"),
    scenario("wrong-type", "title: Failover", "title: 3", "title: expected text (got 3)"),
    scenario("nothing", "title: Failover", "title:", "title: expected text (got nothing)"),
    scenario("seed-text", "seed: 3", "seed: three", "seed: expected a whole number (got 'three')"),
    scenario("seed-base-60", "seed: 3", "seed: 1:30", "colon"),
    scenario("seed-huge", "seed: 3", f"seed: {'9' * 60}", "fit 64 bits"),
    scenario("seed-endless", "seed: 3", f"seed: {'9' * 10_000}", "too long"),
    scenario("seed-negative", "seed: 3", "seed: -1", "seed: expected 0 to 4294967295 (got -1)"),
    scenario("infinite", "warmup_s: 5", "warmup_s: .inf", "must be finite"),
    scenario("not-a-number", "timeout_s: 2.0", "timeout_s: .nan", "must be finite"),
    scenario("unit-in-number", "warmup_s: 5", "warmup_s: 5s", "timeline.warmup_s: expected a number (got '5s')"),
    scenario("negative-phase", "warmup_s: 5", "warmup_s: -5", "timeline.warmup_s: expected a number >= 0.0 (got -5)"),
    scenario(
        "blast-words", "seed: 3", "blast_radius: {may_suffer: [shards]}", "blast_radius.may_suffer[0]: expected text"
    ),
    scenario(
        "blast-shard", "seed: 3", "blast_radius: {may_suffer: [shard 9]}", "blast_radius.may_suffer[0]: expected one"
    ),
    scenario("set-unknown", "seed: 3", "set: {redis.appendnly: false}", "set: redis.appendnly: unknown field, did you"),
    scenario("set-type", "seed: 3", "set: {redis.appendonly: 3}", "redis.appendonly: expected true or false (got 3)"),
    scenario("set-list", "seed: 3", "set: {redis.appendonly: [no]}", "set"),
    scenario("set-incoherent", "seed: 3", "set: {durability: 'wait:5'}", "durability.replicas: expected at most"),
    scenario("no-warmup", "warmup_s: 5", "warmup_s: 0", "timeline.warmup_s: expected more than 0"),
    scenario("load-unknown", "load: {", "load: {room: 3, ", "load.room: unknown field, did you mean 'rooms'?"),
    scenario("load-zero", "load: {", "load: {rooms: 0, ", "load.rooms: expected a whole number >= 1 (got 0)"),
    scenario("no-worker", "load: {", "load: {workers: 0, ", "load.workers: expected a whole number >= 1 (got 0)"),
    scenario("many-workers", "load: {", "load: {workers: 17, ", "load.workers: expected a whole number <= 16 (got 17)"),
    scenario("half-a-worker", "load: {", "load: {workers: 1.5, ", "load.workers: expected a whole number (got 1.5)"),
    scenario(
        "workers-without-rooms",
        "load: {",
        "load: {rooms: 3, workers: 4, ",
        "load.workers: expected at most load.rooms (3)",
        "(got 4)",
    ),
    scenario("timeout-order", "stop_timeout_s: 6.0", "stop_timeout_s: 2.0", "load.timeout_s: expected less than"),
    scenario(
        "minimum-over-rate",
        "load: {",
        "load: {edit_rate_ops_per_s: 5, edit_rate_ops_per_s_min: 6, ",
        "load.edit_rate_ops_per_s_min: expected at most",
    ),
    scenario("short-steady", "steady_s: 20", "steady_s: 19", "slos: latency", "phase steady", "at least 20 s"),
    scenario("short-fault", "fault_s: 25", "fault_s: 14.9", "timeline.fault_s: expected at least 15 s"),
    scenario("no-recovery", "recovery_s: 20", "recovery_s: 0", "timeline.recovery_s: expected more than 0"),
    scenario(
        "fault-without-experiment", "experiment: experiments/lose-node.yaml\n", "", "timeline.fault_s: expected 0"
    ),
    scenario("no-stack", "stacks/small.yaml", "stacks/none.yaml", "stack: expected a file that exists"),
    scenario("outside", "stacks/small.yaml", "../small.yaml", "stack: expected a path below the project's root"),
    scenario("absolute", "stacks/small.yaml", "/etc/passwd", "stack: expected a path below the project's root"),
    scenario("folder", "stacks/small.yaml", "stacks", "stack: expected a file that exists"),
    scenario("no-slos", "[scenarios/slo/all.yaml]", "[]", "slos: expected a list of length >= 1"),
    scenario(
        "slo-twice", "[scenarios/slo/all.yaml]", "[scenarios/slo/all.yaml, scenarios/slo/all.yaml]", "every name once"
    ),
    scenario("no-checks", "checks: [durability]", "checks: []", "checks: expected a list of length >= 1"),
    # stack
    stack("unknown-field", "nodes:", "nods:", "nods: unknown field, did you mean 'nodes'?"),
    stack("name", "nodes:", "name: x\nnodes:", "name: unknown field"),
    stack(
        "directive",
        "cluster_node_timeout_ms: 5000",
        "cluster_node_timeout: 5000",
        "redis.cluster_node_timeout: unknown",
    ),
    stack("too-fast", "5000", "50", "redis.cluster_node_timeout_ms: expected a whole number >= 100 (got 50)"),
    stack("durability", "mode: async", "mode: sync", "durability.mode: expected one of async, wait (got 'sync')"),
    stack("durability-text", "{mode: async}", "async", "durability: expected a mapping"),
    stack("component", "component: edge", "component: edgy", "members[7].component: expected one of", "(got 'edgy')"),
    stack(
        "node",
        "r0, component: redis, node: node-1",
        "r0, component: redis, node: node-9",
        "members[0].node: expected one of",
    ),
    stack(
        "reserved-node", "nodes: [node-1, node-2", "nodes: [observer, node-1, node-2", "nodes[0]: expected another name"
    ),
    stack("node-twice", "node-2, node-3]", "node-2, node-2, node-3]", "nodes: expected every name once"),
    stack("member-twice", "name: session-0", "name: r0", "members: expected every name once ('r0' stands 2 times)"),
    stack("member-name", "name: session-0", "name: Session 0", "members[5].name: expected text matching"),
    stack("edge-inside", "node: outside", "node: node-1", "members[7].node: expected outside"),
    stack(
        "observer-on-node",
        "prometheus, node: observer",
        "prometheus, node: node-1",
        "members[8].node: expected observer, where every prometheus stands (got 'node-1')",
    ),
    stack(
        "service-on-observer", "session, node: node-1", "session, node: observer", "members[5].node: expected one of"
    ),
    stack("program-gone", "shards:", "programs: {session: other.gone}\nshards:", "programs.session: expected a module"),
    stack("program-of-redis", "shards:", "programs: {redis: other.session}\nshards:", "programs", "redis"),
    stack("program-path", "shards:", "programs: {edge: /bin/sh}\nshards:", "programs", "expected text matching"),
    stack("no-edge", "  - {name: edge-0, component: edge, node: outside}\n", "", "at least one edge (got 0)"),
    stack("no-loadgen", "  - {name: loadgen, component: loadgen, node: observer}\n", "", "exactly one loadgen (got 0)"),
    stack("two-shards", "  - {primary: r2, replicas: []}\n", "", "shards: expected at least 3"),
    stack("shard-of-no-redis", "replicas: []", "replicas: [session-0]", "shards: expected redis members"),
    stack(
        "redis-in-two-shards",
        "replicas: []",
        "replicas: [r4]",
        "shards: expected every name once ('r4' stands 2 times)",
    ),
    stack(
        "redis-in-no-shard", "replicas: [r4]", "replicas: []", "shards: expected every redis member", "r4 is in none"
    ),
    stack(
        "same-node",
        "r3, component: redis, node: node-2",
        "r3, component: redis, node: node-1",
        "shards[0]: expected primary",
    ),
    stack("wait-too-many", "mode: async", "mode: wait, replicas: 1", "durability.replicas: expected at most 0 (got 1)"),
    stack(
        "min-replicas",
        "redis: {",
        "redis: {min_replicas_to_write: 1, ",
        "redis.min_replicas_to_write: expected at most 0",
    ),
    stack("line-end-in-name", "name: session-0", 'name: "session-0\\n"', "members[5].name: expected text matching"),
    stack("endless-ttl", "604800", "9000000000", "session_ttl_s: expected a whole number <= 316224000"),
    stack("slow-scrape", "scrape_interval_s: 1.0", "scrape_interval_s: 5", "slos: latency", "at least 50 s"),
    # experiment
    experiment("unknown-field", "rollbacks:", "rollback:", "rollback: unknown field, did you mean 'rollbacks'?"),
    experiment("controls", "method:", "controls: []\nmethod:", "controls: unknown field"),
    experiment("secrets", "method:", "secrets: {}\nmethod:", "secrets: unknown field"),
    experiment("no-hypothesis", "steady-state-hypothesis:", "tags: []\nx-hypothesis:", "x-hypothesis: unknown field"),
    experiment("no-tolerance", "      tolerance: true\n", "", "hypothesis.probes[0].tolerance: expected true"),
    experiment(
        "probe-without-type",
        "    - type: probe\n      name: members",
        "    - name: members",
        "probes[0].type: is missing",
    ),
    experiment("substitution", "name: lose it", 'name: "lose ${HOME}"', "method[2].name: expected no ${…}"),
    experiment("float-tolerance", "tolerance: true", "tolerance: 0.5", "probes[0].tolerance: expected true or false"),
    experiment("provider", "type: python", "type: process", "probes[0].provider.type: expected one of python"),
    experiment("module", "resilience.chaos.probes", "chaosk8s.probes", "provider.module: expected one of resilience"),
    experiment("function", "func: in_effect", "func: in_affect", "method[3].provider.func: expected one of"),
    experiment("action-as-probe", "func: in_effect", "func: inject", "method[3].provider.func: expected one of"),
    experiment("argument", "func: members_running", "func: members_running, arguments: {n: 3}", "arguments.n: unknown"),
    experiment(
        "background", "name: lose it\n", "name: lose it\n    background: true\n", "method[2].background: unknown"
    ),
    experiment(
        "pauses", "name: lose it\n", "name: lose it\n    pauses: {after: 3}\n", "method[2].pauses: unknown field"
    ),
    experiment("no-configuration", "configuration:", "config:", "config: unknown field, did you mean 'configuration'?"),
    experiment("dynamic", "{type: env, key", "{type: probe, key", "configuration.steady_s.type: expected one of env"),
    experiment(
        "other-variable", "RESILIENCE_FAULT_S", "FAULT_S", "configuration.fault_s.key: expected RESILIENCE_FAULT_S"
    ),
    experiment("own-duration", '"${fault_s}"', '"30"', "method[4].provider.arguments.duration_s: expected ${fault_s}"),
    experiment("number-as-duration", '"${fault_s}"', "30", "method[4].provider.arguments.duration_s: expected text"),
    experiment(
        "phase-name", "phase: fault", "phase: fautl", "method[4].provider.arguments.phase: expected one of fault"
    ),
    experiment(
        "phase-twice", 'fault, duration_s: "${fault', 'steady, duration_s: "${steady', "method[4]: expected hold"
    ),
    experiment("no-inject", "func: inject", "func: heal", "method[2].provider.arguments.fault: unknown field"),
    experiment(
        "two-injects",
        EXPERIMENT_ROLLBACKS,
        EXPERIMENT_INJECT + EXPERIMENT_ROLLBACKS,
        "method: expected exactly one action inject (got 2)",
    ),
    experiment("no-heal", "func: heal}", "func: hold_phase}", "method[6].provider.arguments.phase: is missing"),
    experiment(
        "no-proof",
        "func: in_effect, arguments: {when: injected}",
        "func: load_at_rate",
        "method[4]: expected in_effect injected here",
    ),
    experiment(
        "no-late-proof", "when: before-heal", "when: injected", "method[5]: expected in_effect before-heal here"
    ),
    experiment("no-healed", "func: healed", "func: load_at_rate", "method[8]: expected healed here"),
    experiment(
        "healed-early", "func: heal}", "func: heal, arguments: {by: rollback}}", "method[6]: expected heal request"
    ),
    experiment("no-rollback", "rollbacks:\n  -", "rollbacks: []\nx:\n  -", "x: unknown field"),
    experiment("rollback-by-request", "{by: rollback}", "{by: request}", "rollbacks[0]: expected heal rollback here"),
    experiment(
        "empty-rollbacks", EXPERIMENT_ROLLBACKS, "rollbacks: []\n", "rollbacks: expected the steps heal rollback"
    ),
    experiment(
        "fault-kind", "kind: power-off", "kind: poweroff", "method[2].provider.arguments.fault.kind: expected one of"
    ),
    experiment(
        "fault-without-kind",
        "kind: power-off",
        "",
        "fault.kind: is missing, expected one of cut-replication, delete, deny, drain",
    ),
    experiment("prelude-kind", INJECTED, INJECTED + PRELUDE.replace("pause", "kill"), "prelude.fault.kind"),
    experiment(
        "prelude-long", INJECTED, INJECTED + PRELUDE.replace("1.0", "60"), "prelude.for_s: expected a number <= 5"
    ),
    experiment(
        "prelude-all",
        INJECTED,
        INJECTED + PRELUDE.replace("shard: 1", "scope: component"),
        "prelude.target.scope: expected member or node",
    ),
    experiment("prelude-same", INJECTED, INJECTED + PRELUDE_SAME, "prelude.target: expected another target"),
    experiment(
        "prelude-shard",
        INJECTED,
        INJECTED + PRELUDE.replace("shard: 1", "shard: 4"),
        "prelude.target.shard: expected 1 to 3",
    ),
    experiment("prelude-role", INJECTED, INJECTED + PRELUDE.replace("shard: 1", "shard: 3"), "prelude.target.role"),
    experiment("fault-field", "kind: power-off", "kind: power-off, restart: true", "fault.restart: unknown field"),
    experiment(
        "target-address", "component: redis", "component: redis, pod: r0", "arguments.target.pod: unknown field"
    ),
    experiment(
        "target-component", "component: redis", "component: vault", "arguments.target.component: expected one of"
    ),
    experiment("target-shard-zero", "shard: 1", "shard: 0", "arguments.target.shard: expected a whole number"),
    experiment("target-shard", "shard: 1", "shard: 4", "target.shard: expected 1 to 3 (got 4)"),
    experiment(
        "target-replica", "role: primary, shard: 1", "role: replica, shard: 3", "target.role: expected a shard that has"
    ),
    experiment("target-role", "redis, role: primary, shard: 1", "session, role: primary", "target.role: expected any"),
    experiment("target-shard-of-session", "redis, role: primary", "session", "target.shard: expected none"),
    experiment("target-outside", "redis, role: primary, shard: 1", "edge", "target.scope: expected member"),
    experiment(
        "drain-member",
        "kind: power-off}\n" + INJECTED,
        "kind: drain}\n        target: {component: session}\n",
        "target.scope: expected node: it is done to a whole node (fault drain)",
    ),
    experiment(
        "rolling-restart-member",
        "kind: power-off}\n" + INJECTED,
        "kind: rolling-restart}\n        target: {component: session}\n",
        "target.scope: expected component: it is done to all members (fault rolling-restart)",
    ),
    experiment(
        "rolling-restart-redis",
        "kind: power-off}\n" + INJECTED,
        "kind: rolling-restart}\n        target: {component: redis, scope: component}\n",
        "target.component: expected a service",
    ),
    experiment(
        "scale-member",
        "kind: power-off}\n" + INJECTED,
        "kind: scale}\n        target: {component: session}\n",
        "target.scope: expected component: it is done to all members (fault scale)",
    ),
    experiment(
        "scale-redis",
        "kind: power-off}\n" + INJECTED,
        "kind: scale}\n        target: {component: redis, scope: component}\n",
        "target.component: expected a service",
    ),
    experiment(
        "scale-up",
        "kind: power-off}\n" + INJECTED,
        "kind: scale, replicas: 9}\n        target: {component: session, scope: component}\n",
        "fault.replicas: expected less than",
    ),
    experiment(
        "deny-itself",
        "kind: power-off}\n" + INJECTED,
        "kind: deny, to: session}\n        target: {component: session, scope: component}\n",
        "fault.to: expected another component than session",
    ),
    experiment(
        "deny-member",
        "kind: power-off}\n" + INJECTED,
        "kind: deny, to: redis}\n        target: {component: session}\n",
        "target.scope: expected component: it is done to all members (fault deny)",
    ),
    experiment(
        "deny-redis",
        "kind: power-off}\n" + INJECTED,
        "kind: deny, to: session}\n        target: {component: redis, scope: component}\n",
        "target.component: expected a service",
    ),
    experiment(
        "delete-of-all",
        "kind: power-off}\n" + INJECTED,
        "kind: delete}\n        target: {component: session, scope: component}\n",
        "target.scope: expected member (fault delete)",
    ),
    experiment(
        "delete-patient",
        "kind: power-off}\n" + INJECTED,
        "kind: delete, grace_s: 26}\n        target: {component: session}\n",
        "fault.grace_s: expected a whole number <= 25",
    ),
    experiment(
        "kill-of-all",
        "kind: power-off}\n" + INJECTED,
        "kind: kill, restart: true}\n        target: {component: session, scope: component}\n",
        "target.scope: expected member or node (fault kill)",
    ),
    experiment("power-off-member", "scope: node", "scope: member", "target.scope: expected node"),
    experiment(
        "partition-of-one",
        "{kind: power-off}\n        target: {component: redis, role: primary, shard: 1, scope: node}",
        "{kind: partition, cut_from: peers}\n        target: {component: session}",
        "fault.cut_from: expected clients or all",
    ),
    # SLOs
    slo(
        "unknown-field",
        "service: session",
        "services: session",
        "document 1: spec.services: unknown field, did you mean",
    ),
    slo(
        "version",
        "openslo/v1\nkind: SLO\nmetadata:\n  name: latency",
        "openslo/v2\nkind: SLO\nmetadata:\n  name: latency",
        "apiVersion",
    ),
    slo("kind", "kind: SLO", "kind: SLI", "kind: expected one of SLO (got 'SLI')"),
    slo("rate", GOOD, f"rate({GOOD}[1m])", f"latency: {SELECTOR}", "rate()"),
    slo("increase", GOOD, f"increase({GOOD}[20s])", SELECTOR, "increase()"),
    slo("irate", TOTAL, f"irate({TOTAL}[20s])", "total.metricSource.spec.query", "irate()"),
    slo("vector", GOOD, f"{GOOD} or vector(0)", SELECTOR, "vector()"),
    slo("sum", GOOD, f"sum({GOOD})", SELECTOR, "a function"),
    slo("range", GOOD, f"{GOOD}[5m]", SELECTOR, "a range"),
    slo("operator", GOOD, f"{GOOD} / 2", SELECTOR, "not an expression"),
    slo("or", GOOD, f"{GOOD} or up", SELECTOR, "not an expression"),
    slo("at", GOOD, f"{GOOD} @ 0", SELECTOR, "an instant"),
    slo("number", GOOD, "0.5", SELECTOR, "metric"),
    slo("matcher", GOOD, 'load_seconds_bucket{op==""session"}', SELECTOR),
    slo("regex", 'op=~"session.*",le', 'op=~"session(",le', SELECTOR, "regular expression"),
    slo("phase-in-selector", 'op=~"session.*",le', 'phase="fault",le', SELECTOR, "no condition on phase"),
    slo("missing-unit", "threshold: 250ms", 'threshold: "250"', "resilience/threshold: missing unit", "(got '250')"),
    slo("unquoted-threshold", "threshold: 250ms", "threshold: 250", "metadata.annotations", "expected text (got 250)"),
    slo(
        "other-unit",
        "threshold: 250ms",
        "threshold: 250qs",
        "resilience/threshold: expected a number and one of us, ms, s, m",
    ),
    slo(
        "threshold-differs", "threshold: 250ms", "threshold: 500ms", 'expected the bound of the good selector, le="0.5"'
    ),
    slo("threshold-missing", "resilience/threshold: 250ms, ", "", "resilience/threshold: is missing"),
    slo("bound-as-nobody-writes-it", 'le="0.25"', 'le="0.250"', 'le="0.25"', "(got '0.250')"),
    slo(
        "other-histogram",
        "load_seconds_count",
        "other_count",
        "ratioMetric.total: expected the same histogram's _count",
    ),
    slo("total-differs", TOTAL, "load_seconds_count", "ratioMetric.total: expected the same histogram's _count"),
    slo("phase", "steady+fault", "steady+failure", "resilience/phases: expected phases joined by +"),
    slo("phase-twice", "steady+fault", "steady+steady", "resilience/phases: expected phases joined by +"),
    slo("no-phases", "resilience/phases: fault, ", "", "recovery-time: metadata.annotations.resilience/phases"),
    slo(
        "annotation",
        "resilience/events-min",
        "resilience/min-events",
        "unknown annotation, did you mean 'resilience/events-min'?",
    ),
    slo("too-few-events", '"300"', '"199"', "resilience/events-min: expected a whole number of at least 200"),
    slo("events-text", '"300"', "many", "resilience/events-min: expected a whole number", "(got 'many')"),
    slo("target-one", "target: 0.99}", "target: 1}", "objectives[0].target: expected a number < 1.0 (got 1)"),
    slo(
        "target-percent", "target: 0.99}", "targetPercent: 99}", "targetPercent: unknown field, did you mean 'target'?"
    ),
    slo("no-target", "{target: 0.99}", "{displayName: x}", "objectives[0].target: is missing"),
    slo("op-of-ratio", "{target: 0.99}", "{target: 0.99, op: gte}", "objectives[0]: expected only target"),
    slo("two-objectives", "[{target: 0.99}]", "[{target: 0.99}, {target: 0.9}]", "exactly one item (got 2)"),
    slo("counter", "counter: true", "counter: false", "ratioMetric.counter: expected true"),
    slo(
        "two-windows", "[{duration: 28d, isRolling: true}]", "[]", "spec.timeWindow: expected exactly one item (got 0)"
    ),
    slo("seconds", "duration: 28d", "duration: 30s", "timeWindow[0].duration: expected text matching"),
    slo("calendar", "isRolling: true", "isRolling: false", "timeWindow[0].isRolling: expected true"),
    slo("timeslices", "Occurrences", "Timeslices", "spec.budgetingMethod: expected one of Occurrences"),
    slo("no-indicator", "ratioMetric:", "rawMetric:", "rawMetric: unknown field"),
    slo(
        "history-unit-missing",
        ", resilience/unit: s",
        "",
        "resilience/unit: missing unit, expected one of s, ms, ops, ratio",
    ),
    slo("history-unit-wrong", "resilience/unit: s", "resilience/unit: ms", "resilience/unit: expected the unit that"),
    slo("history-without-op", "op: lte, ", "", "spec.objectives[0]: expected op"),
    slo("history-op", "op: lte", "op: under", "objectives[0].op: expected one of gt, gte, lt, lte (got 'under')"),
    slo("history-source", "type: History", "type: Prometheus", "metricSource.type: expected one of History"),
    slo(
        "history-measure",
        "measure: recovery.first_good_write_s",
        "measure: 'rate(x)'",
        "measure: expected text matching",
    ),
    slo("total-is-good", TOTAL, GOOD, "ratioMetric.good: expected a selector that differs from total's"),
    slo(
        "threshold-of-no-histogram",
        GOOD,
        'load_seconds_sum{le="0.25"}',
        "resilience/threshold: expected a good selector",
    ),
    slo("threshold-zero", "threshold: 250ms", "threshold: 0ms", "resilience/threshold: expected more than nothing"),
    slo("threshold-over-timeout", "250ms, r", "3s, r", 'expected the bound of the good selector, le="3.0"'),
    slo("quoted-label", GOOD, 'load_seconds_bucket{le="0.25" op="a"}', SELECTOR, "expected a comma"),
    slo(
        "no-source",
        "thresholdMetric: {metricSource: {type: History, spec: {measure: recovery.first_good_write_s}}}",
        "{}",
        "recovery-time: spec.indicator.spec: expected either ratioMetric or thresholdMetric",
    ),
    whole("no-slo", "---\n---\n", "the file: expected 1 to 100 OpenSLO documents (got 0)", file=SLOS),
    scenario("impatient", "timeout_s: 2.0", "timeout_s: 0.2", "slos: latency: expected a latency threshold within"),
    scenario("nul-in-path", "stacks/small.yaml", '"a\\0b"', "line 3", "control characters"),
    scenario("escape-in-title", "title: Failover", 'title: "\\e]0;owned\\a"', "line 1", "control characters"),
    scenario("escape-in-key", "seed: 3", '"seed\\e[2J": 3', "line 5", "control characters"),
    scenario("turned-writing", "title: Failover", "title: \u202erevoliaF", "line 1", "control characters"),
    scenario("seed-octal", "seed: 3", "seed: 010", "begins with 0"),
    scenario("base-60", "warmup_s: 5", "warmup_s: 1:30.5", "must not contain a colon"),
    scenario("line-end-in-path", "stacks/small.yaml", '"stacks/small.yaml\\n"', "stack: expected a file that exists"),
    scenario("long-path", "stacks/small.yaml", "a" * 400, "stack: expected a file that exists"),
    scenario("blast-twice", "seed: 3", "blast_radius: {may_suffer: [shard 1, shard 1]}", "expected every name once"),
    scenario(
        "weakness-turned-round",
        "seed: 3",
        "known_weaknesses: [{finding: a, within: {value: [2, 1]}, seen: always, why: b}]",
        "known_weaknesses[0].within.value: expected [least, most] (got [2.0, 1.0])",
    ),
    scenario(
        "weakness-nowhere",
        "seed: 3",
        "known_weaknesses: [{finding: slo, group: shard 9, within: {value: [1, 2]}, seen: always, why: b}]",
        "known_weaknesses[0].group: expected one of shard 1, shard 2",
    ),
    scenario("many-slos", "[scenarios/slo/all.yaml]", str(["a"] * 51), "slos: expected a list of length <= 50"),
    slo("name-twice", "name: recovery-time", "name: latency", "document 2: metadata.name: expected a name that no doc"),
    slo("no-target-at-all", "target: 0.99}", "target: 0}", "objectives[0].target: expected a number > 0.0 (got 0)"),
    slo("regex-too-deep", 'op=~"session.*",le', f'op=~"{"(" * 900 + ")" * 900}",le', SELECTOR, "no regular expression"),
    slo("regex-overflow", 'op=~"session.*",le', 'op=~"a{1,99999999999999}",le', SELECTOR, "no regular expression"),
    slo("regex-doubtful", 'op=~"session.*",le', 'op=~"[[a]",le', SELECTOR, "no regular expression"),
    slo("name", "name: latency", "name: Latency!", "metadata.name: expected text matching"),
)


def spoil(project: Path, case: Case) -> None:
    path = project / case.file
    if not case.old:
        path.write_bytes(case.new if isinstance(case.new, bytes) else case.new.encode())
        return
    text = path.read_text()
    assert case.old in text, f"the case {case.name} changes nothing"
    assert isinstance(case.new, str)
    path.write_text(text.replace(case.old, case.new, 1))


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_malformed_file_is_one_line(project: Path, case: Case) -> None:
    spoil(project, case)
    with pytest.raises(SpecError) as caught:
        read_scenario(project, "failover")
    message = str(caught.value)
    assert message.isprintable(), "more than one line"
    assert len(message) < 400
    assert message.startswith(f"{case.file}: ") or case.name == "stack-slow-scrape"  # judged with the timeline
    assert [text for text in case.expect if text not in message] == [], message
    assert caught.value.exit_code == 2


def test_whole_scenario_is_read(project: Path) -> None:
    scenario = read_scenario(project, "failover")
    assert (scenario.name, scenario.seed, scenario.file) == ("failover", 3, SCENARIO)
    assert scenario.checks == ("durability",)
    assert scenario.stack.name == "small"
    assert scenario.experiment is not None
    assert scenario.experiment.fault == PowerOff()
    assert scenario.experiment.target == Target(component="redis", role="primary", shard=1, scope="node")
    assert scenario.experiment.document["title"] == "A node is lost"
    latency, recovery = scenario.slos
    assert latency.source == RatioSource(good=GOOD, total=TOTAL, latency_threshold_s=0.25)
    assert (latency.phases, latency.op, latency.target, latency.events_min) == (("steady", "fault"), "gte", 0.99, 300)
    assert recovery.source == FindingSource(measure="recovery.first_good_write_s", unit="s")
    assert (recovery.phases, recovery.op, recovery.target, recovery.title) == (("fault",), "lte", 12.5, "recovery-time")


def test_scenario_survives_json(project: Path) -> None:
    scenario = read_scenario(project, "failover")
    assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario


def test_slo_of_a_phase_that_is_not_there(project: Path) -> None:
    spoil(project, scenario("no-fault", "experiment: experiments/lose-node.yaml\n", ""))
    spoil(project, scenario("no-phases", "fault_s: 25, recovery_s: 20", "fault_s: 0, recovery_s: 0"))
    with pytest.raises(SpecError, match="slos: latency: is judged in phase fault, which this scenario does not have"):
        read_scenario(project, "failover")


def test_absent_checks_mean_all(project: Path) -> None:
    spoil(project, scenario("checks", "checks: [durability]\n", ""))
    assert read_scenario(project, "failover").checks == ()


@pytest.mark.parametrize("given", ["failover", "scenarios/redis/failover.yaml"])
def test_found_by_name_and_by_path(project: Path, given: str) -> None:
    assert read_scenario(project, given).name == "failover"


def test_found_by_absolute_path(project: Path) -> None:
    assert read_scenario(project, str(project / SCENARIO)).file == SCENARIO


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("failovr", "scenario 'failovr': there is none of that name, did you mean 'failover'?"),
        ("no\nsuch", "scenario 'no\\nsuch': there is none"),
        ("./failover.yaml", "failover.yaml: the file: does not exist"),
        ("scenarios/redis/", "scenarios/redis: the file: expected a regular file"),
        ("a\0/b.yaml", "the file:"),
    ],
)
def test_scenario_that_is_not_there(project: Path, given: str, expect: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_scenario(project, given)
    assert expect in str(caught.value)
    assert str(caught.value).isprintable()


def test_name_that_stands_twice(project: Path) -> None:
    other = project / "scenarios/platform/failover.yaml"
    other.parent.mkdir()
    other.write_text("title: a")
    with pytest.raises(SpecError, match=r"stands twice: scenarios/platform/failover\.yaml, scenarios/redis"):
        read_scenario(project, "failover")


def test_file_name_is_a_name(project: Path) -> None:
    (project / SCENARIO).rename(project / "scenarios/redis/Fail Over.yaml")
    with pytest.raises(SpecError, match="the file's name: expected lower-case"):
        read_scenario(project, "Fail Over")


def test_link_out_of_the_project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "stack.yaml"
    elsewhere.write_text((project / STACK).read_text())
    (project / STACK).unlink()
    (project / STACK).symlink_to(elsewhere)
    with pytest.raises(SpecError, match="stack: expected a path below the project's root"):
        read_scenario(project, "failover")


def test_a_scenario_sets_fields_of_its_stack(project: Path) -> None:
    file = project / SCENARIO
    settings = "set: {redis.appendonly: false, redis.snapshot_every_s: 0, stack.session_ttl_s: 30, seed: 9}"
    file.write_text(file.read_text().replace("seed: 3", settings))
    scenario = read_scenario(project, "failover", ("redis.snapshot_every_s=60",))
    assert scenario.stack.redis.appendonly is False
    assert scenario.stack.redis.snapshot_every_s == 60, "the command line has the last word"
    assert (scenario.stack.session_ttl_s, scenario.seed) == (30, 9)


def test_list_leaves_slos_and_suites_out(project: Path) -> None:
    (project / "scenarios/suites.yaml").write_text("{}")
    assert list_scenarios(project) == ("failover",)


def test_a_suite_may_be_made_of_others(project: Path) -> None:
    (project / "scenarios/suites.yaml").write_text(
        "all: {title: Both, suites: [two, one]}\n"
        "one: {title: One, runs: [{scenario: failover}]}\n"
        "two: {title: Two, runs: [{scenario: failover, set: {seed: 5}}, {scenario: failover, title: again}]}\n"
    )
    one, two, both = (read_suite(project, name) for name in ("one", "two", "all"))
    assert (both.title, both.runs, both.scenarios) == ("Both", two.runs + one.runs, two.scenarios + one.scenarios)
    assert [scenario.seed for scenario in both.scenarios] == [5, 3, 3]
    assert read_suites(project) == (both, one, two)


def test_shipped_scenarios_are_listed() -> None:
    assert list_scenarios(ROOT) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenario_reads(name: str) -> None:
    scenario = read_scenario(ROOT, name)
    assert scenario.name == name
    assert (scenario.experiment is None) == name.startswith(UNBROKEN)
    if scenario.experiment is not None:
        assert (ROOT / scenario.experiment.file).is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "stacks").glob("*/*.yaml")), ids=lambda path: path.stem)
def test_shipped_stack_reads(path: Path) -> None:
    assert read_stack(ROOT, path.relative_to(ROOT)).name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios/slo").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_slos_read_and_are_named_by_a_scenario(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert read_slos(ROOT, name)
    scenarios = [file for file in (ROOT / "scenarios").glob("*/*.yaml") if file.parent.name != "slo"]
    assert any(name in file.read_text() for file in scenarios)
