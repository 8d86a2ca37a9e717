"""A build of the stack image that is broken off: nothing of it is left that runs, and nothing that is used."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

IMAGE = [sys.executable, "-m", "resilience", "image"]


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


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_fills_up_ends_the_build_in_one_line(tmp_path: Path) -> None:
    """Enough is free when it begins; somebody else takes it while it goes on."""
    script = """
    mount -t tmpfs -o size=2300m small "$1"
    (until ls "$1"/harmonyflow/images/building-* >/dev/null 2>&1; do sleep 0.1; done
     dd if=/dev/zero of="$1/taken" bs=1M count=2250 2>/dev/null) &
    XDG_CACHE_HOME="$1" "$2" -m resilience image
    code=$?
    wait
    ls "$1/harmonyflow/images"
    exit $code
    """
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 4, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("resilience: ")]
    assert "No space left on device" in line
    assert ended.stdout.split() == ["build.lock", "build.log"], "nothing half-built is left"
