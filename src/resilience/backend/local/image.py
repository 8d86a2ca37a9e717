"""The stack image: a Debian root filesystem with the servers in it, built once and kept in the user's cache.

It is built beside its place and renamed into it, so that an interrupted build is never used; its name is the hash of
its recipe, so that a changed recipe makes a new image. Members see it read-only.
"""

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from resilience.backend.local.place import Owner, cache_elsewhere, hand_over
from resilience.errors import HostError

BUILD_TIMEOUT_S = 1_800
OPEN_PLACE = Path("/var/tmp")  # noqa: S108  on disk, as an image needs; a folder of its own is made there
_END = Path(__file__).with_name("end-build.sh")
_DEBIAN_MIRROR = "http://deb.debian.org/debian"
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


Say = Callable[[str], None]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what is in the image; where it is fetched from is not part of it."""

    version: int = 1  # raise it when the way of building changes
    suite: str = "trixie"
    packages: tuple[str, ...] = (
        "redis-server",
        "redis-tools",
        "prometheus",
        "prometheus-node-exporter",
        "prometheus-redis-exporter",
        "prometheus-postgres-exporter",
        "postgresql-17",
        "pgbouncer",
        "patroni",
        "python3-etcd",  # without it Patroni finds no etcd; Debian's asks for one such library, whichever
        "etcd-server",
        "rabbitmq-server",
        "tini",
    )
    folders: tuple[str, ...] = ("config", "data")  # mount points of every member
    left_out: tuple[str, ...] = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with the recipe."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Source:
    """Where Debian's packages come from."""

    mirror: str
    keyring: str
    proxy: str


def source_of_host() -> Source:
    """The host's own mirror, keyring and proxy where the host is Debian, else Debian's defaults.

    ``HARMONYFLOW_MIRROR`` and ``HARMONYFLOW_KEYRING`` override both. The proxy is the host's in any case.
    """
    mirror, keyring = source_from_index_targets(
        _output("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(SIGNED_BY)")
    )
    return Source(
        mirror=os.environ.get("HARMONYFLOW_MIRROR", "") or mirror,
        keyring=os.environ.get("HARMONYFLOW_KEYRING", "") or keyring,
        proxy=_output("apt-config", "dump", "--format", "%v", "Acquire::http::Proxy").strip(),
    )


def source_from_index_targets(listing: str) -> tuple[str, str]:
    """Mirror and keyring from lines ``origin|label|address|keyring``, or Debian's defaults if none is Debian's own."""
    for line in listing.splitlines():
        fields = line.split("|")
        if len(fields) == 4 and fields[:2] == ["Debian", "Debian"] and fields[2]:
            keyring = fields[3] if fields[3].startswith("/") else _DEBIAN_KEYRING
            return fields[2].rstrip("/"), keyring
    return _DEBIAN_MIRROR, _DEBIAN_KEYRING


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):  # no apt here: Debian's defaults are used
        return ""


class ImageStore:
    """The images in the cache folder: ``images/<digest>`` and nothing else that is complete."""

    def __init__(self, cache: Path, owner: Owner) -> None:
        """``cache`` need not exist; nothing is made before `ensure`."""
        self.folder = cache / "images"
        self.log = self.folder / "build.log"
        self.owner = owner

    def find(self, recipe: Recipe) -> Path | None:
        """The root of the image if it has been built."""
        root = self.folder / recipe.digest
        return root if root.is_dir() else None

    def ensure(self, recipe: Recipe, say: Say, *, warn: Say | None = None, rebuild: bool = False) -> Path:
        """The root of the image, built now if it is not there.

        ``say`` hears how far it is, ``warn`` (None: ``say``) what of a build cannot be removed. Raises `HostError` if
        it cannot be built: what was begun is removed, and the log is kept beside it.
        """
        warn = warn or say
        root = self.find(recipe)
        if root and not rebuild:
            return root
        self._make_folder()
        with self._only_builder(say):
            root = self.find(recipe)
            if root and not rebuild:  # somebody else built it while this process waited
                return root
            with _removed_at_the_end(self._leftovers(), warn):
                pass
            return self._build(recipe, say, warn)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            elsewhere = cache_elsewhere(self.owner)
            raise HostError(f"cache folder {self.folder}: {error.strerror}; free it, or {elsewhere}") from error
        hand_over(self.folder.parent, self.owner)

    @contextmanager
    def _only_builder(self, say: Say) -> Iterator[None]:
        path = self.folder / "build.lock"
        with path.open("w") as lock:
            hand_over(path, self.owner)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another process builds the stack image; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _leftovers(self) -> tuple[Path, ...]:
        """What a build has left whose guard was killed, too."""
        return (*self.folder.glob("building-*"), *OPEN_PLACE.glob(f"{_prefix()}*"))

    def _build(self, recipe: Recipe, say: Say, warn: Say) -> Path:
        source = source_of_host()
        if not Path(source.keyring).is_file():
            raise HostError(f"keyring {source.keyring} is missing: install the package debian-archive-keyring")
        building = self.folder / f"building-{os.getpid()}"
        building.mkdir()
        workshop = workshop_for(building)
        say(f"Debian {recipe.suite}; log: {self.log}")
        try:
            with _removed_at_the_end((building, workshop), warn) as guard:
                self._unpack(recipe, source, building / "root", workshop, guard)
                hand_over(building, self.owner)
                return self._put_in_place(building / "root", recipe)
        finally:
            hand_over(self.log, self.owner)

    def _unpack(self, recipe: Recipe, source: Source, root: Path, workshop: Path, guard: IO[bytes]) -> None:
        root.mkdir()
        with self.log.open("wb") as output:
            build = subprocess.Popen(
                _build_command(recipe, source),
                stdout=subprocess.PIPE,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(workshop), "LC_ALL": "C.UTF-8"},
                process_group=0,  # the builder sends signals to all of its group, and so can the guard
            )
            _tell(guard, str(build.pid))
            unpack = subprocess.Popen(
                ["tar", "-C", str(root), "-x", "-p", "--no-same-owner", "--exclude=./dev/*", "-f", "-"],
                stdin=build.stdout,
                stderr=output,
            )
            assert build.stdout is not None
            build.stdout.close()  # tar holds it now: the builder learns of tar's end by it
            try:
                codes = (build.wait(BUILD_TIMEOUT_S), unpack.wait(60) if build.returncode == 0 else None)
            except subprocess.TimeoutExpired as error:
                raise HostError(f"stack image: not built after {BUILD_TIMEOUT_S} s; see {self.log}") from error
            finally:
                if build.returncode != 0:
                    _kill_group(build)  # what a builder that was killed has started may go on without it
                for process in (unpack, build):
                    process.kill()
                    process.wait()
                _tell(guard, "")  # the number of a group that has ended may be given again
        if codes != (0, 0):
            why = _why(build.returncode, self.log)
            raise HostError(f"stack image: the build failed ({why}); whole log: {self.log}")

    def _put_in_place(self, root: Path, recipe: Recipe) -> Path:
        final = self.folder / recipe.digest
        if final.exists():  # a rebuild
            final.rename(root.parent / "replaced")
        root.rename(final)
        return final


