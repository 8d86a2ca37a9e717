"""Tells the runner's clock to clients of the load that stand under another kernel (`loadgen.runner_clock`).

A datagram of `TOKEN_BYTES` is answered with itself and `time.monotonic_ns`, eight bytes, the highest first.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TOKEN_BYTES = 8
_LOOK_EVERY_S = 0.2


@contextmanager
def told_at(host: str) -> Iterator[str]:
    """Answers at an address of this machine while it is entered; yields ``host:port``, "" if nobody is to ask.

    Raises `OSError`.
    """
    if not host:
        yield ""
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind((host, 0))
        link.settimeout(_LOOK_EVERY_S)
        ended = threading.Event()
        thread = threading.Thread(target=_answer, args=(link, ended), name="runner-clock", daemon=True)
        thread.start()
        try:
            yield "{}:{}".format(*link.getsockname())
        finally:
            ended.set()
            thread.join()


def _answer(link: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            token, asker = link.recvfrom(64)
            if len(token) == TOKEN_BYTES:
                link.sendto(token + time.monotonic_ns().to_bytes(8), asker)
        except OSError:  # nobody asked meanwhile, or who asked is gone
            continue
