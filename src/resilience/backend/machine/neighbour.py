"""Where a node was, kept in mind by the others of its cluster while it is silent.

Otherwise they would hear from their own kernels after three seconds that nobody answers for its address, and clients
would be told so. To a machine whose power is gone, in a network with a router between, nobody tells that.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from resilience.agent.error import AgentError
from resilience.backend.machine.docker import Docker, Link

_THREADS_MAX = 8
_DEVICE = "$(ip -o route get {0} | sed 's/.* dev \\([^ ]*\\).*/\\1/')"
_KEEP = f"ip neigh replace {{0}} lladdr {{1}} nud permanent dev {_DEVICE}"
_FORGET = "ip neigh flush nud permanent to {0}"
_KEPT = "ip neigh show nud permanent to {0}"
_FORGET_ALL = "for link in /sys/class/net/eth*; do ip neigh flush nud permanent dev ${link##*/}; done"


def keep(docker: Docker, peers: Sequence[str], links: Sequence[Link]) -> None:
    """Has peers keep these in mind. Raises `AgentError`."""
    lines = [_KEEP.format(link.address, link.mac) for link in links if link.address]
    _each(peers, lambda peer: docker.script(peer, " && ".join(lines)) if lines else "")


def forget(docker: Docker, peers: Sequence[str], links: Sequence[Link]) -> None:
    """Has peers look again where these are; harmless if they do. Raises `AgentError`."""
    lines = [_FORGET.format(link.address) for link in links if link.address]
    _each(peers, lambda peer: docker.script(peer, "; ".join(lines)) if lines else "")


def forget_all(docker: Docker, peers: Sequence[str]) -> None:
    """Has peers forget whatever was kept. Raises `AgentError`."""
    _each(peers, lambda peer: docker.script(peer, _FORGET_ALL))


def kept(docker: Docker, peers: Sequence[str], links: Sequence[Link]) -> list[str]:
    """The peers that still keep one of these in mind. Raises `AgentError`."""
    lines = [_KEPT.format(link.address) for link in links if link.address]
    said = _each(peers, lambda peer: docker.script(peer, "; ".join(lines)) if lines else "")
    return [peer for peer, text in zip(peers, said, strict=True) if text.strip()]


def _each(peers: Sequence[str], told: Callable[[str], str]) -> list[str]:
    """Tells all at once; one that fails keeps no other from being told. Raises `AgentError`."""
    troubles: list[str] = []

    def tell(peer: str) -> str:
        try:
            return told(peer)
        except AgentError as error:
            troubles.append(f"{peer}: {error}")
            return ""

    with ThreadPoolExecutor(_THREADS_MAX) as threads:
        said = list(threads.map(tell, peers))
    if troubles:
        raise AgentError("; ".join(troubles))
    return said
