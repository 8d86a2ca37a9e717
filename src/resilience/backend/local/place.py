"""Where things are kept on this machine: the cache folder, the project's root, the calling user."""

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from resilience.errors import HostError

PROJECT_ROOT = Path(__file__).resolve().parents[4]


@dataclass(frozen=True, slots=True)
class Owner:
    """The user who called the command, also where it was called through ``sudo``."""

    uid: int
    gid: int
    home: Path

    @property
    def needs_handing_over(self) -> bool:
        """Whether files made by this process would belong to somebody else (root, under ``sudo``)."""
        return os.geteuid() == 0 and self.uid != 0


def calling_user() -> Owner:
    """The calling user. Raises `HostError` where no home folder is known."""
    uid, gid = _sudo_id("SUDO_UID", os.getuid()), _sudo_id("SUDO_GID", os.getgid())
    home = os.environ.get("HOME", "")
    if uid != os.getuid() or not home:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            raise HostError(f"user {uid} has no home folder: set HOME") from None
    return Owner(uid, gid, Path(home))


def _sudo_id(name: str, own: int) -> int:
    """Who called ``sudo``, or this process's own id. Raises `HostError`."""
    text = os.environ.get(name, "") if os.geteuid() == 0 else ""
    if not text:
        return own
    if not re.fullmatch("[0-9]{1,9}", text):
        raise HostError(f"{name}: expected a number, as sudo sets it (got {text[:20]!r}): unset it")
    return int(text)


def cache_dir(owner: Owner) -> Path:
    """The harness's folder in the user's cache; it is made when something is kept in it."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if owner.needs_handing_over or not base.startswith("/"):  # XDG: a relative one is to be ignored
        return owner.home / ".cache" / "harmonyflow"
    return Path(base) / "harmonyflow"


def cache_elsewhere(owner: Owner) -> str:
    """What a person does who wants the cache in another place; under ``sudo`` the variable may be root's own."""
    return "make it a link to another place" if owner.needs_handing_over else "name another place by XDG_CACHE_HOME"


def standing_dir(owner: Owner) -> Path:
    """The folder of the stack that ``resilience up`` keeps up: its control socket, ledger and logs."""
    return cache_dir(owner) / "up"


def hand_over(path: Path, owner: Owner) -> None:
    """Gives a file or folder, with all in it, to the calling user; does nothing unless under ``sudo``."""
    if not owner.needs_handing_over or not path.exists():
        return
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            os.chown(os.path.join(folder, name), owner.uid, owner.gid, follow_symlinks=False)  # noqa: PTH118
