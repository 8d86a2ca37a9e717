"""Every kind of damage to every kind of file: one line, exit 2, nothing begun; or a reason why it is no damage."""

import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilience.backend.choice import able
from resilience.spec.read import read_scenario
from tests.malformed.conftest import ROOT, WOULD_START, Command, Said
from tests.malformed.mutation import Mutation, kinds, mutation

FAMILIES = {
    "scenarios": "scenarios/*[!o]/*.yaml",  # all but those in slo
    "experiments": "experiments/*/*.yaml",
    "slos": "scenarios/slo/*.yaml",
    "stacks": "stacks/*/*.yaml",
    "suites": "scenarios/suites.yaml",
}
SEED = 1  # another one spoils other places
CPU_S_MAX = 5.0  # of one command; all of them take some hundredths
SAYS_WHAT = re.compile(
    r"expected|is missing|unknown field|not allowed|stands twice|line \d+, column \d+|does not exist|cannot be read|"
    r"there is (none|no )|is judged in phase|nested deeper|must "
)


@dataclass(frozen=True)
class Harmless:
    """A mutation that leaves a file right: ``why`` is a fact of the format or the field, not of a reader."""

    kind: str
    place: str  # a pattern of the whole place
    why: str


_BOUND = r".*(within|measures)\..*|spec\.objectives\.\*\.value"
_ARGUMENTS = r"(method|rollbacks)\.\*\.provider\.arguments"
_PROSE = r".*(title|description|why|displayName)|(method|rollbacks|steady.*probes)\.\*\.name|tags\.\*"
HARMLESS = (
    Harmless("byte-order-mark", "", "YAML 1.1 section 5.2: a stream may begin with one"),
    Harmless("carriage-returns", "", "YAML 1.1 section 5.4: CR LF is a line's end"),
    Harmless("old-line-ends", "", "YAML 1.1 section 5.4: CR is a line's end"),
    Harmless("line-end-in-text", _PROSE, "prose may have several lines"),
    Harmless("line-end-in-text", r".*\.query", "white space around a selector means nothing in PromQL"),
    Harmless("path-out-of-project", _PROSE, "prose may speak of any path; nobody opens it"),
    Harmless("empty-text", r".*\.runs\.\*\.title|known_weaknesses\.\*\.group|.*\.title", "it may be left out as well"),
    Harmless("empty-list", r"tags|blast_radius\.may_suffer|known_weaknesses", "there need not be any"),
    Harmless("item-twice", r"tags|steady-state-hypothesis\.probes", "asking or saying the same twice is no mistake"),
    Harmless("dropped", r"blast_radius|blast_radius\.others_outage_s_max|known_weaknesses(\.\*\.(group|durability))?|"
             r"seed|load(\.\w+)?|checks|set(\..*)?|.*\.runs\.\*\.(title|set)(\..*)?|tags|(redis|rabbitmq)\.\w+|"
             r".*\.runs\.\*\.expect(\.(measures|besides)(\..*)?)?|"
             r"configuration\.\w+\.default|metadata\.(labels|displayName)|spec\.description|"
             r"known_weaknesses\.\*\.within\..*|"
             r".*arguments\.target\.(role|scope)|metadata\.annotations\.resilience/events-min",
             "the documents of the format give it a default"),
    Harmless("dropped", _ARGUMENTS, "heal has one argument, and the documents of the format give it a default"),
    Harmless("huge-number", _BOUND, "a bound may be any finite number"),
    Harmless("huge-whole-number", _BOUND, "a bound may be any finite number"),
    Harmless("negative", _BOUND, "a bound may be any finite number"),
    Harmless("zero", _BOUND, "a bound may be any finite number"),
    Harmless("zero", r"configuration\.\w+\.default", "the scenario's own length counts, not this one"),
    Harmless("zero", r"(.*set\.)?redis\.(cluster_replica_validity_factor|min_replicas_to_write|shutdown_timeout_s|"
             r"snapshot_every_s|min_replicas_max_lag_s)", "redis.conf: 0 switches it off"),
    Harmless("zero", r"seed", "any number of 32 bits is a seed"),
    Harmless("zero", r"postgresql\.failover\.operator_delay_s", "whoever promotes may be there already"),
    Harmless("truth", r"(.*set\.)?(redis\.(appendonly|cluster_require_full_coverage|cluster_allow_reads_when_down)|"
             r"rabbitmq\.dead_letter)|(method|rollbacks)\..*\.runbook\.fence", "both are right for a switch"),
)  # fmt: skip


