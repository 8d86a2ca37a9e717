"""One run full of attacks, in everything that is made from it: shown as text, obeyed nowhere, and never endless."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from resilience import cli, runner
from resilience.agent import nftables
from resilience.agent.error import AgentError
from resilience.errors import SpecError
from resilience.report.document import VerdictFile
from resilience.report.live import LiveState, changes, panel
from resilience.report.run import Run
from resilience.report.suite import SuiteRow, suite_json, suite_junit, suite_table
from resilience.report.terminal import console_for, plain
from resilience.spec.convert import record_from
from resilience.spec.stack import Member
from tests import hostile

OURS = re.compile(r"\x1b\[[0-9;]*m")  # colours, the only thing that we send to a terminal besides text
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069]")
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= set(attrs)
        self.scripts += tag == "script"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str, str]:
    """The run, and what a terminal and a pipe were shown when it was judged."""
    run = hostile.opened(tmp_path_factory.mktemp("reports"))
    screen, pipe = Terminal(), io.StringIO()
    for stream in (screen, pipe):
        runner.judge_run(run, None, console_for(stream))
    return run, screen.getvalue(), pipe.getvalue()


def test_a_terminal_is_sent_text_and_colours(judged: tuple[Run, str, str]) -> None:
    run, screen, pipe = judged
    assert not OBEYED.search(OURS.sub("", screen))
    assert not OBEYED.search(pipe)
    assert "\\x1b]0;owned\\x07" in "".join(pipe.split())
    assert max(len(screen), len(pipe)) < 300_000, "a member's line of a megabyte floods nobody's terminal"
    assert run.load_judgement().verdict == "inconclusive"


def test_the_page_has_no_tag_that_is_not_ours(judged: tuple[Run, str, str]) -> None:
    page = judged[0].page.read_text(encoding="utf-8")
    tags = Tags(page)
    assert not tags.names & {"img", "iframe", "object", "embed", "form", "input", "base", "b"}
    assert tags.scripts == 3
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name == "style"]
    links = [value or "" for name, value in tags.attributes if name in {"href", "src"}]
    assert not [link for link in links if re.match(r"\s*(javascript|https?|//)", link, re.IGNORECASE)]
    assert not OBEYED.search(page.replace("\n", ""))
    assert "&lt;script&gt;window.owned=1" in page
    assert "{{7*7}}" in page


def test_junit_is_xml_and_says_it(judged: tuple[Run, str, str]) -> None:
    text = judged[0].junit.read_text(encoding="utf-8")
    assert not NOT_XML.search(text)
    values = [value for element in ET.fromstring(text).iter() for value in element.attrib.values()]
    assert any(hostile.TEXTS["script"] in value for value in values)


def test_the_verdict_is_json_that_reads_back(judged: tuple[Run, str, str]) -> None:
    raw = judged[0].verdict.read_bytes()
    assert msgspec.json.decode(raw, type=VerdictFile).title == hostile.ALL
    assert b"\x1b" not in raw


@pytest.mark.parametrize("name", ["judge", "report"])
def test_the_commands_show_the_same(
    name: str, judged: tuple[Run, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([name, str(judged[0].directory)]) == (3 if name == "judge" else 0)
    said = capsys.readouterr()
    assert said.err == ""
    assert not OBEYED.search(said.out)
    assert list(tmp_path.iterdir()) == [], "something was executed"


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS)
def test_progress_and_suites_show_text(text: str) -> None:
    row = SuiteRow(scenario=text, title=text, result="error", verdict="", line=text, took_s=1.0, directory=text)
    state = LiveState(scenario=text, phase=text, roles={text: text}, injection=text, notes=(text,))
    stream = Terminal()
    console = console_for(stream)
    for shown in (suite_table(text, [row]), panel(state, 1.0), *map(plain, changes(LiveState(scenario=""), state))):
        console.print(shown)
    assert not OBEYED.search(OURS.sub("", stream.getvalue()))
    assert len(stream.getvalue()) < 100_000
    assert not NOT_XML.search(suite_junit(text, [row]).decode())
    assert ET.fromstring(suite_junit(text, [row])).get("tests") == "1"
    assert msgspec.json.decode(suite_json(text, [row]))["runs"][0]["line"] == text


NO_NAMES = [text for name, text in hostile.TEXTS.items() if name != "built-in"]  # that is an honest name


@pytest.mark.parametrize("text", NO_NAMES, ids=lambda text: ascii(text[:20]))
def test_no_such_text_is_a_name_that_gets_into_configurations_and_rules(text: str) -> None:
    with pytest.raises(SpecError):
        record_from({"name": text, "component": "redis", "node": "node-1"}, Member, "stack.yaml")
    with pytest.raises(AgentError):
        nftables.table_name(text)
    with pytest.raises(AgentError):
        nftables.links_table("hf_x", [text])
    with pytest.raises(ValueError, match=r"."):
        nftables.drop_table("hf_x", [text], "both")
