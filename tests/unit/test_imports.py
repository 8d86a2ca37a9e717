"""Which room may import which: the arrows of the architecture, held."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "resilience"


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a room may import besides the standard library and itself: of ours (modules and below), and of others.

    ``others`` None: anything but ``never``.
    """

    ours: frozenset[str] = frozenset()
    others: frozenset[str] | None = frozenset()
    never: frozenset[str] = field(default=frozenset({"chaoslib", "chaosk8s", "locust", "gevent"}))


def room(ours: str = "", others: str = "") -> Room:
    return Room(ours=frozenset(f"resilience.{name}" for name in ours.split()), others=frozenset(others.split()))


TABLE = {
    "errors": room(),
    "spec": room("errors", "yaml msgspec"),
    "history": room("errors spec", "msgspec numpy"),
    "check": room("spec history", "msgspec numpy"),
    "agent": room(),
    "backend": room("errors spec agent", "msgspec jinja2 kubernetes urllib3 websocket"),
    "stack": room("errors spec backend history", "msgspec pika psycopg redis"),
    "fault": room("errors spec agent.line backend stack history", "msgspec"),
    "load": room("errors spec history", "msgspec"),
    "metrics": room("errors spec history", "msgspec prometheus_api_client requests"),
    "chaos": room("errors spec agent backend stack fault history", "msgspec yaml chaoslib"),
    # of the checks, the records that verdict.json and timeline.json hold
    "report": room("errors spec history check.finding check.timeline", "msgspec jinja2 markupsafe rich"),
    # the imperative shell: the runner, and what stands beside it in the package's own folder
    "runner": Room(ours=frozenset({"resilience"}), others=None),
    "cli": room(
        "runner supervise cluster_cli standing_cli outside controlled suite spec report errors history", "rich"
    ),
    "__main__": room("cli"),
    "loadgen": Room(
        ours=frozenset({"resilience.history", "resilience.spec"}),
        others=frozenset(
            {"gevent", "locust", "msgspec", "pika", "prometheus_client", "psycopg", "redis", "uvloop", "websocket"}
        ),
    ),
    "services": room("", "aiohttp grpc msgspec pika prometheus_client psycopg redis uvloop yarl"),
}
EFFECTS = frozenset({"subprocess", "socket", "os", "time", "random", "threading", "asyncio", "datetime", "secrets"})
PURE = {"check": EFFECTS, "spec": EFFECTS - {"datetime"}}


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str


def imports_of(source: str, file: str) -> Iterator[Import]:
    """All imports of a source, late ones and ``from package import module`` too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            whole = {"resilience", "loadgen", "services"}
            names = [f"{base}.{alias.name}" for alias in node.names] if base in whole else [base]
            yield from (Import(file, node.lineno, name) for name in names)


def offence(room_name: str, found: Import) -> str:
    """Why a room may not import this, or ""."""
    rules, module = TABLE[room_name], found.module
    top = module.split(".")[0]
    where = f"{found.file}:{found.line}: {room_name} imports {module}"
    if module.startswith("."):
        return f"{where}: name modules in full"
    if top in sys.stdlib_module_names:
        return f"{where}: it is pure" if top in PURE.get(room_name, ()) else ""
    own = f"resilience.{room_name}" if room_name in {*TABLE} - {"loadgen", "services"} else room_name
    if any(module == name or module.startswith(f"{name}.") for name in {*rules.ours, own}):
        return ""
    if top in {"resilience", "loadgen", "services", "tests"}:
        return where
    allowed = top not in rules.never if rules.others is None else top in rules.others
    return "" if allowed else where


CLUSTER_TOOLS = frozenset({"kubectl", "docker", "kind"})
CLUSTER_LIBRARIES = frozenset({"kubernetes", "chaosk8s"})
KNOW_CLUSTERS = ("backend", "chaos")  # the rooms that may know of clusters at all


def cluster_knowledge(source: str, file: str) -> Iterator[str]:
    """Every import of a cluster's library in a source, and every command line or call that begins with its tools."""
    for found in imports_of(source, file):
        if found.module.split(".")[0] in CLUSTER_LIBRARIES:
            yield f"{found.file}:{found.line}: imports {found.module}"
    for node in ast.walk(ast.parse(source)):
        words = (
            node.elts[:1] if isinstance(node, ast.List | ast.Tuple) else node.args if isinstance(node, ast.Call) else []
        )
        for word in words:
            if isinstance(word, ast.Constant) and isinstance(word.value, str) and _program(word.value) in CLUSTER_TOOLS:
                yield f"{file}:{word.lineno}: starts {word.value.split()[0]}"


