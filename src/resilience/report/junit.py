"""``junit.xml``: a test case for every finding, so that a continuous integration server shows them.

A fail becomes ``<failure>``, an inconclusive finding ``<error type="inconclusive">``: neither is ever green.
"""

from pathlib import Path
from xml.etree import ElementTree as ET

from resilience.check.finding import Finding, Judgement
from resilience.report.document import SpecFile
from resilience.report.order import control_text
from resilience.report.run import Run
from resilience.report.text import window_text, xml_text


def junit_file(run: Run) -> Path:
    """Renders the saved judgement of a run to ``junit.xml`` and returns its path.

    Raises `SpecError` when what was saved cannot be read, `HostError` when the file cannot be written.
    """
    run.save_bytes(run.junit, junit_xml(run.load_judgement(), run.load_spec()))
    return run.junit


def junit_xml(judgement: Judgement, spec: SpecFile) -> bytes:
    """The file's content, UTF-8."""
    cases = [_finding_case(judgement.scenario, finding) for finding in judgement.findings]
    if all(finding.counts_as != judgement.verdict for finding in judgement.findings):
        cases.insert(0, _verdict_case(judgement))
    suite = ET.Element(
        "testsuite",
        {
            "name": xml_text(judgement.scenario),
            "tests": str(len(cases)),
            "failures": str(sum(case.find("failure") is not None for case in cases)),
            "errors": str(sum(case.find("error") is not None for case in cases)),
            "skipped": "0",
            "time": "0",
            "timestamp": xml_text(spec.started_utc[:19]),
            "hostname": xml_text(str(spec.host.get("hostname", ""))),
        },
    )
    suite.append(properties(_run_facts(judgement, spec)))
    suite.extend(cases)
    suites = ET.Element("testsuites", {key: suite.attrib[key] for key in ("tests", "failures", "errors", "time")})
    suites.append(suite)
    ET.indent(suites)
    text: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def properties(facts: dict[str, str]) -> ET.Element:
    """Facts by their names; those that are "" are left out."""
    element = ET.Element("properties")
    for name, value in facts.items():
        if value:
            ET.SubElement(element, "property", {"name": xml_text(name), "value": xml_text(value)})
    return element


def _run_facts(judgement: Judgement, spec: SpecFile) -> dict[str, str]:
    facts = {
        "scenario": judgement.scenario,
        "verdict": judgement.verdict,
        "headline": judgement.headline,
        "seed": str(spec.seed),
        "revision": spec.revision,
        "rerun": spec.rerun,
        "control": control_text(judgement),
    }
    experiment = spec.scenario.experiment
    if experiment:
        facts |= {"experiment": experiment.file, "fault": experiment.title}
    return facts | {f"measure.{name}": f"{value:g}" for name, value in sorted(judgement.measures.items())}


def _finding_case(scenario: str, finding: Finding) -> ET.Element:
    case = ET.Element("testcase", {"classname": xml_text(scenario), "name": xml_text(_case_name(finding)), "time": "0"})
    case.append(
        properties(
            {
                "title": finding.title,
                "measured": finding.measured,
                "allowed": finding.allowed,
                "phase": finding.where.phase,
                "group": finding.where.group,
                "window": window_text(finding.where.start_us, finding.where.end_us),
                "known-weakness": finding.known,
            }
        )
    )
    details = f"{finding.title}\nmeasured: {finding.measured}\nallowed: {finding.allowed}\n{finding.reason}"
    _add_outcome(case, finding.counts_as, finding.reason or finding.title, details)
    return case


def _verdict_case(judgement: Judgement) -> ET.Element:
    """A case of its own for a verdict that no finding carries, such as that of a run cut short."""
    case = ET.Element("testcase", {"classname": xml_text(judgement.scenario), "name": "verdict", "time": "0"})
    _add_outcome(case, judgement.verdict, judgement.headline, judgement.headline)
    return case


def _add_outcome(case: ET.Element, verdict: str, message: str, details: str) -> None:
    if verdict == "pass":
        return
    tag, kind = ("failure", "fail") if verdict == "fail" else ("error", "inconclusive")
    outcome = ET.SubElement(case, tag, {"type": kind, "message": xml_text(message)})
    outcome.text = xml_text(details)


def _case_name(finding: Finding) -> str:
    place = ", ".join(part for part in (finding.where.phase, finding.where.group) if part)
    return f"{finding.check} [{place}]" if place else finding.check
