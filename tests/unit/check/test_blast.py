"""Who may suffer, and who may not."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.blast import blast_radius
from resilience.check.compose import judge
from resilience.check.finding import Finding
from resilience.history.content import OF_ARTICLES
from resilience.spec.blast import BlastRadius
from tests.histories import (
    APPLIED,
    FAULT,
    RECOVERY,
    TIERS,
    WITH_CONTENT,
    Op,
    Recorded,
    S,
    personalized,
    recorded,
    scenario,
    with_people,
)


def judged(run: Recorded, folder: Path, radius: BlastRadius | None) -> dict[str, Finding]:
    about = replace(scenario(slos=()), blast_radius=radius)
    found = blast_radius(about, run.history(folder, about))
    return {finding.where.group: finding for finding in found if finding.check == "blast-radius"}


def people(run: Recorded, folder: Path) -> dict[str, Finding]:
    """As the fault is in shard 1 alone, and others may wait for 2.5 s."""
    radius = BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5)
    about = replace(scenario(slos=()), blast_radius=radius)
    found = blast_radius(about, run.history(folder, about))
    return {finding.where.group: finding for finding in found if finding.check == "blast-radius.people"}


def fail_shard(run: Recorded, group: int, length_us: int) -> None:
    for op in run.of("direct.write", group):
        if APPLIED <= op.due < APPLIED + length_us:
            op.end("fail", 1_500, "clusterdown")


def test_those_that_may_suffer_are_not_judged(tmp_path: Path) -> None:
    found = judged(recorded(), tmp_path, BlastRadius(may_suffer=("shard 1",)))
    assert {group: finding.verdict for group, finding in found.items()} == {"shard 2": "pass", "shard 3": "pass"}


def test_any_other_that_suffers_is_a_finding(tmp_path: Path) -> None:
    found = judged(recorded(), tmp_path, BlastRadius(may_suffer=("shard 2",)))
    assert {group: finding.verdict for group, finding in found.items()} == {"shard 1": "fail", "shard 3": "pass"}


@pytest.mark.parametrize(("length_us", "verdict"), [(400_000, "pass"), (1_100_000, "fail")])
def test_who_did_without_for_moments_before_the_fault_may_do_without_for_no_longer(
    tmp_path: Path, length_us: int, verdict: str
) -> None:
    """An outage is longer than three of such moments; who may suffer for half a second only has one before that."""
    run = recorded()
    for op in run.of("direct.write", 2):
        if op.due < FAULT and op.due % S < 400_000:
            op.end("fail", 1_500, "clusterdown")
    fail_shard(run, 2, length_us)
    assert judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",)))["shard 2"].verdict == verdict


@pytest.mark.parametrize(("length_us", "verdict"), [(2 * S, "pass"), (3 * S, "fail")])
def test_the_others_may_suffer_for_a_moment(tmp_path: Path, length_us: int, verdict: str) -> None:
    run = recorded()
    fail_shard(run, 2, length_us)
    found = judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5))
    assert found["shard 2"].verdict == verdict
    assert ("without an acknowledged write" in found["shard 2"].reason) == (verdict == "fail")


def test_a_shard_that_answers_late_was_away(tmp_path: Path) -> None:
    """Every write succeeds in the end, and yet for 1.5 s nobody got an answer."""
    run = recorded()
    for op in run.of("direct.write", 2):
        if APPLIED <= op.due < APPLIED + 1_500_000:
            op.end("ok", APPLIED + 1_500_000 - op.due)
    found = judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",), others_outage_s_max=1.0))
    assert found["shard 2"].verdict == "fail"


def test_a_shard_that_nobody_wrote_to_is_not_judged(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if op.kind != "direct.write" or op.group != 3]
    assert judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",)))["shard 3"].verdict == "inconclusive"


def starve(run: Recorded, kind: str, group: int, length_us: int) -> None:
    """No op of a kind on a shard is answered, though the shard itself is well."""
    for op in run.ops:
        if op.kind.startswith(kind) and op.group == group and APPLIED <= op.due < APPLIED + length_us:
            op.end("unknown", 2 * S, "timeout")


def test_people_on_other_shards_go_on(tmp_path: Path) -> None:
    found = people(recorded(), tmp_path)
    assert {group: finding.verdict for group, finding in found.items()} == {"shard 2": "pass", "shard 3": "pass"}


@pytest.mark.parametrize(
    ("kind", "length_us", "verdict", "says"),
    [
        ("session.", 9 * S, "fail", "sessions: "),
        ("collaboration.edit", 9 * S, "fail", "rooms: "),
        ("session.", 2 * S, "pass", ""),
    ],
    ids=["sessions", "rooms", "for a moment"],
)
def test_people_who_suffer_though_the_shard_is_well(
    tmp_path: Path, kind: str, length_us: int, verdict: str, says: str
) -> None:
    run = recorded()
    starve(run, kind, 2, length_us)
    assert judged(run, tmp_path / "one", BlastRadius(may_suffer=("shard 1",)))["shard 2"].verdict == "pass"
    finding = people(run, tmp_path / "two")["shard 2"]
    assert finding.verdict == verdict
    assert finding.reason.startswith(says)


def test_of_a_machine_that_was_taken_nobody_can_say_who_suffered(tmp_path: Path) -> None:
    """A generator that fell behind is served late for its own reasons: rooms that waited are no fault's victims."""
    radius = BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5)
    about, run = replace(scenario(slos=(), checks=("blast-radius",)), blast_radius=radius), recorded()
    starve(run, "collaboration.edit", 2, 9 * S)
    assert judge(about, run.history(tmp_path / "punctual", about)).verdict == "fail"
    for op in run.of("collaboration.edit", phase="steady")[::10]:
        op.called, op.returned = op.due + 110_000, op.due + 114_000
    judgement = judge(about, run.history(tmp_path / "behind", about))
    assert {finding.verdict for finding in judgement.findings if finding.check.startswith("blast")} == {"inconclusive"}
    assert "110.0 ms behind" in judgement.headline