@contextmanager
def _removed_at_the_end(folders: Sequence[Path], warn: Say) -> Iterator[IO[bytes]]:
    """Removes a build's folders, even if this process is killed: a guard hears of its end by the end of a pipe.

    The process group that it was told last (`_tell`) is ended before.
    """
    guard = subprocess.Popen(
        ["sh", str(_END), *(str(folder.absolute()) for folder in folders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
    )
    assert guard.stdin is not None
    try:
        yield guard.stdin
    finally:
        _, said = guard.communicate()  # it tries for seconds, not for ever
        if guard.returncode != 0:
            reason = (said.decode(errors="replace").splitlines() or [f"exit {guard.returncode}"])[0]
            warn(f"what a build of the stack image has left cannot be removed: {reason}")


def _tell(guard: IO[bytes], group: str) -> None:
    with suppress(BrokenPipeError):  # somebody has killed it: the next build does its work
        guard.write(f"{group}\n".encode())
        guard.flush()


def _kill_group(leader: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)


def _why(code: int, log: Path) -> str:
    """Why a builder that ended with this code did not come to its own end."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else last_error(log.read_text(errors="replace"))


def workshop_for(building: Path, open_place: Path = OPEN_PLACE) -> Path:
    """Makes the folder in which the builder works.

    An ordinary user's builder works under subordinate user ids, to whom that user's home is closed on many machines
    (Ubuntu makes homes with 0750): then it works in a place that is open to all.
    """
    inside = building / "tmp"
    inside.mkdir()
    ways = (inside, *inside.resolve().parents)
    if os.geteuid() == 0 or all(way.stat().st_mode & stat.S_IXOTH for way in ways):
        return inside
    workshop = Path(tempfile.mkdtemp(prefix=_prefix(), dir=open_place))
    workshop.chmod(0o711)
    return workshop


def _prefix() -> str:
    return f"harmonyflow-build-{os.geteuid()}-"


def servers_of(root: Path) -> str:
    """Which servers an image holds: its recipe, and what was installed, e.g. ``image 54d7d07a750b, packages 1f0c…``.

    The same recipe, built later, may have other versions in it. Raises `HostError`.
    """
    try:
        packages = (root / "var/lib/dpkg/status").read_bytes()
    except OSError as error:
        raise HostError(f"stack image {root}: {error.strerror}; build it again: resilience image --rebuild") from error
    return f"image {root.name}, packages {hashlib.sha256(packages).hexdigest()[:12]}"


def _build_command(recipe: Recipe, source: Source) -> list[str]:
    """Runs the builder in namespaces of its own: however it ends, no mount of its is left, and as root no process.

    An ordinary user's makes them itself, and what it starts in them outlives it: its group is ended (`_kill_group`).
    """
    root = os.geteuid() == 0
    inside = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command = [*inside, "mmdebstrap"] if root else ["setpriv", "--pdeathsig", "KILL", "mmdebstrap"]
    options = [
        f"--mode={'root' if root else 'unshare'}",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(recipe.packages)}",
        f"--keyring={source.keyring}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.left_out),
        *(f'--customize-hook=mkdir -p "$1/{folder}"' for folder in recipe.folders),
        '--customize-hook=: > "$1/etc/hosts"',  # a mount point
        # the image belongs to an ordinary user's cache: nothing in it may lend rights
        '--customize-hook=find "$1" -xdev -type f -perm /6000 -exec chmod a-s {} +',
    ]
    if source.proxy:
        options.append(f'--aptopt=Acquire::http::Proxy "{source.proxy}"')
    return [*command, *options, recipe.suite, "-", source.mirror]


def last_error(log: str) -> str:
    """The line of a builder's log that says best what went wrong."""
    lines = [line for line in log.splitlines() if line.strip()]
    causes = [line for line in lines if "No space left on device" in line]
    errors = [line for line in lines if line.startswith(("E:", "Err:", "tar:"))]
    return (causes or errors or lines or ["no output"])[-1][:300]
