"""The settings of the PostgreSQL tier, rendered from a stack file: the same on every backend but for hosts and places.

Every file is one that only its member reads; those of `SECRETS` hold the tier's password.
"""

from collections.abc import Mapping

from resilience.backend.settings import Hosts, render
from resilience.spec.postgresql import Asynchronous, Durability, Manual, Postgresql
from resilience.spec.stack import PORTS, Member, Stack

ARCHIVE = "archive.sh"  # the program by which a member reaches what stands for an object store, beside its settings
DATABASES = "databases.ini"  # where a PgBouncer leads to; it reads that again when it is told to
START = "start.sh"  # the program of a member, beside its settings
SECRETS = frozenset({"password", "pgpass", "first.sql", "userlist.txt", "postgres_exporter.yml", "patroni.yml"})

Files = Mapping[str, str]  # text by file name


def server_files(stack: Stack, member: Member, password: str, archive: str = "") -> Files:
    """What a server reads, and what its start makes a new database from.

    ``archive`` is its `ARCHIVE` (default: to a folder that all members see).
    """
    tier = _tier(stack)
    others = [name for name in tier.members if name != member.name]
    by_hand = isinstance(tier.failover, Manual)  # else Patroni makes slots and users, and says who uses which slot
    conf = render(
        "postgresql/postgresql.conf.j2",
        port=PORTS["postgresql"],
        name=member.name,
        slot=slot_of(member.name) if by_hand else "",
        tier=tier,
        standby_names=standby_names(tier.durability, others) if _names_standbys(tier) else "",
        archive=ARCHIVE,
    )
    return {
        "postgresql.conf": conf,
        "pg_hba.conf": render("postgresql/pg_hba.conf"),
        "first.sql": render(
            "postgresql/first.sql.j2",
            password=password,
            by_hand=by_hand,
            slots=[slot_of(name) for name in others] if by_hand else [],
        ),
        "password": password,
        "pgpass": f"*:*:*:*:{password}\n",
        START: render("postgresql/start.sh"),
        ARCHIVE: archive or render("postgresql/archive-folder.sh"),
    }


def start_arguments(stack: Stack, member: Member, hosts: Hosts) -> tuple[str, ...]:
    """What `START` is called with."""
    tier = _tier(stack)
    others = [hosts(stack.member(name)) for name in tier.members if name != member.name]
    return (hosts(stack.member(tier.primary)), *others)


def pgbouncer_files(stack: Stack, member: Member, hosts: Hosts, password: str) -> Files:
    """What a PgBouncer reads; writes go to the primary as formed."""
    tier = _tier(stack)
    return {
        "pgbouncer.ini": render("postgresql/pgbouncer.ini.j2", port=PORTS["pgbouncer"], pgbouncer=tier.pgbouncer),
        DATABASES: databases_ini(stack, member, hosts, tier.primary),
        "userlist.txt": "".join(f'"{user}" "{password}"\n' for user in ("harmonyflow", "postgres")),
    }


def databases_ini(stack: Stack, member: Member, hosts: Hosts, primary: str) -> str:
    """To whom a PgBouncer leads: ``harmonyflow`` to the member that takes writes, ``beside`` to the one on its node."""
    beside = next(one for one in stack.of("postgresql") if one.node == member.node)
    return render(
        "postgresql/databases.ini.j2",
        primary=hosts(stack.member(primary)),
        beside=hosts(beside),
        port=PORTS["postgresql"],
    )


def exporter_files(password: str) -> Files:
    """What the exporter reads."""
    return {"postgres_exporter.yml": render("postgresql/postgres_exporter.yml.j2", password=password)}


def standby_names(durability: Durability, others: list[str]) -> str:
    """``synchronous_standby_names`` of a member, should it become the primary: all others may be its standbys."""
    names = ", ".join(f'"{name}"' for name in others)
    return "" if isinstance(durability, Asynchronous) else f"{_method(durability)} {durability.standbys} ({names})"


def _method(durability: Durability) -> str:
    return str(durability.__struct_config__.tag).upper()


def _names_standbys(tier: Postgresql) -> bool:
    """Whether that is the servers' own setting; else Patroni names those that are there."""
    return isinstance(tier.failover, Manual) or tier.failover.synchronous_mode == "off"


def slot_of(member: str) -> str:
    """The replication slot of a member, at whichever primary it follows."""
    return member.replace("-", "_")


def _tier(stack: Stack) -> Postgresql:
    assert stack.postgresql is not None  # only a stack that has the tier has its members
    return stack.postgresql