def test_people_whom_nobody_served_are_not_judged(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if not op.kind.startswith("session.") or op.group != 3]
    assert people(run, tmp_path)["shard 3"].verdict == "inconclusive"


def served(run: Recorded, folder: Path, most_s: float = 2.5) -> Finding:
    """Who was not served on shard 2, as the fault is in shard 1 alone."""
    about = replace(scenario(slos=()), blast_radius=BlastRadius(may_suffer=("shard 1",), others_outage_s_max=most_s))
    found = blast_radius(about, run.history(folder, about))
    return next(one for one in found if (one.check, one.where.group) == ("blast-radius.served", "shard 2"))


def since_the_fault(run: Recorded, kind: str) -> list[Op]:
    return [op for op in run.of(kind, 2) if op.due >= APPLIED]


def test_nine_of_ten_writes_that_fail_make_no_silence_and_are_found(tmp_path: Path) -> None:
    run = recorded()
    for number, op in enumerate(run.of("direct.write", 2, "fault")):
        if number % 10:
            op.end("fail", 1_500, "clusterdown")
    others = judged(run, tmp_path / "silence", BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5))
    assert others["shard 2"].verdict == "pass"
    finding = served(run, tmp_path / "share")
    assert (finding.verdict, finding.reason) == ("fail", "direct.write: 314 of 800")


@pytest.mark.parametrize(
    "kind", ["session.create", "session.read", "session.heartbeat", "session.update", "session.end"]
)
def test_one_kind_of_op_that_fails_while_the_others_succeed_is_found(tmp_path: Path, kind: str) -> None:
    run = recorded()
    for op in run.of(kind, 2, "fault"):
        op.end("fail", 6_000, "http-503")
    assert people(run, tmp_path / "silence")["shard 2"].verdict == "pass"
    finding = served(run, tmp_path / "share")
    assert (finding.verdict, finding.reason.partition(":")[0]) == ("fail", kind)


