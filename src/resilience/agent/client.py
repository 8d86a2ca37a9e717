"""Asks the daemon of an injection, on the machine that it runs on."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resilience.agent.error import AgentError


def ask(folder: Path, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | None:
    """The daemon's answer, or None where there is none any more. Raises `AgentError` if it does not answer."""
    try:
        with _dialled(folder, timeout_s) as daemon:
            daemon.sendall(json.dumps(request).encode() + b"\n")
            line = daemon.makefile("rb").readline()
    except (FileNotFoundError, ConnectionError):
        return None
    except OSError as error:
        raise AgentError(f"its agent does not answer: {error}") from error
    answer: dict[str, Any] | None = json.loads(line) if line else None
    return answer


def _dialled(folder: Path, timeout_s: float) -> socket.socket:
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    daemon.settimeout(timeout_s)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        daemon.connect(f"/proc/self/fd/{handle}/socket")  # a socket's path must be short, a folder's need not
    except BaseException:
        daemon.close()
        raise
    finally:
        os.close(handle)
    return daemon
