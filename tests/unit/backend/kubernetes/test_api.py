from pathlib import Path
from socket import create_server

import pytest
from kubernetes.client import Configuration

from resilience.backend.kubernetes.api import TIMEOUT_S, Api, ApiError, _calls, said
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


def test_a_server_that_hangs_takes_of_the_patience_with_each_question(monkeypatch: pytest.MonkeyPatch):
    now_s = 0.0
    asked: list[str] = []

    def hang(_method: str, path: str, _query: object, _body: object) -> bytes:
        nonlocal now_s
        asked.append(path)
        now_s += TIMEOUT_S
        raise ApiError(f"{path}: timed out", 0)

    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with pytest.raises(ApiError, match="timed out"):
        Api(hang, "a cluster", sleep=lambda _seconds: None, patience_s=30.0).get("/x")
    assert len(asked) == 3


def test_a_question_that_hangs_is_asked_once_by_the_transport():
    with create_server(("127.0.0.1", 0)) as server:
        settings = Configuration(host=f"http://127.0.0.1:{server.getsockname()[1]}")
        call = _calls(settings, timeout_s=0.2)
        with pytest.raises(ApiError, match="GET /x: the API server does not answer"):
            call("GET", "/x", {}, None)
        server.settimeout(0.2)
        server.accept()[0].close()
        with pytest.raises(TimeoutError):
            server.accept()


def test_what_may_be_done_twice_waits_for_a_server_that_is_away():
    cluster = RecordedApi({"/x": {}, "/log": "said"}, away=1)
    cluster.api().delete("/x")
    assert [method for method, _path, _query in cluster.asked] == ["DELETE", "DELETE"]
    cluster.away = 1
    assert cluster.api().text("/log") == "said"


def test_an_answer_that_is_no_json_is_an_error_of_the_servers():
    with pytest.raises(ApiError, match="no JSON: b'<html>'"):
        Api(lambda *_question: b"<html>", "a cluster", patience_s=0.0).get("/x")


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


def test_what_is_not_there_is_told_from_what_cannot_be_asked():
    cluster = RecordedApi({"/x": {"metadata": {"name": "a"}}})
    assert cluster.api().find("/x") == {"metadata": {"name": "a"}}
    assert cluster.api().find("/y") is None
    with pytest.raises(ApiError):
        RecordedApi({}, away=1, status=403).api().find("/y")


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


@pytest.mark.parametrize("content", ["{", "- a\n", "", "contexts: 7\n"])
def test_a_file_that_is_no_kubeconfig_is_one_line(tmp_path: Path, content: str):
    file = tmp_path / "kubeconfig"
    file.write_text(content)
    with pytest.raises(StackError, match="context kind-harmonyflow: ") as raised:
        Api.of_context(file, "kind-harmonyflow")
    assert "\n" not in str(raised.value)


def test_no_pod_no_cluster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StackError, match="no pod"):
        Api.of_pod()
