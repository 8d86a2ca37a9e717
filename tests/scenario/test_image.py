"""A build of the stack image that is broken off: nothing of it is left that runs, that is used, or that takes room."""

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.backend.local import image
from resilience.backend.local.image import OPEN_PLACE
from resilience.host import IMAGE_BYTES
from tests.scenario.conftest import wait_for
from tests.scenario.traces import argv_of, below

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

IMAGE = [sys.executable, "-m", "resilience", "image"]
BUILD = """
import sys
from resilience.backend.local.image import ImageStore, Recipe
from resilience.backend.local.place import cache_dir, calling_user
from resilience.errors import HostError
owner = calling_user()
try:
    ImageStore(cache_dir(owner), owner).ensure(Recipe(), print)
except HostError as error:
    sys.exit(f"{error}")
"""  # what `resilience image` does once it has looked at the machine: this project may be no place of that user's


def of_the_builder(cache: Path) -> list[str]:
    """Processes that have the cache folder in their command line or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(cache).encode() in (entry / "cmdline").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_killed_build_leaves_nothing_that_runs_or_is_used(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    mounts = Path("/proc/mounts").read_text()
    build = subprocess.Popen(IMAGE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not of_the_builder(tmp_path) or not list(tmp_path.glob("harmonyflow/images/building-*")):
        assert build.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(3)  # into the middle of it
    build.send_signal(signal.SIGKILL)
    build.wait(10)
    deadline = time.monotonic() + 10
    while left := of_the_builder(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert Path("/proc/mounts").read_text() == mounts
    again = subprocess.run(IMAGE, env=environment, capture_output=True, text=True, timeout=600, check=True)
    root = Path(again.stdout.strip())
    assert (root / "usr/bin/redis-server").exists()
    assert sorted(path.name for path in root.parent.iterdir()) == sorted([root.name, "build.lock", "build.log"])


@dataclass(frozen=True)
class User:
    """Who builds: what a command of theirs begins with, and a home to which subordinate user ids cannot come."""

    uid: int
    become: Sequence[str]
    home: Path

    def start(self) -> "subprocess.Popen[str]":
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home)}
        return subprocess.Popen(
            [*self.become, sys.executable, "-c", BUILD], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip

    def folders(self) -> set[Path]:
        """Where this user's builds work."""
        return {*self.home.glob("harmonyflow/images/building-*"), *OPEN_PLACE.glob(f"harmonyflow-build-{self.uid}-*")}


def ordinary_user() -> tuple[int, list[str]]:
    """An ordinary user with subordinate user ids, and what a command of theirs begins with; skips without one."""
    if os.geteuid() != 0:
        return os.geteuid(), []
    listed = [line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines()]
    for known in filter(lambda user: user.pw_name in listed and user.pw_uid != 0, pwd.getpwall()):
        become = ["setpriv", "--reuid", str(known.pw_uid), "--regid", str(known.pw_gid), "--clear-groups", "--"]
        if subprocess.run([*become, "mmdebstrap", "--unshare-helper", "true"], capture_output=True, check=False,
                          cwd="/").returncode == 0:  # fmt: skip
            return known.pw_uid, become
    pytest.skip("no ordinary user here has subordinate user ids")


