"""What each component runs on this backend: its configuration files and its command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from resilience.backend.local.member import Pod
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.sandbox import python
from resilience.spec.stack import PORTS, Stack

SERVICE_TIMEOUT_S = 1.0  # of one request inside a service: under the clients' 2 s, so that they hear the answer
OWN_CODE = frozenset({"session", "collaboration", "edge", "loadgen", "direct-client"})


@dataclass(frozen=True, slots=True)
class Site:
    """What configurations are rendered from."""

    stack: Stack
    addresses: Mapping[str, str]
    password: str
    password_file: Path


def prepare(pod: Pod, site: Site) -> tuple[str, ...]:
    """Writes a member's configuration and returns its command; empty for members that get one later."""
    return _PREPARE[pod.member.component](pod, site)


def _redis(pod: Pod, site: Site) -> tuple[str, ...]:
    text = _render(
        "redis/redis.conf.j2",
        port=PORTS["redis"],
        address=pod.address,
        password=site.password,
        redis=site.stack.redis,
    )
    _write_secret(pod.config / "redis.conf", text)
    return ("/usr/bin/redis-server", "/config/redis.conf")


def _service(pod: Pod, site: Site) -> tuple[str, ...]:
    component = pod.member.component
    config: dict[str, Any] = {
        "name": pod.member.name,
        "host": "0.0.0.0",  # noqa: S104  its namespace has one link, into the sandbox
        "port": PORTS[component],
        "redis": [f"{member.name}:{PORTS['redis']}" for member in site.stack.of("redis")],
        "redis_password_file": str(site.password_file),
        "durability": msgspec.to_builtins(site.stack.durability),
        "session_ttl_s": site.stack.session_ttl_s,
        "timeout_s": SERVICE_TIMEOUT_S,
        "upstreams": {
            name: [f"{member.name}:{PORTS[name]}" for member in site.stack.of(name)]
            for name in ("session", "collaboration")
        },
    }
    path = pod.config / "service.json"
    path.write_bytes(msgspec.json.encode(config))
    return (python(), "-m", getattr(site.stack.programs, component), str(path))


def _prometheus(pod: Pod, site: Site) -> tuple[str, ...]:
    stack = site.stack
    scraped = tuple(name for name in PORTS if name != "redis")  # Redis is asked through its exporter
    exporter = stack.of("redis-exporter")
    jobs = {
        job: [{"address": f"{m.name}:{PORTS[m.component]}", "member": m.name, "node": m.node} for m in stack.of(job)]
        for job in scraped
        if stack.of(job)
    }
    text = _render(
        "prometheus/prometheus.yml.j2",
        interval=f"{int(stack.scrape_interval_s * 1000)}ms",
        jobs=jobs,
        redis=stack.of("redis"),
        exporter=f"{exporter[0].name}:{PORTS['redis-exporter']}",
    )
    (pod.config / "prometheus.yml").write_text(text)
    return (
        "/usr/bin/prometheus",
        "--config.file=/config/prometheus.yml",
        "--storage.tsdb.path=/data",
        f"--web.listen-address=0.0.0.0:{PORTS['prometheus']}",
        "--query.lookback-delta=10s",  # a value older than this is no value
        "--log.level=warn",
    )


def _redis_exporter(pod: Pod, site: Site) -> tuple[str, ...]:
    passwords = {f"redis://{member.name}:{PORTS['redis']}": site.password for member in site.stack.of("redis")}
    _write_secret(pod.config / "passwords.json", msgspec.json.encode(passwords).decode())
    return (
        "/usr/bin/prometheus-redis-exporter",
        "-redis.addr=",
        "-redis.password-file=/config/passwords.json",
        f"-web.listen-address=0.0.0.0:{PORTS['redis-exporter']}",
        "-connection-timeout=700ms",
        "-exclude-latency-histogram-metrics",
    )


def _node_exporter(_pod: Pod, _site: Site) -> tuple[str, ...]:
    collectors = ("cpu", "loadavg", "meminfo", "pressure", "vmstat", "stat")
    return (
        "/usr/bin/prometheus-node-exporter",
        f"--web.listen-address=0.0.0.0:{PORTS['node-exporter']}",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in collectors),
        "--log.level=warn",
    )


def _later(_pod: Pod, _site: Site) -> tuple[str, ...]:
    return ()


_PREPARE: Mapping[str, Callable[[Pod, Site], tuple[str, ...]]] = {
    "redis": _redis,
    "session": _service,
    "collaboration": _service,
    "edge": _service,
    "prometheus": _prometheus,
    "redis-exporter": _redis_exporter,
    "node-exporter": _node_exporter,
    "loadgen": _later,
    "direct-client": _later,
}


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701  the output is no HTML
        loader=jinja2.FileSystemLoader(PROJECT_ROOT / "stacks"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
