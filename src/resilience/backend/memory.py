"""The memory of a machine, as its kernel tells it."""


def available_bytes(meminfo: str) -> int:
    """The memory that can be had without swapping, from the text of ``/proc/meminfo``; 0 if that does not say it."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
