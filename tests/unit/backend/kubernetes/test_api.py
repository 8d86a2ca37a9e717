from pathlib import Path

import pytest

from resilience.backend.kubernetes.api import Api, ApiError, said
from resilience.errors import StackError
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi


def test_a_server_that_is_away_for_a_while_is_asked_again():
    cluster = RecordedApi({"/api/v1/nodes": NODES}, away=2)
    assert len(cluster.api().items("/api/v1/nodes")) == 5
    assert cluster.slept == [1.0, 1.0]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_cannot_answer_yet_is_asked_again(status: int):
    assert RecordedApi({"/x": {}}, away=1, status=status).api().get("/x") == {}


def test_patience_has_an_end():
    cluster = RecordedApi({"/x": {}}, away=100)
    with pytest.raises(ApiError, match="away"):
        cluster.api().get("/x")
    assert len(cluster.asked) == 4  # the first and one for each second of patience


@pytest.mark.parametrize("status", [401, 403, 404, 409])
def test_a_clear_answer_is_final(status: int):
    cluster = RecordedApi({"/x": {}}, away=1, status=status)
    with pytest.raises(ApiError):
        cluster.api().get("/x")
    assert cluster.slept == []


def test_what_changes_something_is_asked_once():
    cluster = RecordedApi({}, away=1)
    with pytest.raises(ApiError):
        cluster.api().create("/x", {"metadata": {"name": "a"}})
    assert len(cluster.asked) == 1


def test_deleting_what_is_gone_is_harmless():
    RecordedApi({}).api().delete("/x")
    with pytest.raises(ApiError):
        RecordedApi({}, away=1, status=403).api().delete("/x")


@pytest.mark.parametrize(
    ("body", "text"),
    [('{"message": "no\\n  way"}', "no way"), ("<html>", "Forbidden"), (None, "Forbidden"), ("[]", "Forbidden")],
)
def test_what_an_error_says_is_one_line(body: str | None, text: str):
    assert said(body, "Forbidden") == text


def test_a_context_that_is_not_in_the_file(tmp_path: Path):
    file = tmp_path / "kubeconfig"
    file.write_text("apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\ncurrent-context: other\n")
    with pytest.raises(StackError, match="kind-harmonyflow"):
        Api.of_context(file, "kind-harmonyflow")


def test_no_pod_no_cluster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StackError, match="no pod"):
        Api.of_pod()
