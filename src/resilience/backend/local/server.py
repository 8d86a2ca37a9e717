"""What each component runs on this backend: its configuration files and its command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from resilience.backend.local.member import Pod
from resilience.backend.local.sandbox import python
from resilience.backend.settings import exporter_passwords, prometheus_yml, redis_conf, service_json
from resilience.spec.stack import PORTS, Member, Stack

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
    _write_secret(pod.config / "redis.conf", redis_conf(site.stack, site.password, pod.address))
    return ("/usr/bin/redis-server", "/config/redis.conf")


def _service(pod: Pod, site: Site) -> tuple[str, ...]:
    path = pod.config / "service.json"
    path.write_bytes(service_json(site.stack, pod.member, _by_name, str(site.password_file)))
    return (python(), "-m", getattr(site.stack.programs, pod.member.component), str(path))


def _by_name(member: Member) -> str:
    """Every member has the same hosts file."""
    return member.name


def _prometheus(pod: Pod, site: Site) -> tuple[str, ...]:
    (pod.config / "prometheus.yml").write_text(prometheus_yml(site.stack, _by_name))
    return (
        "/usr/bin/prometheus",
        "--config.file=/config/prometheus.yml",
        "--storage.tsdb.path=/data",
        f"--web.listen-address=0.0.0.0:{PORTS['prometheus']}",
        "--query.lookback-delta=10s",  # a value older than this is no value
        "--log.level=warn",
    )


def _redis_exporter(pod: Pod, site: Site) -> tuple[str, ...]:
    passwords = exporter_passwords(site.stack, _by_name, site.password)
    _write_secret(pod.config / "passwords.json", passwords.decode())
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


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
