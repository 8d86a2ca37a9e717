"""What becomes of a connection that a pod opens: a few words of Python, run in that pod."""

from collections.abc import Sequence

from resilience.agent.error import AgentError
from resilience.backend.machine.control_plane import ControlPlane, Place

ACCEPTED = "accepted"
_UNKNOWN = "not known"
# All at once, each for 2 s: a line for each that says what came of it.
_OPEN = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def said(to):
    try:
        socket.create_connection(tuple(to.rsplit(":", 1)), 2).close()
    except TimeoutError:
        return "timed out"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "accepted"
with ThreadPoolExecutor(32) as threads:
    print(*threads.map(said, sys.argv[1:]), sep="\\n")
"""


def is_known(said: str) -> bool:
    """Whether somebody has looked, whatever came of it."""
    return not said.startswith(_UNKNOWN)


def opened(plane: ControlPlane, via: Place, to: Sequence[str]) -> list[str]:
    """What comes of a connection from a pod to each ``address:port``: `ACCEPTED`, or why not.

    A pod that cannot be asked is told as such, and raises nothing: others may have seen enough.
    """
    if not to:
        return []
    try:
        said = plane.said(via, ["python3", "-c", _OPEN, *to]).splitlines()
    except AgentError as error:
        return [f"{_UNKNOWN}: {error}"] * len(to)
    return said if len(said) == len(to) else [f"{_UNKNOWN}: {via['pod']} said {len(said)} lines"] * len(to)
