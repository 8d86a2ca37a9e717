"""The project's own files agree with each other: what one of them names, another one has."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from resilience.backend.choice import able
from resilience.host import tools_needed
from resilience.spec import override
from resilience.spec.fault import FaultSpec, Noop, Target
from resilience.spec.read import list_scenarios, read_scenario
from tests.kind.test_run import SCENARIOS as PLAYED_ON_KIND

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("src", "loadgen", "services", "bench", "setup")
DATA_FOLDERS = ("scenarios", "experiments", "stacks")
BUILD_FILES = ("Makefile", "pyproject.toml", "requirements.lock", ".pre-commit-config.yaml", ".ci/run", "setup")
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|coming soon|not implemented)\b")  # names of stubs
INDEX_OPTION = re.compile(
    r"--(default-|extra-)?index(-url)?[ =]|--find-links[ =]|^-[if] |find-links *=|index-url *=", re.MULTILINE
)


def files_below(*names: str) -> Iterator[Path]:
    """The text files at or below these places."""
    for name in names:
        place = ROOT / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and path.suffix not in {".pyc", ".png"} and "vendor" not in path.parts:
                yield path


def lines_with(pattern: re.Pattern[str], *names: str) -> list[str]:
    """``file:line: text`` of every line that the pattern is found in."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files_below(*names)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def targets() -> set[str]:
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z%-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def commands() -> set[str]:
    """The commands of ``resilience``, from its own help."""
    argv = [sys.executable, "-m", "resilience", "--help"]
    shown = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    return set(re.findall(r"^    ([a-z]+) ", shown, re.MULTILINE))


def targets_without_help(makefile: str) -> set[str]:
    """The targets of a Makefile that ``make help`` does not show."""
    documented = set(re.findall(r"^([a-z%-]+):.*## ", makefile, re.MULTILINE))
    return set(re.findall(r"^([a-z%-]+):(?!=)", makefile, re.MULTILINE)) - documented


def test_help_shows_every_target():
    makefile = (ROOT / "Makefile").read_text()
    assert targets_without_help(makefile) == set()
    assert targets_without_help(makefile + "\nhidden: environment\n\ttrue\n") == {"hidden"}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    assert set(re.findall(r"^  make ([a-zA-Z-]+) ", shown, re.MULTILINE)) == {
        name.replace("%", "NAME") for name in targets()
    }


@pytest.mark.parametrize("page", PAGES)
def test_what_the_pages_tell_people_to_type_exists(page: str, commands: set[str]):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`?make ((?:[a-z]+-)*[a-zA-Z]+)(?=[`\s)])", "\n".join(code_of(text))))
    scenarios = {f"chaos-{name}" for name in (*list_scenarios(ROOT), "NAME")}
    assert named <= targets() | scenarios
    assert set(re.findall(r"(?:^|[ /])resilience ([a-z]+)", "\n".join(code_of(text)), re.MULTILINE)) <= commands


