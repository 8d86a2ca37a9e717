"""An answer of Prometheus is taken whole, or not at all."""

import json
from typing import Any, Self

import pytest
import requests
from requests.adapters import BaseAdapter

from resilience.errors import MetricsError
from resilience.history.record import Series
from resilience.metrics.prometheus import Prometheus

URL = "http://prometheus.test:9090"


class FakeTransport(BaseAdapter):
    """Answers every request with the same status and body, or error, and keeps what was asked."""

    def __init__(self, body: bytes | Exception, status: int = 200) -> None:
        super().__init__()
        self.body, self.status = body, status
        self.asked: list[requests.PreparedRequest] = []
        self.timeouts: list[Any] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        self.asked.append(request)
        self.timeouts.append(options["timeout"])
        if isinstance(self.body, Exception):
            raise self.body
        response = requests.Response()
        response.status_code, response._content, response.request = self.status, self.body, request
        response.url = request.url or ""
        return response

    def close(self) -> None:
        pass

    def at(self, url: str) -> "Asked":
        return Asked(self, url)


class Asked(Prometheus):
    """The adapter with its transport replaced."""

    def __init__(self, transport: FakeTransport, url: str) -> None:
        super().__init__(url)
        self._session.mount(url, transport)

    def __enter__(self) -> Self:
        return self


def answer(*values: tuple[float, str], **more: Any) -> bytes:
    result = [{"metric": {"__name__": "x", "a": "1"}, "values": values}] if values else []
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more}).encode()


def ask(transport: FakeTransport) -> tuple[Series, ...]:
    with transport.at(URL) as prometheus:
        return prometheus.samples("x", 100.25, 110.5, 2.0)


def test_samples_as_they_were_stored() -> None:
    transport = FakeTransport(answer((100.3, "1"), (101.3, "2.5")))
    assert ask(transport) == (Series("x", {"__name__": "x", "a": "1"}, (100.3, 101.3), (1.0, 2.5)),)


def test_asks_for_an_instant_and_with_a_time_limit() -> None:
    transport = FakeTransport(answer())
    ask(transport)
    url = transport.asked[0].url or ""
    assert url.startswith(f"{URL}/api/v1/query?")
    assert "query=x%5B10250ms%5D" in url
    assert "time=110.500" in url
    assert url.endswith("timeout=2.000")  # plain seconds: Prometheus refuses "2.000s"
    assert transport.timeouts == [2.0]


def test_no_series_is_empty() -> None:
    assert ask(FakeTransport(answer())) == ()


@pytest.mark.parametrize(
    ("body", "status", "expect"),
    [
        (answer((1.0, "1"), warnings=["partial\nresponse"]), 200, "with doubts: partial response"),
        (answer((1.0, "1"), infos=["might not be a counter"]), 200, "with doubts: might not be a counter"),
        (answer((1.0, "1"), (2.0, "NaN")), 200, "not a finite number"),
        (answer((1.0, "+Inf")), 200, "not a finite number"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', 200, "a vector, not samples"),
        (b'{"status":"success","data":{}}', 200, "cannot be read"),
        (b'{"status":"success"}', 200, "cannot be read"),
        (b"[]", 200, "cannot be read"),
        (b"<html>busy</html>", 200, "cannot be read"),
        (b"", 200, "cannot be read"),
        (b'{"status":"error","errorType":"bad_data","error":"parse error"}', 400, "Prometheus refused: parse error"),
        (b"<html>\nbusy</html>", 503, "Prometheus refused: <html> busy</html>"),
        (requests.ConnectTimeout("x"), 0, "gave no answer within 2.0 s (ConnectTimeout)"),
        (requests.ReadTimeout("x"), 0, "gave no answer within 2.0 s (ReadTimeout)"),
        (requests.ConnectionError("refused"), 0, "gave no answer within 2.0 s (ConnectionError)"),
    ],
)
def test_answer_that_is_no_use(body: bytes | Exception, status: int, expect: str) -> None:
    with pytest.raises(MetricsError) as caught:
        ask(FakeTransport(body, status))
    assert expect in str(caught.value)
    assert str(caught.value).isprintable()


def test_environment_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:1")
    transport = FakeTransport(answer())
    with transport.at(URL) as prometheus:
        assert not prometheus._session.trust_env