def _program(command: str) -> str:
    return Path((command.split() or [""])[0]).name


def room_of(path: Path) -> str:
    if not path.is_relative_to(PACKAGE):
        return path.relative_to(ROOT).parts[0]
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if name == "pytest_plugin":
        return "cli"
    return name if name in TABLE or (PACKAGE / name).is_dir() else "runner"


def sources() -> list[Path]:
    return sorted(path for base in (PACKAGE, ROOT / "loadgen", ROOT / "services") for path in base.rglob("*.py"))


def test_every_room_is_in_the_table() -> None:
    assert {room_of(path) for path in sources()} <= {*TABLE}


def test_only_backends_know_of_clusters() -> None:
    found = [
        why
        for path in sources()
        if room_of(path) not in KNOW_CLUSTERS
        for why in cluster_knowledge(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import kubernetes",
        "def f():\n    from chaosk8s.pod import actions",
        "run(['kubectl', 'get', 'pods'])",
        "argv = ('/usr/bin/docker', 'ps')",
        "os.system('kind get clusters')",
        "shutil.which('docker')",
    ],
)
def test_knowledge_of_clusters_is_found(source: str) -> None:
    assert list(cluster_knowledge(source, "x.py"))


def test_words_of_a_sentence_are_no_knowledge_of_clusters() -> None:
    source = "fault['kind']\nx = {'kind': 1}\nprint('of this kind')\nimport kubernetes_like"
    assert list(cluster_knowledge(source, "x.py")) == []


@pytest.mark.parametrize("name", sorted(TABLE))
def test_room_imports_what_it_may(name: str) -> None:
    found = [
        item
        for path in sources()
        if room_of(path) == name
        for item in imports_of(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]
    assert [why for item in found if (why := offence(name, item))] == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("agent", "import resilience.errors"),
        ("agent", "import msgspec"),
        ("check", "import time"),
        ("check", "def f():\n    from resilience.backend import base"),
        ("check", "from resilience import report"),
        ("spec", "import socket"),
        ("spec", "from resilience.history.record import Series"),
        ("history", "from resilience.check import finding"),
        ("backend", "from resilience.stack import roles"),
        ("backend", "from resilience.fault.base import Fault"),
        ("stack", "from resilience.fault.base import Fault"),
        ("fault", "import chaoslib"),
        ("fault", "from resilience.report import text"),
        ("load", "import locust"),
        ("metrics", "from resilience.check import finding"),
        ("report", "from resilience.check.compose import judge"),
        ("report", "from resilience.backend import base"),
        ("chaos", "from resilience.runner import run"),
        ("runner", "import locust"),
        ("runner", "from chaoslib.run import Runner"),
        ("cli", "from resilience.backend import base"),
        ("cli", "from resilience.check import compose"),
        ("loadgen", "from resilience.check import finding"),
        ("loadgen", "from resilience.load import start"),
        ("services", "from resilience.errors import HarnessError"),
        ("services", "import loadgen.metrics"),
        ("metrics", "from .prometheus import Prometheus"),
    ],
)
def test_broken_rule_is_found(name: str, source: str) -> None:
    assert [why for item in imports_of(source, "x.py") if (why := offence(name, item))]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("check", "from resilience.check.finding import Finding\nimport re\nimport numpy as np"),
        ("spec", "import yaml"),
        ("report", "from resilience.check.finding import Finding"),
        ("runner", "from resilience.stage import stage"),
        ("cli", "from resilience import runner"),
        ("loadgen", "from resilience.history.record import Invoked\nimport loadgen.metrics"),
    ],
)
def test_kept_rule_is_not(name: str, source: str) -> None:
    assert [why for item in imports_of(source, "x.py") if (why := offence(name, item))] == []
