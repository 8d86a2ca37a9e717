"""Who is PostgreSQL's primary, as Patroni has it; a program that members run, with no library but Python's own.

::

    primary.py wait HOST…                        returns when one of them is
    primary.py lead FILE PGBOUNCER PRIMARY…      keeps FILE leading to it, and has that PgBouncer (its process, whose
                                                 child this is) read it again whenever it is another

A Patroni says that its member is primary only while it holds the key in etcd: one that stood still and goes on does
not, although its server takes writes for a moment.
"""

import http.client
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PATRONI_PORT = 8008
EVERY_S = 1.0
TIMEOUT_S = 1.0
OK = 200
_WRITES = re.compile(r"^(harmonyflow = host=)(\S+)", re.MULTILINE)


def is_primary(host: str) -> bool:
    """Whether its Patroni says so."""
    connection = http.client.HTTPConnection(host, PATRONI_PORT, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/primary")
        return connection.getresponse().status == OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait(hosts: Sequence[str]) -> None:
    """Returns when one of them is primary."""
    while not any(map(is_primary, hosts)):
        time.sleep(EVERY_S / 5)


def lead(file: Path, pgbouncer: int, hosts: Sequence[str]) -> None:
    """Looks after the file until the PgBouncer ends. As long as nobody is primary it leads to who was last."""
    while os.getppid() == pgbouncer:
        led = led_to(file.read_text())
        if not is_primary(led):
            found = next((host for host in hosts if host != led and is_primary(host)), "")
            if found:
                beside = file.with_suffix(".new")
                beside.write_text(leading_to(file.read_text(), found))
                beside.replace(file)
                os.kill(pgbouncer, signal.SIGHUP)
        time.sleep(EVERY_S)


def led_to(databases: str) -> str:
    """Whom a PgBouncer's databases lead writes to."""
    found = _WRITES.search(databases)
    return found[2] if found else ""


def leading_to(databases: str, host: str) -> str:
    """The same databases, with writes led to another."""
    return _WRITES.sub(rf"\g<1>{host}", databases)


def main(argv: Sequence[str]) -> None:
    """See the module."""
    match argv:
        case ["wait", *hosts]:
            wait(hosts)
        case ["lead", file, pgbouncer, *hosts]:
            lead(Path(file), int(pgbouncer), hosts)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
