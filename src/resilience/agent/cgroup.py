"""Which pod, and which of its containers, a process belongs to: by its control group alone, without asking a runtime.

``…/kubepods/burstable/pod<uid>/<container>`` (driver cgroupfs) and
``…/kubepods-burstable-pod<uid>.slice/cri-containerd-<container>.scope`` (driver systemd, hyphens of the UID as ``_``)
are both understood.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
_IN_POD = re.compile(
    r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?/(?:[a-z][a-z-]*-)?([0-9a-f]{64})"
)


def container_of(text: str) -> tuple[str, str] | None:
    """The pod's UID and the container's id that a ``/proc/*/cgroup`` names, or None if that is no pod's."""
    found = _IN_POD.search(text)
    return (found[1].replace("_", "-"), found[2]) if found else None


def processes_of(pod_uid: str, proc: Path = PROC) -> Iterator[tuple[int, str]]:
    """The pid and the container's id of everything that runs in a pod."""
    for entry in os.listdir(proc):  # noqa: PTH208  # names are all that is needed, thousands of times
        if not entry.isdigit():
            continue
        try:
            found = container_of((proc / entry / "cgroup").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found is not None and found[0] == pod_uid:
            yield int(entry), found[1]
