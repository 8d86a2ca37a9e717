"""The page as text: what stands in it, in which order, and what never gets into it."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.check.finding import Judgement
from resilience.check.timeline import QueueChange, Span, Timeline
from resilience.report.charts import lanes_of
from resilience.report.html import html_page, rendered
from tests import judged_run

ORDER = ("banner", "findings", "timeline", "recovery", "lost", "members", "generator", "servers", "run", "files")


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:  # inside a script or a style
            self.raw.append((self.cdata_elem, data))
        self.texts.append(data)

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attributes[name] for found, attributes in self.tags if found == tag and name in attributes]


def page_of(tmp_path: Path, judgement: Judgement) -> str:
    return rendered(judged_run.saved(tmp_path, judgement))


def chart_data(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return msgspec.json.decode(found[1])


@pytest.mark.parametrize(
    "judgement", [judged_run.passed(), judged_run.failed(), judged_run.inconclusive()], ids=lambda item: item.verdict
)
def test_the_parts_come_in_the_order_in_which_they_are_asked_for(tmp_path: Path, judgement: Judgement):
    text = page_of(tmp_path, judgement)
    places = [text.index(f'class="{name} v-' if name == "banner" else f'<section id="{name}"') for name in ORDER]
    assert places == sorted(places)
    assert f"<span>{judgement.verdict.upper()}</span>" in text
    assert all(finding.check in text for finding in judgement.findings)


@pytest.mark.parametrize(
    ("judgement", "counted"),
    [
        (judged_run.passed(), "6 findings of checks and objectives: 6 pass; 2 assumptions behind them: all hold"),
        (
            judged_run.failed(),
            "7 findings of checks and objectives: 1 fail, 6 pass; 2 assumptions behind them: all hold",
        ),
        (judged_run.inconclusive(), "; 2 assumptions behind them: 1 does not hold"),
        (judged_run.known(), "7 findings of checks and objectives: 1 known weakness, 6 pass; "),
    ],
)
def test_findings_are_counted_apart_from_what_they_rest_on(judgement: Judgement, counted: str, tmp_path: Path):
    assert counted in " ".join(page_of(tmp_path, judgement).split())


def test_what_did_not_pass_comes_first(tmp_path: Path):
    text = page_of(tmp_path, judged_run.failed())
    assert text.index("durability.direct") < text.index("slo.session-latency") < text.index("assumption.load-rate")


def test_a_known_weakness_is_shown_as_one(tmp_path: Path):
    text = page_of(tmp_path, judged_run.known())
    assert "<span>PASS</span>" in text
    texts = [" ".join(piece.split()) for piece in Page(text).texts]
    assert texts.count("known weakness, seen again") == 1
    assert "WAIT would keep those writes <b>" in texts


def test_nothing_is_fetched_and_only_what_is_in_the_page_may_run(tmp_path: Path):
    text = page_of(tmp_path, judged_run.failed())
    page = Page(text)
    policy = page.attributes("meta", "content")[0]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "style=" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    for tag, content in page.raw:
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy or (tag, content[:8]) == ("script", '{"start"')
    assert not page.attributes("script", "src")
    assert not page.attributes("img", "src")
    assert page.attributes("link", "href") == ["data:,"]
    for link in page.attributes("a", "href"):
        assert link is not None
        assert not re.match(r"(https?:)?//", link)


def test_hostile_text_is_text_everywhere(tmp_path: Path):
    text = page_of(tmp_path, judged_run.hostile())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    page = Page(text)
    assert "img" not in {tag for tag, _ in page.tags}
    assert "b" not in {tag for tag, _ in page.tags}
    assert "direct:</script><img src=x onerror=alert(1)>\\x1b[31m\\u202e<b>:1" in page.texts


def test_hostile_names_cannot_leave_the_charts_data(tmp_path: Path):
    run = judged_run.opened(tmp_path)
    roles = (msgspec.structs.replace(judged_run.timeline().roles[0], member=judged_run.HOSTILE),)
    run.save_judgement(judged_run.passed(), msgspec.structs.replace(judged_run.timeline(), roles=roles))
    text = rendered(run)
    assert chart_data(text)["lanes"][0]["label"] == "</script><img src=x onerror=alert(1)>\\x1b[31m\\u202e<b>"
    assert len(re.findall("</script>", text)) == 3


def test_each_lost_write_is_listed_with_shard_and_acknowledgement(tmp_path: Path):
    text = page_of(tmp_path, judged_run.failed(judged_run.lost_writes(250)))
    lost = text[text.index('<section id="lost"') : text.index('<section id="members"')]
    assert lost.count("<details") == 1
    texts = Page(lost).texts
    assert texts.count("shard 1") == 200
    assert {"direct/3000", "direct/3199", "29.940 s"} <= set(texts)
    assert "and 50 more; all of them are in the history beside this page" in texts
    assert "29.940 to 31.238 s" in lost


def test_gaps_stay_gaps(tmp_path: Path):
    charts = {chart["id"]: chart for chart in chart_data(page_of(tmp_path, judged_run.passed()))["charts"]}
    assert charts["errors"]["series"][0]["values"][69:73] == [0.0, None, None, 0.0]
    assert [line["values"][70] for line in charts["latency"]["series"]] == [None, None, None]
    assert list(charts) == ["throughput", "errors", "latency", "direct", "deliveries", "roles", "lag", "busy"]


def test_lanes_go_from_each_role_to_the_next(tmp_path: Path):
    lanes = {lane["label"]: lane["spans"] for lane in chart_data(page_of(tmp_path, judged_run.passed()))["lanes"]}
    seen = [(span["kind"], span["start"], span["end"]) for span in lanes["redis-cluster-0"]]
    assert seen == [("primary", 0.4, 31.9), ("unreachable", 31.9, 63.0), ("replica", 63.0, 92.0)]


def test_each_queue_has_a_lane_of_who_led_it():
    changes = ((0.4, "rabbitmq-0"), (31.9, ""), (33.1, "rabbitmq-1"), (70.0, "rabbitmq-0"))
    queues = tuple(
        QueueChange(at_s=at_s, queue="session-events", leader=leader, online=("rabbitmq-0", "rabbitmq-2"))
        for at_s, leader in changes
    )
    line = msgspec.structs.replace(judged_run.timeline(), queues=queues)
    lanes = {lane.label: lane.spans for lane in lanes_of(line)}
    assert [(span.kind, span.start, span.end) for span in lanes["session-events"]] == [
        ("first-leader", 0.4, 31.9), ("no-known-leader", 31.9, 33.1), ("next-leader", 33.1, 70.0),
        ("first-leader", 70.0, 92.0),
    ]  # fmt: skip
    assert [span.label for span in lanes["session-events"]][:3] == [
        "led by rabbitmq-0, with rabbitmq-2",
        "led by nobody that is known, with rabbitmq-0, rabbitmq-2",
        "led by rabbitmq-1, with rabbitmq-0, rabbitmq-2",
    ]


def test_the_members_that_a_node_took_are_named(tmp_path: Path):
    text = page_of(tmp_path, judged_run.passed())
    texts = Page(text[text.index('<section id="members"') : text.index('<section id="generator"')]).texts
    assert {"redis-cluster-0", "session-0", "node-1 (whole node)", "31.250 s"} <= set(texts)


AS_IT_SAYS = "Every directive of Redis that the stack file sets is as it says."


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({}, AS_IT_SAYS),
        ({"appendonly": "no instead of yes"}, "appendonly no instead of yes: redis-cluster-0, redis-cluster-1"),
        (None, ""),
    ],
    ids=["nothing", "something", "a record from before"],
)
def test_what_servers_have_otherwise_than_the_stack_file_is_told(
    tmp_path: Path, differs: dict[str, str] | None, says: str
):
    run = judged_run.saved(tmp_path, judged_run.passed())
    described = {"config": {"appendonly": "no"}} | ({} if differs is None else {"differs": differs})
    run.save_servers({f"redis-cluster-{number}": described for number in range(2)})
    text = rendered(run)
    texts = Page(text[text.index('<section id="servers"') : text.index('<section id="run"')]).texts
    assert (says in texts) == bool(says)
    assert (AS_IT_SAYS in texts) == (says == AS_IT_SAYS)
    assert ("Not as the stack file has it:" in texts) == bool(differs)


def test_it_is_readable_without_scripts(tmp_path: Path):
    text = page_of(tmp_path, judged_run.passed())
    svg = text[text.index('<svg class="overview"') :]
    svg = svg[: svg.index("</svg>\n<details")] if "</svg>\n<details" in svg else svg[: svg.index("</svg>")]
    assert all(name in svg for name in ("warmup", "recovery", "redis-cluster-5", 'class="shade"', "k-shard-1"))


def test_a_run_cut_short_has_a_page_that_says_so(tmp_path: Path):
    run = judged_run.opened(tmp_path)
    path = html_page(run)
    text = path.read_text()
    assert "cut short: the run ended before it was judged" in text
    assert "Lost writes were not judged in this run." in text
    assert 'id="data"' not in text


def test_an_empty_timeline_draws_nothing(tmp_path: Path):
    run = judged_run.opened(tmp_path)
    empty = Timeline(
        seconds=(), ops_per_s={}, error_ratio=(), latency_ms={}, direct_ok_per_s={}, deliveries_per_s=(), roles=(),
        phases=(), injections=(), outages=(),
    )  # fmt: skip
    run.save_judgement(judged_run.inconclusive(), empty)
    assert "The run ended before there was anything to draw." in rendered(run)


def test_brief_outages_are_one_line(tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.inconclusive())
    brief = tuple(Span(label="outage", start_s=at, end_s=at + 0.05, group=2) for at in (1.0, 2.0, 3.5))
    run.save_judgement(judged_run.inconclusive(), msgspec.structs.replace(run.load_timeline(), brief_outages=brief))
    text = rendered(run)
    assert "3 brief outages, at most 0.050 s on shard 2: not drawn" in text
    assert text.count("brief outage, shard 2") >= 3


def test_a_damaged_history_does_not_stop_the_page(tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.inconclusive())
    with run.history.open("ab") as file:
        file.write(b'["event","torn')
    assert "stack-up" in rendered(run)


def test_files_are_linked_and_the_page_itself_is_not(tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.passed())
    (run.members_dir / "a b#.log").write_text("x")
    html_page(run)
    links = Page(rendered(run)).attributes("a", "href")
    assert "members/a%20b%23.log" in links
    assert "history.jsonl" in links
    assert "report.html" not in links


def test_the_control_stands_at_the_top_as_text(tmp_path: Path):
    page = page_of(tmp_path, judged_run.beside(judged_run.passed(), f"baseline/1-1: {judged_run.HOSTILE}"))
    assert "baseline/1-1: &lt;/script&gt;" in page.partition('<section id="findings">')[0]