@pytest.mark.parametrize(("after_us", "verdict"), [(500_000, "pass"), (500_001, "fail")])
def test_who_waits_is_not_served(tmp_path: Path, after_us: int, verdict: str) -> None:
    run = recorded()
    for op in since_the_fault(run, "collaboration.edit"):
        op.end("ok", after_us)
    assert served(run, tmp_path).verdict == verdict


@pytest.mark.parametrize(("bad", "verdict"), [(16, "pass"), (17, "fail")])
def test_a_few_are_allowed_beside_the_stretch(tmp_path: Path, bad: int, verdict: str) -> None:
    """2 % of 800 are; the stretch, in which each write fails, is as long as it may be, and does not count."""
    run = recorded()
    fail_shard(run, 2, 1_000_000)
    for op in [op for op in since_the_fault(run, "direct.write") if op.due >= APPLIED + 2 * S][: 7 * bad : 7]:
        op.end("unknown", 900_000, "timeout")
    assert served(run, tmp_path, most_s=1.0).verdict == verdict


def test_a_second_stretch_counts(tmp_path: Path) -> None:
    """Neither is too long, but one is all that the promotion of a replica explains."""
    run = recorded()
    for op in since_the_fault(run, "direct.write"):
        if op.due < APPLIED + S or APPLIED + 5 * S <= op.due < APPLIED + 6 * S:
            op.end("fail", 1_500, "clusterdown")
    finding = served(run, tmp_path, most_s=1.5)
    assert (finding.verdict, finding.reason) == ("fail", "direct.write: 20 of 800")


def test_a_single_op_is_no_share(tmp_path: Path) -> None:
    run = recorded()
    for op in since_the_fault(run, "session.read")[::20]:
        op.end("fail", 6_000, "http-503")
    assert len(since_the_fault(run, "session.read")) < 40
    assert served(run, tmp_path, most_s=0.1).verdict == "pass"


@pytest.mark.parametrize("gone", ["session.read", "session.", "direct.write", "collaboration.edit"])
def test_a_kind_that_was_not_sent_any_more_is_not_judged(tmp_path: Path, gone: str) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if not (op.kind.startswith(gone) and op.group == 2 and op.due >= FAULT)]
    assert served(run, tmp_path).verdict == "inconclusive"


def test_without_a_bound_it_says_so(tmp_path: Path) -> None:
    (finding,) = judged(recorded(), tmp_path, None).values()
    assert (finding.verdict, finding.measured) == ("pass", "not judged")


@pytest.mark.parametrize(
    ("may_suffer", "bad", "verdict"),
    [((), 4, "fail"), ((), 0, "pass"), (("content",), 4, "")],
    ids=["spared and sick", "spared and well", "may suffer"],
)
def test_articles_are_spared_unless_the_scenario_names_them(
    may_suffer: tuple[str, ...], bad: int, verdict: str, tmp_path: Path
) -> None:
    run = recorded(tiers=WITH_CONTENT)
    listed = [op for op in run.of("content.list") if op.due >= APPLIED]
    for op in listed[:bad]:  # a second lies between two
        op.end("fail", 2_000, "http-503")
    about = replace(scenario(slos=(), tiers=WITH_CONTENT), blast_radius=BlastRadius(may_suffer=may_suffer))
    found = [one for one in blast_radius(about, run.history(tmp_path, about)) if one.where.group == "content"]
    assert [(one.check, one.verdict) for one in found] == ([("blast-radius.served", verdict)] if verdict else [])


@pytest.mark.parametrize("kind", OF_ARTICLES)
def test_a_kind_of_op_on_articles_that_was_never_sent_is_not_judged(kind: str, tmp_path: Path) -> None:
    run = recorded(tiers=WITH_CONTENT)
    run.ops = [op for op in run.ops if op.kind != kind]
    about = replace(scenario(slos=(), tiers=WITH_CONTENT), blast_radius=BlastRadius(may_suffer=()))
    (found,) = (one for one in blast_radius(about, run.history(tmp_path, about)) if one.where.group == "content")
    assert (found.verdict, found.reason) == ("inconclusive", f"none was sent of {kind}")


