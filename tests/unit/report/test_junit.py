"""``junit.xml``: a case for each finding, never green where the verdict is not."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from resilience.check.finding import Judgement
from resilience.report.junit import junit_file, junit_xml
from tests import judged_run


def suite_of(judgement: Judgement, tmp_path: Path) -> ET.Element:
    suite = ET.fromstring(junit_xml(judgement, judged_run.opened(tmp_path).load_spec())).find("testsuite")
    assert suite is not None
    return suite


@pytest.mark.parametrize(
    ("judgement", "failures", "errors"),
    [
        (judged_run.passed(), 0, 0),
        (judged_run.failed(), 1, 0),
        (judged_run.inconclusive(), 0, 1),
        (judged_run.known(), 0, 0),
    ],
    ids=["pass", "fail", "inconclusive", "known weakness"],
)
def test_each_finding_is_a_case(tmp_path: Path, judgement: Judgement, failures: int, errors: int):
    suite = suite_of(judgement, tmp_path)
    names = [case.get("name") for case in suite.iter("testcase")]
    assert len(names) == len(set(names)) == len(judgement.findings)
    assert (suite.get("failures"), suite.get("errors")) == (str(failures), str(errors))
    assert len(list(suite.iter("failure"))) == failures
    assert [error.get("type") for error in suite.iter("error")] == ["inconclusive"] * errors


def test_a_failure_says_what_was_measured_allowed_and_why(tmp_path: Path):
    failure = next(suite_of(judged_run.failed(), tmp_path).iter("failure"))
    loss = judged_run.lost_writes()
    assert failure.get("message") == loss.reason
    assert failure.text is not None
    assert loss.measured in failure.text
    assert loss.allowed in failure.text


def test_a_known_weakness_is_a_property_and_no_failure(tmp_path: Path):
    suite = suite_of(judged_run.known(), tmp_path)
    found = [
        (case.get("name"), item.get("value"))
        for case in suite.iter("testcase")
        for item in case.findall("properties/property")
        if item.get("name") == "known-weakness"
    ]
    assert found == [("durability.direct [shard 1]", "WAIT would keep those writes <b>")]


def test_a_run_cut_short_is_an_error(tmp_path: Path):
    run = judged_run.opened(tmp_path)
    junit_file(run)
    root = ET.fromstring(run.junit.read_bytes())
    assert root.get("errors") == "1"
    assert [case.get("name") for case in root.iter("testcase")] == ["verdict"]


def test_the_run_is_in_the_properties(tmp_path: Path):
    suite = suite_of(judged_run.failed(), tmp_path)
    facts = {item.get("name"): item.get("value") for item in suite.findall("properties/property")}
    assert facts["seed"] == "42"
    assert facts["experiment"] == "experiments/redis/redis-failover.yaml"
    assert facts["measure.durability.lost_ops"] == "12"


def test_hostile_text_stays_text(tmp_path: Path):
    content = junit_xml(judged_run.hostile(), judged_run.opened(tmp_path).load_spec())
    assert b"\x1b" not in content
    assert b"<img" not in content
    assert "</script><img src=x onerror=alert(1)>[31m<b>" in str(next(ET.fromstring(content).iter("failure")).text)


def test_the_control_is_a_property(tmp_path: Path):
    suite = suite_of(judged_run.beside(judged_run.passed(), "baseline/1-1: pass"), tmp_path)
    assert [item.get("value") for item in suite.iter("property") if item.get("name") == "control"] == [
        "baseline/1-1: pass"
    ]