def family_files(family: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(FAMILIES[family]))


@cache
def chosen(family: str, kind: str) -> Mutation | None:
    """The mutation of one file of the family; which one, the seed decides."""
    files = family_files(family)
    random.Random(f"{family} {kind} {SEED}").shuffle(files)
    found = (mutation(file, (ROOT / file).read_bytes(), kind, SEED) for file in files)
    return next((one for one in found if one is not None), None)


CASES = [pytest.param(family, kind, id=f"{family}-{kind}") for family in FAMILIES for kind in kinds()]


def harmless(spoilt: Mutation) -> bool:
    rules = [rule for rule in HARMLESS if rule.kind == spoilt.kind and re.fullmatch(rule.place, spoilt.place)]
    only_if = {_BOUND: in_order, _ARGUMENTS: only_heal_lacks_arguments}.get(rules[0].place) if rules else None
    return bool(rules) and (only_if is None or all(map(only_if, yaml.load_all(spoilt.content, yaml.CSafeLoader))))


def in_order(value: Any) -> bool:
    """Whether every pair of numbers in a document, its bounds, is one that something can be within."""
    match value:
        case [int() | float() as least, int() | float() as most]:
            return least <= most
        case dict() | list():
            return all(map(in_order, value.values() if isinstance(value, dict) else value))
    return True


def only_heal_lacks_arguments(experiment: Any) -> bool:
    """Whether each action that was told nothing needs nothing to be told."""
    providers = [
        step["provider"] for step in experiment["method"] + experiment["rollbacks"] if step["type"] == "action"
    ]
    return all("arguments" in provider or provider["func"] == "heal" for provider in providers)


def arguments(file: str, place: str, users: dict[str, str]) -> list[str]:
    if users[file]:
        return ["run", users[file], "--stack", stack_for(users[file])]
    suite = place.partition(".")[0] or "smoke"
    return ["suite", suite, "--stack", "kind" if suite == "cluster" else "local"]


def stack_for(name: str) -> str:
    """A stack that can play the shipped scenario."""
    experiment = read_scenario(ROOT, name).experiment
    return able(experiment.fault)[0] if experiment else "local"


def assert_one_line(said: Said, *words: str) -> None:
    assert said.began == ()
    assert said.out == ""
    assert said.code == 2, said.err
    assert said.err.startswith("resilience: ")
    assert said.err.endswith("\n")
    line = said.err[:-1]
    assert line.isprintable(), "more than one line, or what a terminal obeys"
    assert len(line) < 500
    assert [word for word in words if word not in line] == [], line
    assert SAYS_WHAT.search(line), line


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_spoilt_file_is_one_line_or_harmless(
    family: str, kind: str, project: Path, users: dict[str, str], command: Command
) -> None:
    spoilt = chosen(family, kind)
    if spoilt is None:
        assert kind in {"truth", "empty-list", "item-twice", "many-items", "mapping-for-list"} or "number" in kind
        return
    (project / spoilt.file).write_bytes(spoilt.content)
    began = time.process_time()
    said = command(*arguments(spoilt.file, spoilt.place, users))
    assert time.process_time() - began < CPU_S_MAX
    if harmless(spoilt):
        assert (said.code, said.err) == (4, f"resilience: {WOULD_START}\n"), f"refused: {spoilt.place}: {said.err}"
    else:
        assert_one_line(said, spoilt.file)


@pytest.mark.parametrize(("step", "right"), [("hold", False), ("inject", False), ("heal", True)])
def test_only_heal_needs_no_arguments(step: str, right: bool) -> None:
    file = "experiments/node/node-freeze.yaml"
    experiment = yaml.safe_load((ROOT / file).read_text())
    found = next(one for one in experiment["method"] if one["provider"]["func"].startswith(step))
    del found["provider"]["arguments"]
    content = yaml.safe_dump(experiment).encode()
    spoilt = Mutation(file=file, kind="dropped", place="method.*.provider.arguments", content=content)
    assert harmless(spoilt) is right


