"""The settings of a PostgreSQL tier in which Patroni promotes by itself, and of the etcd that it asks."""

from resilience.backend.postgresql_settings import ARCHIVE, Files, server_files
from resilience.backend.settings import Hosts, render
from resilience.spec.postgresql import ETCD_PEER_PORT, PATRONI_PORT, Asynchronous, Postgresql
from resilience.spec.stack import PORTS, Member, Stack

START = "patroni.sh"  # the program of a member, beside its settings


def etcd_yml(stack: Stack, member: Member, hosts: Hosts) -> str:
    """What an etcd member reads."""
    peers = [f"{one.name}=http://{hosts(one)}:{ETCD_PEER_PORT}" for one in stack.of("etcd")]
    return render(
        "etcd/etcd.yml.j2",
        name=member.name,
        host=hosts(member),
        port=PORTS["etcd"],
        peer_port=ETCD_PEER_PORT,
        peers=peers,
    )


def patroni_files(stack: Stack, member: Member, hosts: Hosts, password: str) -> Files:
    """What a member's Patroni and its server read."""
    tier, patroni = stack.postgresql, stack.patroni
    assert tier is not None
    assert patroni is not None
    read = ("postgresql.conf", "pg_hba.conf", "first.sql", ARCHIVE)
    files = {name: text for name, text in server_files(stack, member, password).items() if name in read}
    conf = render(
        "postgresql/patroni.yml.j2",
        name=member.name,
        host=hosts(member),
        port=PORTS["postgresql"],
        patroni_port=PATRONI_PORT,
        etcd=[f"{hosts(one)}:{PORTS['etcd']}" for one in stack.of("etcd")],
        tier=tier,
        told=patroni.told,
        synchronous_node_count=_waited_for(tier),
        password=password,
    )
    scripts = {name: render(f"postgresql/{name}") for name in (START, "first.sh")}
    return files | scripts | {"patroni.yml": conf}


def _waited_for(tier: Postgresql) -> int:
    return 1 if isinstance(tier.durability, Asynchronous) else tier.durability.standbys
