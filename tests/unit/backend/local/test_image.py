import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from resilience.backend.local import image as image_module
from resilience.backend.local.image import ImageStore, Recipe, last_error, source_from_index_targets, workshop_for
from resilience.backend.local.place import Owner
from resilience.errors import HostError

DEFAULTS = ("http://deb.debian.org/debian", "/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Case:
    name: str
    listing: str
    expect: tuple[str, str]


OWN = "Debian|Debian|http://m.example"
CASES = (
    Case("a Debian host's own mirror", f"{OWN}/debian/|/k.gpg\n", ("http://m.example/debian", "/k.gpg")),
    Case("its keyring may be unnamed", f"{OWN}|\n", ("http://m.example", DEFAULTS[1])),
    Case("other vendors come first", f"Docker|Docker|http://d.example|/d\n{OWN}|/k\n", ("http://m.example", "/k")),
    Case("security updates are another archive", "Debian|Debian-Security|http://s.example|/k\n", DEFAULTS),
    Case("Ubuntu", "Ubuntu|Ubuntu|http://u.example/ubuntu|/u.gpg\n", DEFAULTS),
    Case("no apt", "", DEFAULTS),
    Case("a line that is none", "Debian|Debian\n", DEFAULTS),
    Case("a fingerprint is no keyring file", f"{OWN}|ABCDEF\n", ("http://m.example", DEFAULTS[1])),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_source_is_the_hosts_where_the_host_is_debian(case):
    assert source_from_index_targets(case.listing) == case.expect


def test_a_changed_recipe_is_another_image():
    recipe = Recipe()
    digests = {
        recipe.digest,
        msgspec.structs.replace(recipe, packages=(*recipe.packages, "etcd-server")).digest,
        msgspec.structs.replace(recipe, version=recipe.version + 1).digest,
        msgspec.structs.replace(recipe, suite="forky").digest,
    }
    assert len(digests) == 4
    assert Recipe().digest == recipe.digest


def test_an_image_that_is_there_is_not_built_again(tmp_path):
    built = tmp_path / "images" / Recipe().digest
    built.mkdir(parents=True)
    said: list[str] = []
    assert ImageStore(tmp_path, Owner(0, 0, tmp_path)).ensure(Recipe(), said.append) == built
    assert said == []


def test_an_interrupted_build_is_never_an_image(tmp_path, monkeypatch):
    def broken(_recipe, _source, root, workshop, _guard):
        assert workshop.is_dir()
        (root / "usr").mkdir(parents=True)
        raise HostError("stack image: the build failed")

    store = ImageStore(tmp_path, Owner(0, 0, tmp_path))
    monkeypatch.setattr(store, "_unpack", broken)
    keyring = tmp_path / "keyring"
    keyring.touch()
    monkeypatch.setattr(image_module, "source_of_host", lambda: image_module.Source("m", str(keyring), ""))
    with pytest.raises(HostError, match="build failed"):
        store.ensure(Recipe(), lambda _text: None)
    assert store.find(Recipe()) is None
    assert list((tmp_path / "images").glob("building-*")) == []


def test_leftovers_of_a_killed_build_go_with_the_next_one(tmp_path, monkeypatch):
    left = tmp_path / "images" / "building-1234"
    left.mkdir(parents=True)
    store = ImageStore(tmp_path, Owner(0, 0, tmp_path))
    monkeypatch.setattr(store, "_build", lambda recipe, say, warn: Path("/built"))
    assert store.ensure(Recipe(), lambda _text: None) == Path("/built")
    assert not left.exists()


def test_what_cannot_be_removed_is_told_and_the_build_goes_on(tmp_path, monkeypatch):
    guard = tmp_path / "end-build.sh"
    guard.write_text("cat; echo \"rm: cannot remove '$1': Read-only file system\" >&2; exit 1\n")
    monkeypatch.setattr(image_module, "_END", guard)
    store = ImageStore(tmp_path, Owner(0, 0, tmp_path))
    monkeypatch.setattr(store, "_build", lambda recipe, say, warn: Path("/built"))
    (tmp_path / "images" / "building-1").mkdir(parents=True)
    said: list[str] = []
    assert store.ensure(Recipe(), lambda _text: None, warn=said.append) == Path("/built")
    (line,) = said
    assert line.startswith("what a build of the stack image has left cannot be removed: ")
    assert line.endswith(f"rm: cannot remove '{tmp_path}/images/building-1': Read-only file system")


@pytest.mark.parametrize("told", [True, False], ids=["the build is under way", "it has ended"])
def test_the_end_of_a_builds_process_ends_its_builder_and_removes_its_folders(tmp_path, told):
    """What a guard does when the process that holds the other end of its pipe is gone."""
    folder = tmp_path / "building-1"
    (folder / "tmp").mkdir(parents=True)
    builder = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], stdout=subprocess.PIPE, process_group=0)
    said = f"{builder.pid}\n" if told else f"{builder.pid}\n\n"
    script = Path(image_module.__file__).with_name("end-build.sh")
    subprocess.run(["sh", script, folder], input=said.encode(), check=True, timeout=30)
    assert not folder.exists()
    assert builder.poll() is None or told, "a number that may be somebody else's by now is left alone"
    if not told:
        os.killpg(builder.pid, signal.SIGKILL)
    assert builder.communicate(timeout=10)[0] == b"", "all that held its output have ended"
    assert builder.returncode == -signal.SIGKILL


