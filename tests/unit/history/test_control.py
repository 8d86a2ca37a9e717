"""What of a run and of its control is read back, and what becomes of files that are not what they should be."""

from pathlib import Path

import msgspec
import pytest

from resilience.history.control import read_control, read_identity
from resilience.history.read import read_history
from tests.histories import IDENTITY, recorded, scenario, sound_control


def test_both_are_read_back_as_they_were(tmp_path: Path) -> None:
    history = recorded().history(tmp_path, scenario())
    assert history.identity == IDENTITY
    assert history.control == sound_control()
    assert history.problems == ()


def test_versions_are_those_that_answered(tmp_path: Path) -> None:
    recorded().save(tmp_path, scenario())
    members = {
        "redis-cluster-0": {"component": "redis", "version": "8.0.2", "config": {"appendonly": "yes"}},
        "redis-cluster-1": {"component": "redis", "error": "no answer"},
        "redis-cluster-2": {"component": "redis", "version": "8.0.1"},
        "prometheus-0": {"component": "prometheus", "error": "no answer"},
    }
    (tmp_path / "servers.json").write_bytes(msgspec.json.encode({"schema": 1, "members": members}))
    identity = read_identity(tmp_path)
    assert identity
    assert identity.versions == {"redis": ("8.0.1", "8.0.2")}


@pytest.mark.parametrize("file", ["spec.json", "servers.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b'{"schema":1}', b'{"members":3,"fingerprint":{}}', b"\xff"])
def test_what_cannot_be_read_is_no_identity(tmp_path: Path, file: str, content: bytes | None) -> None:
    recorded().save(tmp_path, scenario())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    assert read_identity(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema":1,"verdict":"fine"}', b"\xff"])
def test_a_broken_control_is_none_and_a_problem(tmp_path: Path, content: bytes) -> None:
    recorded().save(tmp_path, scenario())
    (tmp_path / "control.json").write_bytes(content)
    history = read_history(tmp_path)
    assert history.control is None
    assert [problem.partition(":")[0] for problem in history.problems] == ["control.json"]


def test_no_control_is_no_problem(tmp_path: Path) -> None:
    problems: list[str] = []
    assert read_control(tmp_path, problems) is None
    assert problems == []
