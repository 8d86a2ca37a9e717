"""Where things are kept on this machine: the cache folder, the project's root, the calling user."""

import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from resilience.errors import HostError

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
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


def config_dir(owner: Owner) -> Path:
    """The harness's folder among the user's settings; nothing is ever written there."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if owner.needs_handing_over or not base.startswith("/"):  # as for the cache
        return owner.home / ".config" / "harmonyflow"
    return Path(base) / "harmonyflow"


def cache_elsewhere(owner: Owner) -> str:
    """What a person does who wants the cache in another place; under ``sudo`` the variable may be root's own."""
    return "make it a link to another place" if owner.needs_handing_over else "name another place by XDG_CACHE_HOME"


def standing_dir(owner: Owner) -> Path:
    """The folder of the stack that ``resilience up`` keeps up: its control socket, ledger and logs."""
    return cache_dir(owner) / "up"


def trouble_with_keeping(path: Path, owner: Owner) -> str:
    """Who but the user could change what a file says; "" if nobody can: it and all folders above it belong to them or
    to root, and others may not write there. Raises `OSError`.

    Links are followed. A folder like /tmp, where nobody may remove what is another's, is as good as one's own.
    """
    for place in (path, Path(os.path.realpath(path, strict=True))):
        for found in (place, *place.absolute().parents):
            facts = found.stat()
            if facts.st_uid not in {owner.uid, 0}:
                return f"{found} belongs to somebody else (user {facts.st_uid})"
            if facts.st_mode & _WRITABLE_BY_OTHERS and not facts.st_mode & stat.S_ISVTX:
                return f"{found} can be written by others: chmod go-w {found}"
    return ""


def hand_over(path: Path, owner: Owner) -> None:
    """Gives a file or folder, with all in it, to the calling user; does nothing unless under ``sudo``."""
    if not owner.needs_handing_over or not path.exists():
        return
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            os.chown(os.path.join(folder, name), owner.uid, owner.gid, follow_symlinks=False)  # noqa: PTH118
