"""The real command on the worst files: bounded memory and time, and nothing begun, as the operating system sees it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.malformed.conftest import ROOT
from tests.malformed.mutation import LAUGHS

FILE = "scenarios/redis/redis-failover.yaml"
ADDRESS_SPACE_BYTES = 4 * 1024**3
PEAK_BYTES_MAX = 250 * 1024**2  # three times what importing the program takes
WITHIN_S = 120.0  # on a machine that others use; it takes about one
WITNESS = """\
import atexit, os, sys
BEGUN = {"subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.mkdir", "socket.connect"}
def hear(event, arguments):
    if event in BEGUN:
        os.write(2, f"begun: {event}\\n".encode())
sys.addaudithook(hear)
def tell():
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    open(os.environ["PEAK"], "w").write(peak.split()[1])
atexit.register(tell)
"""  # the kernel's own account of a child, ru_maxrss, begins with what its parent had
WORST = {
    "laughs": LAUGHS.encode(),
    "deep": b"title: " + b"[" * 200_000,
    "deep-mapping": b"a: " + b"{a: " * 60_000,
    "huge": b"title: a\n" + b"#" * 50_000_000,
    "many-items": b"title: a\nslos: [" + b"a," * 120_000 + b"a]\n",
    "many-keys": b"".join(b"k%d: 1\n" % n for n in range(20_000)),
    "long-text": b'title: "' + b"x" * 250_000 + b'"\n',
    "python-tag": b"title: !!python/object/apply:os.system ['touch owned']\n",
    "utf-16": "title: a\n".encode("utf-16"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program and its data files in a folder of their own, which is then its project's root."""
    root = tmp_path_factory.mktemp("installed")
    for folder in ("src/resilience", "scenarios", "experiments", "stacks"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "src/sitecustomize.py").write_text(WITNESS)
    return root


def started(root: Path, *argv: str) -> tuple[int, str, int]:
    """Exit code, what it said, and its peak of memory in bytes."""
    said = root / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            ["prlimit", f"--as={ADDRESS_SPACE_BYTES}", sys.executable, *argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(root / "home"), "PYTHONPATH": str(root / "src"),
                 "PYTHONDONTWRITEBYTECODE": "1", "PEAK": str(root / "peak"), "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            process.wait(WITHIN_S)
        finally:
            process.kill()
            process.wait()
    return process.returncode, said.read_text(), int((root / "peak").read_text()) * 1024


@pytest.mark.parametrize("name", WORST)
def test_the_worst_files_take_neither_memory_nor_time(name: str, installed: Path) -> None:
    good = (installed / FILE).read_bytes()
    (installed / FILE).write_bytes(WORST[name])
    try:
        code, said, peak_bytes = started(installed, "-m", "resilience", "run", "redis-failover")
    finally:
        (installed / FILE).write_bytes(good)
    assert (code, len(said.splitlines())) == (2, 1), said[:2_000]
    assert said.startswith(f"resilience: {FILE}: ")
    assert peak_bytes < PEAK_BYTES_MAX
    assert sorted(path.name for path in installed.iterdir()) == [
        "experiments",
        "peak",
        "said",
        "scenarios",
        "src",
        "stacks",
    ]


def test_the_witness_hears_what_is_begun(installed: Path) -> None:
    _, said, _ = started(installed, "-c", "import subprocess; subprocess.run(['true'])")
    assert "begun: subprocess.Popen" in said