def code_of(page: str) -> list[str]:
    """What stands in a page's code blocks and code words."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return blocks + re.findall(
        r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    )


def test_the_readme_names_both_commands_and_the_code_of_pages_is_found():
    code = code_of((ROOT / "README.md").read_text())
    assert any("make chaos-redis-failover" in piece for piece in code)
    assert any("make test" in piece for piece in code)
    assert code_of("see `make x`\n```\nmake y\n```\n") == ["make y\n", "make x"]


def test_every_test_is_run_by_a_target():
    """A folder that no target names is a folder whose tests nobody runs."""
    named = set(re.findall(r"pytest.* tests/([a-z]+)", (ROOT / "Makefile").read_text()))
    assert {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")} == named


def test_every_fault_that_a_cluster_can_have_is_played_there_by_some_test():
    faults = {name: one.fault for name in list_scenarios(ROOT) if (one := read_scenario(ROOT, name).experiment)}
    possible = {type(fault) for fault in faults.values() if "kind" in able(fault)} - {Noop}
    assert possible == {type(faults[name]) for name in PLAYED_ON_KIND if name in faults}
    assert "baseline" in PLAYED_ON_KIND


def test_every_scenario_reads_with_its_slos_and_every_slo_file_is_used():
    names = list_scenarios(ROOT)
    assert {"baseline", "redis-failover", "redis-kill-replica", "redis-partition-primary"} <= set(names)
    assert all(read_scenario(ROOT, name).slos for name in names)
    texts = "\n".join(path.read_text() for path in (ROOT / "scenarios").rglob("*.yaml"))
    assert [
        path.name for path in (ROOT / "scenarios/slo").glob("*.yaml") if f"scenarios/slo/{path.name}" not in texts
    ] == []


def test_every_experiment_belongs_to_a_scenario_of_its_name():
    experiments = {path.stem for path in (ROOT / "experiments").rglob("*.yaml")}
    assert experiments
    assert experiments <= set(list_scenarios(ROOT))


def test_the_page_on_experiments_names_each_of_them_every_fault_and_who_plays_another_ones():
    page = (ROOT / "experiments/README.md").read_text()
    experiments = {path.stem for path in (ROOT / "experiments").rglob("*.yaml")}
    assert {name for name in experiments if f"{name}.yaml`" not in page} == set()
    faults = get_args(FaultSpec)
    kinds = {fault.__struct_config__.tag for fault in faults}
    fields = {field for fault in faults for field in fault.__struct_fields__}
    assert set(re.findall(r"^\| `\{kind: ([a-z-]+)", page, re.MULTILINE)) == kinds
    assert {name for name in fields if f"{name}: " not in page and f"`{name}`" not in page} == set()
    played = {
        name: Path(found.file).stem if (found := read_scenario(ROOT, name).experiment) else ""
        for name in list_scenarios(ROOT)
    }
    others = {(name, stem) for name, stem in played.items() if stem not in {name, ""}}
    assert set(re.findall(r"`([a-z-]+)` plays `([a-z-]+)`", page)) == others


def test_the_page_on_experiments_names_every_component_that_may_be_a_target():
    components = get_args(get_type_hints(Target)["component"])
    page = (ROOT / "experiments/README.md").read_text()
    assert {name for name in components if f"`{name}`" not in page} == set()


@pytest.mark.parametrize(("page", "written"), [("README.md", "`{}`"), ("scenarios/README.md", "{}.yaml`")])
def test_both_pages_on_scenarios_name_each_of_them(page: str, written: str):
    text = (ROOT / page).read_text()
    assert {name for name in list_scenarios(ROOT) if written.format(name) not in text} == set()


def test_the_page_on_scenarios_names_all_that_can_be_set():
    page = (ROOT / "scenarios/README.md").read_text()
    assert {room for room in override._ROOMS if f"`{room}." not in page} == set()


def test_nothing_is_left_to_be_done_later():
    assert lines_with(UNFINISHED, *CODE_FOLDERS, *DATA_FOLDERS) == []
    assert UNFINISHED.search("x = 1  # TODO: y")
    assert UNFINISHED.search("raise NotImplementedError")


def test_no_package_index_is_written_down():
    assert lines_with(re.compile("://[a-z0-9]"), *BUILD_FILES) == []
    assert lines_with(INDEX_OPTION, *BUILD_FILES) == []
    assert INDEX_OPTION.search("--find-links folder")
    assert INDEX_OPTION.search("--index-url x")
    assert not (ROOT / "uv.lock").exists()  # it would hold addresses


def test_every_locked_package_has_a_hash():
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE | re.IGNORECASE)
    packages = [entry for entry in entries if "==" in entry]
    assert len(packages) > 50
    assert [entry.splitlines()[0] for entry in packages if "--hash=sha256:" not in entry] == []


def test_the_setup_installs_what_the_host_check_asks_for():
    setup = (ROOT / "setup/packages").read_text()
    packages = {*tools_needed(root=True, building=True).values(), *tools_needed(root=False, building=True).values()}
    assert {name for name in packages if f"need {name} " not in setup} == set()


def test_every_shell_file_is_checked():
    makefile = (ROOT / "Makefile").read_text()
    files = [path for path in files_below("setup", "src", ".ci", "services") if is_shell(path)]
    assert len(files) >= 6
    assert [path.name for path in files if str(path.relative_to(ROOT)) not in makefile] == []


def is_shell(path: Path) -> bool:
    """Whether a file is a shell's, by its name or its first line."""
    first = path.read_text().split("\n", 1)[0]
    return path.suffix == ".sh" or re.fullmatch(r"#!.*\b(ba)?sh( .*)?", first) is not None
