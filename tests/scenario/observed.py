"""What tests look at in a run: while it goes on, and in its verdict."""

from typing import Any

from tests.scenario.conftest import Ended, Resilience, events_in


def assumption(ended: Ended, name: str) -> dict[str, Any]:
    (finding,) = ended.findings(f"assumption.{name}")
    return finding


def verdicts(ended: Ended, check: str) -> set[str]:
    """The verdicts of all findings whose check begins so; there is at least one."""
    found = {finding["verdict"] for finding in ended.findings(check)}
    assert found, check
    return found


def broken(ended: Ended) -> set[str]:
    """The assumptions that do not hold."""
    found = ended.findings("assumption.")
    return {finding["check"].partition(".")[2] for finding in found if finding["verdict"] != "pass"}


def so_far(resilience: Resilience, name: str) -> list[dict[str, Any]]:
    """The data of the events of a name in the one run that goes on."""
    return [data for directory in resilience.directories() for _, data in events_in(directory, name)]


def has_begun(resilience: Resilience, phase: str) -> bool:
    """Whether that run has announced the phase."""
    return any(data["phase"] == phase for data in so_far(resilience, "phase-announced"))