def test_there_are_many_of_all_kinds_and_most_are_refused() -> None:
    found = [(family, one) for family in FAMILIES for kind in kinds() if (one := chosen(family, kind))]
    refused = [family for family, one in found if not harmless(one)]
    assert len(refused) > 200
    assert all(refused.count(family) > 30 for family in FAMILIES)


def test_every_shipped_file_is_of_a_family(users: dict[str, str]) -> None:
    assert sorted(users) == sorted(file for family in FAMILIES for file in family_files(family))


# --- something else in a file's place ---------------------------------------------------------------------------------


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.yaml"))


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def outside(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def nothing(path: Path) -> None:
    assert not path.exists()


PLACES = {
    "scenario": ("scenarios/redis/redis-failover.yaml", "redis-failover"),
    "experiment": ("experiments/redis/redis-failover.yaml", "redis-failover"),
    "slo": ("scenarios/slo/redis-failover-fault.yaml", "redis-failover"),
    "stack": ("stacks/local/harmonyflow.yaml", "redis-failover"),
    "suites": ("scenarios/suites.yaml", ""),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("put", [folder, pipe, device, dangling, circle, outside, nothing])
def test_what_is_no_file_is_one_line(put: Callable[[Path], None], place: str, project: Path, command: Command) -> None:
    file, scenario = PLACES[place]
    (project / file).unlink()
    put(project / file)
    said = command(*(["run", scenario] if scenario else ["suite", "smoke"]))
    if (place, put) == ("scenario", nothing):
        assert_one_line(said, "scenario 'redis-failover'", "there is none of that name")
    else:
        assert_one_line(said, file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("place", PLACES)
def test_an_unreadable_file_is_one_line(place: str, project: Path, command: Command) -> None:
    file, scenario = PLACES[place]
    (project / file).chmod(0)
    assert_one_line(command(*(["run", scenario] if scenario else ["suite", "smoke"])), file, "cannot be read")


@pytest.mark.parametrize("field", ["stack", "experiment", "slos"])
def test_files_that_name_each_other_in_a_circle_are_one_line(field: str, project: Path, command: Command) -> None:
    file = project / "scenarios/redis/redis-failover.yaml"
    text = re.sub(rf"(?m)^{field}:.*\n(  - .*\n)*", "", file.read_text())
    own = "scenarios/redis/redis-failover.yaml"
    file.write_text(f"{text}\n{field}: {[own] if field == 'slos' else own}\n")
    assert_one_line(command("run", "redis-failover"), own)


# --- suites -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"../../../tmp/owned": {title: a, runs: [{scenario: baseline}]}', ["../../../tmp/owned: expected a name"]),
        ('"smo\\e[2Jke": {title: a, runs: [{scenario: baseline}]}', ["line 1", "control characters"]),
        ("smoke: {title: a, runs: []}", ["smoke.runs: expected a list of length >= 1"]),
        ("smoke: {title: a, runs: [{scenario: nobody}]}", ["smoke.runs[0]: scenario 'nobody': there is none"]),
        ("smoke: {title: a, runs: [{scenario: baseline, set: {seed: a}}]}", ["smoke.runs[0]", "whole number"]),
        (
            "smoke: {title: a, runs: [{scenario: baseline, expect: {redis: '8.0', measures: {x: [2, 1]}}}]}",
            ["smoke.runs[0].expect.measures.x: expected [least, most] (got [2.0, 1.0])"],
        ),
        (
            "smoke: {title: a, runs: [{scenario: baseline, expect: {measures: {x: [1, 2]}}}]}",
            ["smoke.runs[0].expect", "name its series"],
        ),
        *(
            (
                f"smoke: {{title: a, runs: [{{scenario: baseline, expect: {{{series}}}}}]}}",
                [f"smoke.runs[0].expect.{field}"],
            )
            for field, series in (
                ("postgresql", "postgresql: '17.12'"),  # its series are major versions
                ("postgresql", "postgresql: 17"),
                ("rabbitmq", "rabbitmq: '4'"),
                ("redis", "redis: 8.0"),
            )
        ),
        (
            "smoke: {title: a, runs: [{scenario: baseline, expect: {postgres: '17'}}]}",
            ["smoke.runs[0].expect", "postgres"],
        ),
        *(
            (
                f"smoke: {{title: a, runs: [{{scenario: baseline, expect: {{{expect}}}}}]}}",
                ["smoke.runs[0].expect", says],
            )
            for expect, says in (
                ("verdict: fail", "any run may end with fail: name what it has to be by"),
                ("verdict: inconclusive, by: []", "any run may end with inconclusive"),
                ("by: [latency]", "a pass is by no finding"),
                ("verdict: fail, by: latency", "by: expected"),
                ("verdict: fail, by: [1]", "by[0]: expected"),
                ("verdict: fail, by: ['']", "by[0]: expected"),
                ('verdict: fail, by: ["late\\nncy"]', "by[0]: expected"),
                ("verdict: fail, by: [latency], besides: [latency]", "expected every finding once"),
                (f"verdict: fail, by: [{', '.join(f'c{n}' for n in range(51))}]", "by: expected"),
            )
        ),
        ("smoke: {title: a}", ["smoke: expected either runs, or suites"]),
        ("smoke: {title: a, suites: []}", ["smoke.suites: expected a list of length >= 1"]),
        ("smoke: {title: a, suites: [smokes]}", ["smoke.suites[0]: there is no suite 'smokes'", "did you mean"]),
        ("smoke: {title: a, suites: [smoke]}", ["smoke.suites[0]: expected one that has runs of its own"]),
        (
            "a: {title: a, runs: [{scenario: baseline}]}\nsmoke: {title: a, suites: [a, a]}",
            ["smoke.suites[1]: expected every suite once (got a again)"],
        ),
        (
            "a: {title: a, runs: [{scenario: nobody}]}\nsmoke: {title: a, suites: [a]}",
            ["a.runs[0]: scenario 'nobody': there is none"],
        ),
        (
            "a: {title: a, runs: [{scenario: baseline}]}\nsmoke: {title: a, suites: [a], runs: [{scenario: baseline}]}",
            ["smoke: expected either runs, or suites"],
        ),
        ("".join(f"s{n}: {{title: a, runs: [{{scenario: baseline}}]}}\n" for n in range(101)), ["at most 100 suites"]),
        ("[smoke]", ["expected suites by their names"]),
    ],
)
def test_spoilt_suites(text: str, words: list[str], project: Path, command: Command) -> None:
    (project / "scenarios/suites.yaml").write_text(text)
    assert_one_line(command("suite", "smoke"), "scenarios/suites.yaml", *words)
    assert_one_line(command("suite"), "scenarios/suites.yaml", *words)


def test_a_run_that_is_to_end_by_a_finding_that_there_is_not_is_one_line(project: Path, command: Command) -> None:
    run = "{scenario: redis-failover, expect: {verdict: fail, by: [slo.recovery-tim]}}"
    (project / "scenarios/suites.yaml").write_text(f"smoke: {{title: a, runs: [{run}]}}\n")
    words = ("smoke: redis-failover: expect.by: expected a check, slo.NAME", "did you mean 'slo.recovery-time'")
    assert_one_line(command("suite", "smoke"), "scenarios/suites.yaml", *words)


def test_a_suite_of_many_runs_is_read_in_no_time(project: Path, command: Command) -> None:
    runs = ", ".join(["{scenario: baseline}"] * 500)
    (project / "scenarios/suites.yaml").write_text(f"smoke: {{title: a, runs: [{runs}]}}\n")
    began = time.process_time()
    assert command("suite", "smoke").err == f"resilience: {WOULD_START}\n"
    assert time.process_time() - began < CPU_S_MAX


def test_a_weakness_of_a_check_that_there_is_not_is_one_line(project: Path, command: Command) -> None:
    file = project / "scenarios/platform/baseline.yaml"
    weakness = "{finding: durability.redis, within: {value: [0, 1]}, seen: always, why: because}"
    file.write_text(f"{file.read_text()}\nknown_weaknesses: [{weakness}]\n")
    words = ("known_weaknesses[0].finding: expected a check or slo.NAME", "did you mean")
    assert_one_line(command("run", "baseline"), "scenarios/platform/baseline.yaml", *words)
