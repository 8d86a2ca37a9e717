import re
from pathlib import Path

import pytest

from resilience.backend.kubernetes import images
from resilience.backend.kubernetes.images import OFFICIAL_BASE, Images, digest, piped, repository, source_files, wanted
from resilience.backend.kubernetes.tiers import TIERS
from resilience.backend.local.image import ImageStore
from resilience.backend.local.place import PROJECT_ROOT, calling_user
from resilience.errors import SpecError, StackError
from tests.unit.backend.test_kind import tool


def test_official_images_by_default():
    assert wanted({}) == Images(base=OFFICIAL_BASE)
    assert wanted({"RESILIENCE_IMAGES": "debian"}).debian


def test_a_file_names_others(tmp_path: Path):
    file = tmp_path / "images.yaml"
    file.write_text("redis: registry.example/redis:7.2\nbase: registry.example/python:3.13\n")
    images = wanted({"RESILIENCE_IMAGES": str(file)})
    assert images == Images(base="registry.example/python:3.13", replaced={"redis": "registry.example/redis:7.2"})


@pytest.mark.parametrize("content", ["- redis\n", "redis: 7\n", "redis: redis\n", None])
def test_what_names_no_images_is_refused(tmp_path: Path, content: str | None):
    file = tmp_path / "images.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SpecError):
        wanted({"RESILIENCE_IMAGES": str(file)})


@pytest.mark.parametrize("name", ["session", "harmonyflow/resilience", "rediss"])
def test_an_image_that_nothing_uses_is_refused(tmp_path: Path, name: str):
    file = tmp_path / "images.yaml"
    file.write_text(f"redis: redis:7.2\n{name}: registry.example/own:1\n")
    with pytest.raises(SpecError, match=f"'{name}': nothing here uses that image: expected redis, prom/prometheus,"):
        wanted({"RESILIENCE_IMAGES": str(file)})


def test_every_image_of_the_manifests_can_be_replaced():
    folders = ("base", "tiers")
    files = [file for name in folders for file in (PROJECT_ROOT / "stacks" / "kubernetes" / name).rglob("*.yaml")]
    used = {name for file in files for name in re.findall(r"image: (\S+)", file.read_text())}
    assert used == {*images.DEBIAN, images.PROJECT}


@pytest.mark.parametrize(("here", "told"), [(False, True), (True, False)])
def test_a_base_that_cannot_be_pulled_can_be_replaced(
    tools: Path, monkeypatch: pytest.MonkeyPatch, here: bool, told: bool
):
    tool(tools, "docker", "pull access denied", 1)
    monkeypatch.setattr(images, "is_here", lambda _image: here)
    with pytest.raises(StackError, match="'docker build --quiet' failed") as raised:
        images._build_on("python:3.13", "context", "x:1")
    assert ("image python:3.13 cannot be pulled: name another in a file ('base: " in str(raised.value)) == told


def a_project(root: Path) -> Path:
    (root / "src" / "__pycache__").mkdir(parents=True)
    (root / "src" / "a.py").write_text("1")
    (root / "src" / "__pycache__" / "a.pyc").write_text("x")
    (root / "pyproject.toml").write_text("")
    return root


def test_the_image_changes_with_its_sources_and_base_only(tmp_path: Path):
    root = a_project(tmp_path)
    first = digest("a", root)
    (root / "src" / "__pycache__" / "a.pyc").write_text("y")
    (root / "reports").mkdir()
    (root / "reports" / "x").write_text("y")
    assert digest("a", root) == first
    assert digest("b", root) != first
    (root / "src" / "a.py").write_text("2")
    assert digest("a", root) != first


def test_the_image_holds_what_runs_in_it_and_no_secrets_or_reports():
    names = {path.relative_to(PROJECT_ROOT).parts[0] for path in source_files(PROJECT_ROOT)}
    assert {"src", "services", "loadgen", "stacks", "scenarios", "experiments"} <= names
    assert not names & {"reports", "tests", ".git", ".venv"}


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis:7.4", "redis"),
        ("redis", "redis"),
        ("prom/prometheus@sha256:00ff", "prom/prometheus"),
        ("host:5000/redis", "host:5000/redis"),
        ("host:5000/redis:7@sha256:00ff", "host:5000/redis"),
    ],
)
def test_an_image_without_its_version(image: str, name: str):
    assert repository(image) == name


@pytest.mark.parametrize(
    ("source", "sink", "timeout_s", "trouble"),
    [
        ("echo a", "grep -q a", 5.0, ""),
        ("yes", "echo ERROR: no space left >&2; exit 1", 5.0, "ERROR: no space left"),
        ("yes", "sleep 5", 0.1, "'sh -c' did not end within 0.1 s"),
        ("echo a; exit 3", "cat", 5.0, "'sh' ended with 3"),
    ],
    ids=["well", "the reader gives up", "the reader hangs", "the writer breaks off"],
)
def test_what_is_piped_comes_to_an_end(source: str, sink: str, timeout_s: float, trouble: str):
    assert piped(["sh", "-c", source], ["sh", "-c", sink], timeout_s) == trouble


def test_docker_is_asked_once_for_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def is_here(image: str) -> bool:
        asked.append(image)
        return True

    monkeypatch.setattr(images, "is_here", is_here)
    store = ImageStore(tmp_path, calling_user())
    found = images.ensure(Images(debian=True), TIERS, store, tmp_path, lambda _line: None)
    assert set(found) == {*images.DEBIAN, images.PROJECT}
    assert len(asked) == len(set(asked))