def test_a_missing_keyring_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "source_of_host", lambda: image_module.Source("m", "/no/keyring.gpg", ""))
    with pytest.raises(HostError, match="debian-archive-keyring"):
        ImageStore(tmp_path, Owner(0, 0, tmp_path)).ensure(Recipe(), lambda _text: None)


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(HostError, match="XDG_CACHE_HOME"):
        ImageStore(tmp_path / "cache", Owner(0, 0, tmp_path)).ensure(Recipe(), lambda _text: None)


def test_the_cache_may_be_a_link_to_another_place(tmp_path, monkeypatch):
    (tmp_path / "big").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "big")
    store = ImageStore(tmp_path / "cache", Owner(0, 0, tmp_path))
    monkeypatch.setattr(store, "_build", lambda recipe, say, warn: Path("/built"))
    assert store.ensure(Recipe(), lambda _text: None) == Path("/built")
    assert (tmp_path / "big" / "images" / "build.lock").exists()


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "no output"),
        ("I: begins\n", "I: begins"),
        ("E: no mirror\nI: cleaning\n", "E: no mirror"),
        (
            "tar: ./x: Cannot write: No space left on device\ntar: Exiting with failure status due to\n",
            "tar: ./x: Cannot write: No space left on device",
        ),
    ],
)
def test_a_failed_build_says_why(log: str, said: str) -> None:
    assert last_error(log) == said


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that everybody can come to, as a test's own is not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("user", "mode", "inside"),
    [(1000, 0o755, True), (1000, 0o750, False), (0, 0o700, True)],
    ids=["open home", "closed home", "root"],
)
def test_the_builder_works_where_its_user_ids_may_go(home, monkeypatch, user, mode, inside):
    building, open_place = home / "ann" / "building-1", home / "open"
    for folder in (building, open_place):
        folder.mkdir(parents=True)
    (home / "ann").chmod(mode)
    monkeypatch.setattr("os.geteuid", lambda: user)
    workshop = workshop_for(building, open_place)
    assert workshop.parent == (building if inside else open_place)
    assert workshop.stat().st_mode & 0o001


def test_what_a_killed_builder_left_in_the_open_place_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "OPEN_PLACE", tmp_path / "open")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    left, other = (tmp_path / "open" / f"harmonyflow-build-{user}-x1" for user in (1000, 1001))
    for folder in (left, other):
        folder.mkdir(parents=True)
    monkeypatch.setattr(ImageStore, "_build", lambda _self, _recipe, _say, _warn: tmp_path)
    ImageStore(tmp_path, Owner(0, 0, tmp_path)).ensure(Recipe(), lambda _said: None)
    assert not left.exists()
    assert other.exists()
