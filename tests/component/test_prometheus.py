"""A real Prometheus, a real exporter: what was counted is what is read back, and a dead one is on record in time."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from resilience.errors import MetricsError
from resilience.history.record import QueryFailed, SampleLine, Series
from resilience.history.writer import Writer
from resilience.metrics.collect import collect, needed_selectors, selectors
from resilience.metrics.prometheus import Prometheus
from resilience.spec.read import read_scenario
from resilience.spec.slo import RatioSource

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]
SCRAPE_S = 0.5
PATIENCE_S = 20.0
SCENARIO = read_scenario(ROOT, "baseline")
CONFIG = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: generator
    static_configs: [{{targets: ["127.0.0.1:{exporter}"], labels: {{member: loadgen}}}}]
  - job_name: gone
    static_configs: [{{targets: ["127.0.0.1:{nobody}"]}}]
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Prometheus that scrapes an exporter of this process, and an address where nobody answers."""

    url: str
    ops: Counter
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def server(image: Path, tmp_path: Path) -> Iterator[Server]:
    registry = CollectorRegistry()
    ops = Counter("load_ops", "Ops", ("op", "phase", "outcome"), registry=registry)
    for outcome in ("ok", "fail"):
        ops.labels("session.read", "steady", outcome)
    exporter, nobody, port = free_port(), free_port(), free_port()
    httpd, thread = start_http_server(exporter, "127.0.0.1", registry)
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(exporter=exporter, nobody=nobody))
    process = start(image, tmp_path, port)
    server = Server(url=f"http://127.0.0.1:{port}", ops=ops, process=process)
    try:
        wait_until(lambda: last_value(server, 'up{job="generator"}') == 1, "the exporter is scraped")
        yield server
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)
        httpd.shutdown()
        httpd.server_close()
        thread.join(10)


def start(image: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Prometheus out of the image, with the image's own loader and libraries: nothing has to be mounted."""
    libraries = next((image / "usr/lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*.so.*"))
    with (folder / "prometheus.log").open("wb") as log:
        return subprocess.Popen(
            [
                loader,
                "--library-path",
                libraries,
                image / "usr/bin/prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
        )


def samples(server: Server, selector: str, seconds: float = 60.0) -> tuple[Series, ...]:
    now = time.time()
    with Prometheus(server.url) as prometheus:
        return prometheus.samples(selector, now - seconds, now + 1, 5.0)


def last_value(server: Server, selector: str) -> float | None:
    try:
        found = samples(server, selector)
    except MetricsError:
        return None
    return found[0].values[-1] if found else None


def wait_for_value(server: Server, selector: str, expected: float) -> None:
    wait_until(lambda: last_value(server, selector) == expected, f"{selector} is {expected:g}")


def collected(server: Server, path: Path, **limits: float) -> tuple[list[SampleLine], float]:
    """What ``collect`` wrote about the last half minute, and how long it took."""
    now, began = time.time(), time.monotonic()
    with Writer(path / "samples.jsonl") as writer:
        collect(SCENARIO, server.url, now - 30, now, writer, **limits)
    took_s = time.monotonic() - began
    lines = (path / "samples.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Series | QueryFailed) for line in lines], took_s


def test_every_step_of_a_counter_is_read_back(server: Server) -> None:
    selector = 'load_ops_total{outcome="ok"}'
    child = server.ops.labels("session.read", "steady", "ok")
    for step in (7, 1, 35):
        before = last_value(server, selector)
        assert before is not None
        child.inc(step)
        wait_for_value(server, selector, before + step)
    (series,) = samples(server, selector)
    assert series.values[0] == 0  # pre-created, so that the first event is a step
    steps = [after - before for before, after in zip(series.values, series.values[1:], strict=False) if after != before]
    assert steps == [7, 1, 35]
    assert series.labels["member"] == "loadgen"
    assert list(series.times_s) == sorted(series.times_s)
    gaps = [after - before for before, after in zip(series.times_s, series.times_s[1:], strict=False)]
    assert all(gap < 3 * SCRAPE_S for gap in gaps)


def test_window_is_cut_at_the_instant(server: Server) -> None:
    wait_until(lambda: len(samples(server, 'up{job="generator"}')[0].times_s) >= 6, "six scrapes")
    (whole,) = samples(server, 'up{job="generator"}')
    start, end = whole.times_s[2] - 0.01, whole.times_s[4] + 0.01
    with Prometheus(server.url) as prometheus:
        (cut,) = prometheus.samples('up{job="generator"}', start, end, 5.0)
    assert cut.times_s == whole.times_s[2:5]


def test_target_that_is_gone_is_data(server: Server) -> None:
    wait_for_value(server, 'up{job="gone"}', 0)


def test_refused_query(server: Server) -> None:
    with pytest.raises(MetricsError, match=r"Prometheus refused: .*parse error"):
        samples(server, "load_ops_total{")


def test_collect_says_what_is_missing(server: Server, tmp_path: Path) -> None:
    lines, _ = collected(server, tmp_path)
    series = {line.selector for line in lines if isinstance(line, Series)}
    failed = {line.selector: line.reason for line in lines if isinstance(line, QueryFailed)}
    counted = {
        query
        for slo in SCENARIO.slos
        if isinstance(slo.source, RatioSource)
        for query in (slo.source.good, slo.source.total)
        if query.startswith("load_ops_total")
    }
    assert counted | {"up", "load_ops_total"} <= series
    assert set(failed) == {*needed_selectors(SCENARIO)} - series
    assert set(failed.values()) == {"Prometheus has no sample of it: is there a metric of that name?"}


def test_dead_prometheus_is_on_record(server: Server, tmp_path: Path) -> None:
    server.process.kill()
    server.process.wait(10)
    lines, took_s = collected(server, tmp_path)
    assert [line.selector for line in lines] == [*selectors(SCENARIO)]
    assert all(isinstance(line, QueryFailed) and "gave no answer" in line.reason for line in lines)
    assert took_s < 5


def test_silent_prometheus_is_on_record_in_time(server: Server, tmp_path: Path) -> None:
    server.process.send_signal(signal.SIGSTOP)
    lines, took_s = collected(server, tmp_path, query_timeout_s=1.0, deadline_s=2.5)
    assert [line.selector for line in lines] == [*selectors(SCENARIO)]
    reasons = [line.reason for line in lines if isinstance(line, QueryFailed)]
    assert len(reasons) == len(lines)
    assert "ReadTimeout" in reasons[0]
    assert reasons[-1].startswith("not asked")
    assert took_s < 5