@pytest.fixture(params=["this user", "an ordinary user"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    uid, become = (os.geteuid(), []) if request.param == "this user" else ordinary_user()
    can = subprocess.run(
        [*become, sys.executable, "-c", "import resilience"], capture_output=True, check=False, cwd="/"
    )
    if can.returncode != 0:
        pytest.skip("the ordinary user may not read this interpreter or this project")
    with tempfile.TemporaryDirectory(dir=OPEN_PLACE) as home:
        os.chown(home, uid, -1)
        yield User(uid, become, Path(home))


@pytest.mark.parametrize("victim", ["its starter", "mmdebstrap"])
def test_whatever_of_a_build_is_killed_nothing_is_left(user: User, victim: str) -> None:
    before = user.folders()
    build = user.start()
    try:
        wait_for("packages are fetched", lambda: build.poll() is not None or any(map(fetched, user.folders())), 120)
        assert build.poll() is None
        family = {pid: argv for pid in below(build.pid) if (argv := argv_of(pid))}
        builder = next(pid for pid in sorted(family) if "/usr/bin/mmdebstrap" in family[pid])
        os.kill(build.pid if victim == "its starter" else builder, signal.SIGKILL)
        _, said = build.communicate(timeout=20)
        assert build.returncode == (-signal.SIGKILL if victim == "its starter" else 1), said
        if victim == "mmdebstrap":
            why = "killed by SIGKILL" if user.uid else ""  # of root's, unshare tells nothing
            assert said.startswith(f"stack image: the build failed ({why}")
        wait_for("its processes are gone", lambda: not [p for p in family if argv_of(p) == family[p]], 10)
        wait_for("its folders are gone", lambda: user.folders() <= before, 10)
    finally:
        build.kill()
        build.communicate()


def fetched(folder: Path) -> list[Path]:
    """Where a builder has begun to keep what it fetches, in its tree."""
    return [*folder.glob("mmdebstrap.*/var/cache/apt"), *folder.glob("tmp/mmdebstrap.*/var/cache/apt")]


def test_what_subordinate_user_ids_have_left_is_removed_by_the_user_that_they_belong_to() -> None:
    """As the next build finds it if the guard of the last one was killed, too."""
    uid, become = ordinary_user()
    with tempfile.TemporaryDirectory(dir=OPEN_PLACE) as place:
        os.chmod(place, 0o711)
        os.chown(place, uid, -1)
        left, open_to_all = Path(place, "build"), Path(place, "build", "open")
        subprocess.run([*become, "mkdir", "-p", open_to_all], check=True)
        os.chmod(left, 0o711)
        os.chmod(open_to_all, 0o777)
        make = ["mmdebstrap", "--unshare-helper", "mkdir", "-p", str(open_to_all / "root" / "deep")]
        subprocess.run([*become, *make], check=True, cwd="/")
        plain = subprocess.run([*become, "rm", "-rf", left], capture_output=True, check=False, cwd="/")
        assert plain.returncode != 0, "the tree is one that its user cannot remove by themselves"
        guard = str(Path(image.__file__).with_name("end-build.sh"))
        subprocess.run([*become, "sh", guard, str(left)], input=b"\n", check=True, timeout=30, cwd="/")
        assert not left.exists()


def test_what_nobody_can_remove_is_told(tmp_path: Path) -> None:
    guard = str(Path(image.__file__).with_name("end-build.sh"))
    (tmp_path / "first").mkdir()
    done = subprocess.run(
        ["sh", guard, tmp_path / "first", "/proc/self/ns"], input="", capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("rm: cannot remove '/proc/self/ns")
    assert not (tmp_path / "first").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_fills_up_ends_the_build_in_one_line(tmp_path: Path) -> None:
    """Enough is free when it begins; somebody else takes it while it goes on."""
    script = """
    mount -t tmpfs -o size="$3" small "$1"
    (until ls "$1"/harmonyflow/images/building-* >/dev/null 2>&1; do [ -e "$1/ended" ] && exit; sleep 0.1; done
     dd if=/dev/zero of="$1/taken" bs=1M count=$(($3 / 1048576)) 2>/dev/null) &
    XDG_CACHE_HOME="$1" "$2" -m resilience image
    code=$?
    touch "$1/ended"
    wait
    ls "$1/harmonyflow/images"
    exit $code
    """
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable, str(IMAGE_BYTES + 100_000_000)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 4, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("resilience: ")]
    assert "No space left on device" in line
    assert ended.stdout.split() == ["build.lock", "build.log"], "nothing half-built is left"
