"""What each component runs on this backend: its configuration files and its command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from resilience.backend.local.member import Pod
from resilience.backend.local.rabbitmq import rabbitmq
from resilience.backend.local.sandbox import python
from resilience.backend.local.secret import write_secret
from resilience.backend.patroni_settings import START as PATRONI_START
from resilience.backend.patroni_settings import etcd_yml, patroni_files
from resilience.backend.postgresql_settings import (
    DATABASES,
    SECRETS,
    START,
    Files,
    exporter_files,
    pgbouncer_files,
    server_files,
    start_arguments,
)
from resilience.backend.settings import exporter_passwords, own_settings, prometheus_yml, redis_conf, service_json
from resilience.spec.stack import GENERATORS, PORTS, Member, Stack

POSTGRESQL_PASSWORD = "postgresql-password"  # noqa: S105  the name of a secret
PRIMARY = Path(__file__).with_name("primary.py")
NOT_COLLECTED = ("database", "locks", "roles", "stat_bgwriter", "stat_user_tables", "statio_user_tables", "wal")
OWN_CODE = frozenset({"session", "collaboration", "personalization", "content", "edge", *GENERATORS})


@dataclass(frozen=True, slots=True)
class Site:
    """What configurations are rendered from."""

    stack: Stack
    addresses: Mapping[str, str]
    password: str
    password_file: Path
    secret: Callable[[str], str] = str  # a secret of the stack by its name, made when it is asked for first


def prepare(pod: Pod, site: Site) -> tuple[str, ...]:
    """Writes a member's configuration and returns its command; empty for members that get one later."""
    return _PREPARE[pod.member.component](pod, site)


def _redis(pod: Pod, site: Site) -> tuple[str, ...]:
    write_secret(pod.config / "redis.conf", redis_conf(site.stack, site.password, pod.address))
    return ("/usr/bin/redis-server", "/config/redis.conf")


def _postgresql(pod: Pod, site: Site) -> tuple[str, ...]:
    if site.stack.patroni is not None:
        return _patroni(pod, site)
    _write_files(pod, server_files(site.stack, pod.member, site.secret(POSTGRESQL_PASSWORD)))
    return ("/bin/sh", f"/config/{START}", *start_arguments(site.stack, pod.member, by_name))


def _patroni(pod: Pod, site: Site) -> tuple[str, ...]:
    _write_files(pod, patroni_files(site.stack, pod.member, by_name, site.secret(POSTGRESQL_PASSWORD)))
    (pod.config / PRIMARY.name).write_text(PRIMARY.read_text())
    return ("/bin/sh", f"/config/{PATRONI_START}", *start_arguments(site.stack, pod.member, by_name))


def _etcd(pod: Pod, site: Site) -> tuple[str, ...]:
    (pod.config / "etcd.yml").write_text(etcd_yml(site.stack, pod.member, by_name))
    return ("/usr/bin/etcd", "--config-file=/config/etcd.yml")


def _pgbouncer(pod: Pod, site: Site) -> tuple[str, ...]:
    """It refuses to run as root, too; whom it is told to be owns its files then. Where Patroni promotes by itself, a
    process beside it leads it to the primary.
    """
    _write_files(pod, pgbouncer_files(site.stack, pod.member, by_name, site.secret(POSTGRESQL_PASSWORD)))
    as_postgres = 'exec unshare --user --map-user="$(id -u postgres)" --map-group="$(id -g postgres)" -- "$@"'
    if site.stack.patroni is not None:
        (pod.config / PRIMARY.name).write_text(PRIMARY.read_text())
        hosts = " ".join(by_name(member) for member in site.stack.of("postgresql"))
        as_postgres = f"/usr/bin/python3 /config/{PRIMARY.name} lead /config/{DATABASES} $$ {hosts} & {as_postgres}"
    return ("/bin/sh", "-c", as_postgres, "sh", "/usr/sbin/pgbouncer", "/config/pgbouncer.ini")


def _postgres_exporter(pod: Pod, site: Site) -> tuple[str, ...]:
    _write_files(pod, exporter_files(site.secret(POSTGRESQL_PASSWORD)))
    return (
        "/usr/bin/prometheus-postgres-exporter",
        "--config.file=/config/postgres_exporter.yml",
        # asked every second, the rest would take a tenth of a core from the platform
        "--disable-default-metrics",
        "--disable-settings-metrics",
        *(f"--no-collector.{name}" for name in NOT_COLLECTED),
        f"--web.listen-address=0.0.0.0:{PORTS['postgres-exporter']}",
        "--log.level=warn",
    )


def _rabbitmq(pod: Pod, site: Site) -> tuple[str, ...]:
    return rabbitmq(pod, site.stack, site.secret)


def _service(pod: Pod, site: Site) -> tuple[str, ...]:
    path, member = pod.config / "service.json", pod.member

    def secret_file(name: str) -> str:
        write_secret(pod.config / name, site.secret(name))
        return str(pod.config / name)

    own = own_settings(site.stack, member, by_name, secret_file)
    path.write_bytes(service_json(site.stack, member, by_name, str(site.password_file), own))
    return (python(), "-m", site.stack.program(member.component), str(path))


def by_name(member: Member) -> str:
    """Every member has the same hosts file."""
    return member.name


def _prometheus(pod: Pod, site: Site) -> tuple[str, ...]:
    (pod.config / "prometheus.yml").write_text(prometheus_yml(site.stack, by_name))
    return (
        "/usr/bin/prometheus",
        "--config.file=/config/prometheus.yml",
        "--storage.tsdb.path=/data",
        f"--web.listen-address=0.0.0.0:{PORTS['prometheus']}",
        "--query.lookback-delta=10s",  # a value older than this is no value
        "--log.level=warn",
    )


def _redis_exporter(pod: Pod, site: Site) -> tuple[str, ...]:
    passwords = exporter_passwords(site.stack, by_name, site.password)
    write_secret(pod.config / "passwords.json", passwords.decode())
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
    "postgresql": _postgresql,
    "pgbouncer": _pgbouncer,
    "etcd": _etcd,
    "postgres-exporter": _postgres_exporter,
    "rabbitmq": _rabbitmq,
    "session": _service,
    "collaboration": _service,
    "personalization": _service,
    "content": _service,
    "edge": _service,
    "prometheus": _prometheus,
    "redis-exporter": _redis_exporter,
    "node-exporter": _node_exporter,
    "loadgen": _later,
    "direct-client": _later,
    "postgresql-client": _later,
    "rabbitmq-client": _later,
}


def _write_files(pod: Pod, files: Files) -> None:
    for name, text in files.items():
        if name in SECRETS:
            write_secret(pod.config / name, text)
        else:
            (pod.config / name).write_text(text)