@pytest.mark.parametrize(
    ("kind", "bad", "verdict"),
    [
        ("suggestion.read", 3, "pass"),
        ("suggestion.read", 4, "fail"),
        ("profile.write", 2, "pass"),
        ("profile.write", 3, "fail"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_suggestions_are_spared_unless_the_scenario_names_them(
    kind: str, bad: int, verdict: str, named: bool, tmp_path: Path
) -> None:
    """Of 40 that are written a single one may fail, of 120 that are read two, and one as the stretch, 2 s apart."""
    run = with_people(recorded(tiers=TIERS))
    for op in [op for op in run.of(kind) if op.due >= APPLIED][:: 2 if kind == "profile.write" else 6][:bad]:
        op.end("unknown", 2_000, "http-502")
    radius = BlastRadius(may_suffer=("personalization",) if named else ())
    about = replace(personalized(scenario(slos=(), tiers=TIERS)), blast_radius=radius)
    found = [one for one in blast_radius(about, run.history(tmp_path, about)) if one.where.group == "personalization"]
    assert [(one.check, one.verdict) for one in found] == ([] if named else [("blast-radius.served", verdict)])
    assert named or (kind in found[0].reason) == (verdict == "fail")


QUEUE = "collaboration-sync"


def of_queue(run: Recorded, folder: Path, *may_suffer: str, most_s: float = 1.0) -> dict[str, Finding]:
    about = scenario(slos=(), tiers=TIERS)
    about = replace(about, blast_radius=BlastRadius(may_suffer=may_suffer, others_outage_s_max=most_s))
    found = blast_radius(about, run.history(folder, about))
    return {one.check.rpartition(".")[2]: one for one in found if one.where.group == f"queue {QUEUE}"}


@pytest.mark.parametrize(("bad", "verdict"), [(5, "pass"), (6, "fail")])
@pytest.mark.parametrize(
    ("outcome", "after_us"), [("unknown", 2 * S), ("fail", 4_000), ("ok", 500_001)], ids=["unknown", "refused", "late"]
)
def test_a_queue_is_published_to(outcome: str, after_us: int, bad: int, verdict: str, tmp_path: Path) -> None:
    """2 % of 266 publishes may not be, beside those of the stretch."""
    run = recorded(tiers=TIERS)
    mine = [op for op in run.of("rabbitmq.publish") if op.key == QUEUE and op.due >= APPLIED]
    in_a_stretch = [op for op in mine if op.due < APPLIED + S - 100_000]
    for op in (*in_a_stretch, *mine[20 : 20 * (bad + 1) : 20]):
        op.end(outcome, after_us)
    found = of_queue(run, tmp_path)
    assert {name: one.verdict for name, one in found.items()} == {"served": verdict, "consumers": "pass"}
    assert found["served"].reason == (f"rabbitmq.publish: {bad} of 266" if verdict == "fail" else "")


def hold_back(run: Recorded, length_us: int) -> None:
    """Its consumers are handed nothing for a while, and then all of it."""
    begin = RECOVERY + 5 * S
    run.consumed = [
        replace(line, came=begin + length_us, at=max(begin + length_us, line.at))
        if line.queue == QUEUE and begin <= line.came < begin + length_us else line
        for line in run.consumed
    ]  # fmt: skip


@pytest.mark.parametrize(("length_us", "verdict"), [(800_000, "pass"), (1_200_000, "fail")])
def test_a_queue_hands_out_its_messages(length_us: int, verdict: str, tmp_path: Path) -> None:
    """Whether the fault hit it or not: what a failover excuses in its recovery it does not here."""
    run = recorded(tiers=TIERS)
    run.change("injected", members=["rabbitmq-0", "rabbitmq-1", "rabbitmq-2"])
    hold_back(run, length_us)
    found = of_queue(run, tmp_path)
    assert {name: one.verdict for name, one in found.items()} == {"served": "pass", "consumers": verdict}
    assert ("no message was handed to anybody for " in found["consumers"].reason) == (verdict == "fail")


@pytest.mark.parametrize(("length_us", "verdict"), [(0, "inconclusive"), (2 * S, "inconclusive"), (5 * S, "fail")])
def test_a_queue_that_handed_out_too_little_before_the_fault_is_not_passed(
    length_us: int, verdict: str, tmp_path: Path
) -> None:
    """A second may pass without a message; there always was one between two, so that less than three is no outage."""
    run = recorded(tiers=TIERS)
    run.consumed = [
        replace(line, came=line.came // S * S + S, at=max(line.came // S * S + S, line.at))
        if line.queue == QUEUE and line.came < FAULT - S else line
        for line in run.consumed
    ]  # fmt: skip
    hold_back(run, length_us)
    finding = of_queue(run, tmp_path)["consumers"]
    assert finding.verdict == verdict
    assert ("cannot be told from that" in finding.reason) == (verdict == "inconclusive")


def test_a_queue_that_may_suffer_is_not_judged(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    hold_back(run, 5 * S)
    assert of_queue(run, tmp_path, f"queue {QUEUE}") == {}


def test_a_queue_that_nobody_used_is_not_judged(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    run.consumed = [line for line in run.consumed if line.queue != QUEUE]
    run.ops = [op for op in run.ops if op.key != QUEUE or op.due < FAULT]
    found = of_queue(run, tmp_path)
    assert {name: one.verdict for name, one in found.items()} == {"served": "inconclusive", "consumers": "inconclusive"}


def test_a_queue_that_a_service_consumes_is_the_services(tmp_path: Path) -> None:
    about = replace(personalized(scenario(slos=(), tiers=TIERS)), blast_radius=BlastRadius(may_suffer=()))
    found = blast_radius(about, with_people(recorded(tiers=TIERS)).history(tmp_path, about))
    places = {one.where.group for one in found if not one.where.group.startswith("shard")}
    assert places == {"queue content-processing", "queue collaboration-sync", "personalization"}
    assert {one.verdict for one in found if not one.where.group.startswith("shard")} == {"pass"}


@pytest.mark.parametrize(
    ("named", "kind", "verdicts"),
    [
        ((), "session.", ("fail", "fail")),
        ((), "collaboration.edit", ("fail", "fail")),
        (("session",), "session.", ("pass", "pass")),
        (("collaboration",), "session.", ("fail", "fail")),
        (("session",), "collaboration.edit", ("fail", "fail")),
        (("collaboration",), "collaboration.edit", ("pass", "pass")),
        (("session", "collaboration"), "session.", ("", "pass")),
    ],
)
def test_a_service_that_may_suffer_does_so_on_every_shard(
    named: tuple[str, ...], kind: str, verdicts: tuple[str, str], tmp_path: Path
) -> None:
    """What is left is judged on each of them as before."""
    run = recorded()
    starve(run, kind, 2, 9 * S)
    radius = BlastRadius(may_suffer=("shard 1", *named), others_outage_s_max=2.5)
    about = replace(scenario(slos=()), blast_radius=radius)
    found = {
        one.check: one.verdict for one in blast_radius(about, run.history(tmp_path, about))
        if one.where.group == "shard 2"
    }  # fmt: skip
    assert found.pop("blast-radius") == "pass"
    assert (found.get("blast-radius.people", ""), found["blast-radius.served"]) == verdicts


def test_rooms_alone_are_people_too(tmp_path: Path) -> None:
    """Where sessions may suffer a shard without a room has nobody on it that may not."""
    about = replace(scenario(slos=()), blast_radius=BlastRadius(may_suffer=("session",), others_outage_s_max=2.5))
    found = [one for one in blast_radius(about, recorded().history(tmp_path, about)) if one.check.endswith(".people")]
    assert [one.where.group for one in found] == ["shard 2", "shard 3"]
    assert found[0].title == "people whose rooms are on shard 2 go on"
    assert "edits served" in found[0].measured
