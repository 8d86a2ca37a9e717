"""What a cluster gets of the PostgreSQL tier beside its manifests: settings, passwords, and where PgBouncers lead.

Members know one another by their short names, as on any backend: what they say of each other is compared with these. A
PgBouncer leads writes to a Service of its own, which means one pod by name, and everything else to the server on its
node, which only the scheduler knows.
"""

from collections.abc import Iterator, Mapping

from resilience.backend.kubernetes.manifests import (
    COMPONENT,
    NAMESPACES,
    PART_OF,
    Object,
    Secret,
    host,
    passwords,
    secret_map,
)
from resilience.backend.kubernetes.wal_archive import PORT as ARCHIVE_PORT
from resilience.backend.postgresql_settings import (
    DATABASES,
    Files,
    exporter_files,
    pgbouncer_files,
    server_files,
    start_arguments,
)
from resilience.backend.settings import render
from resilience.spec.stack import PORTS, Member, Stack

PASSWORD = "postgresql-password"  # noqa: S105  the name of a secret
ARGUMENTS = "arguments"  # the file with what a member's start is called with
NAMESPACE = NAMESPACES["postgresql"]
_DOMAIN = f"{NAMESPACE}.svc.cluster.local"
_POD_NAME = "statefulset.kubernetes.io/pod-name"  # the label that a StatefulSet gives each of its pods


def is_in(stack: Stack) -> bool:
    """Whether a stack has the tier."""
    return stack.postgresql is not None


def settings(stack: Stack, secret: Secret) -> Iterator[Object]:
    """The tier's Secrets, and the Services that lead writes: to the primary as formed."""
    assert stack.postgresql is not None
    password = secret(PASSWORD)
    servers = {member.name: _server(stack, member, password) for member in stack.of("postgresql")}
    pgbouncers = {member.name: _pgbouncer(stack, member, password) for member in stack.of("pgbouncer")}
    yield secret_map(NAMESPACE, "postgresql", _keyed(servers))
    yield secret_map(NAMESPACE, "pgbouncer", _keyed(pgbouncers))
    exporter = {name: text.encode() for name, text in exporter_files(password).items()}
    yield secret_map(NAMESPACES["postgres-exporter"], "postgres-exporter", exporter)
    yield from passwords(PASSWORD, password, [NAMESPACES["postgresql-client"]])
    for member in stack.of("pgbouncer"):
        yield _writes(member, stack.postgresql.primary)


def writes(pgbouncer: str) -> str:
    """The Service that a PgBouncer leads writes to."""
    return f"{pgbouncer}-writes"


def leading_to(primary: str) -> Object:
    """What of such a Service says to whom."""
    return {"spec": {"selector": {_POD_NAME: primary}}}


def _server(stack: Stack, member: Member, password: str) -> Files:
    archive = render("postgresql/archive-store.sh", host=f"wal-archive.{_DOMAIN}", port=ARCHIVE_PORT)
    words = start_arguments(stack, member, lambda one: one.name)
    return {**server_files(stack, member, password, archive), ARGUMENTS: " ".join(words)}


def _pgbouncer(stack: Stack, member: Member, password: str) -> Files:
    databases = render(
        "postgresql/databases.ini.j2",
        primary=f"{writes(member.name)}.{_DOMAIN}",
        beside=f"postgresql-beside.{_DOMAIN}",
        port=PORTS["postgresql"],
    )
    return {**pgbouncer_files(stack, member, host, password), DATABASES: databases}


def _keyed(files: Mapping[str, Files]) -> dict[str, bytes]:
    """All members' files in one Secret; each takes its own (``stacks/kubernetes/tiers/postgresql``)."""
    return {f"{member}.{name}": text.encode() for member, each in files.items() for name, text in each.items()}


def _writes(pgbouncer: Member, primary: str) -> Object:
    labels = {PART_OF: "harmonyflow", COMPONENT: pgbouncer.component}
    port = {"name": "postgresql", "port": PORTS["postgresql"], "targetPort": "postgresql"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": writes(pgbouncer.name), "namespace": NAMESPACE, "labels": labels},
        # whether a server is well is for who leads there to find out, as on any backend
        "spec": {**leading_to(primary)["spec"], "publishNotReadyAddresses": True, "ports": [port]},
    }
