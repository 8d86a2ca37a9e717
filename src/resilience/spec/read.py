"""The only reader of the user's files: scenarios, and the stacks, experiments and SLOs that they name.

A record that comes out of here is whole and coherent: no other file is read afterwards, and nothing has been started
when a `SpecError` says, in one line, which file and field to mend. Names of checks are looked up by the runner, which
knows them. Paths inside files are relative to the project's root and stay below it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, UnsetType
from msgspec.structs import replace

from resilience.errors import SpecError
from resilience.spec.blast import BlastRadius
from resilience.spec.coherence import check_bounds, check_scenario, check_stack
from resilience.spec.convert import did_you_mean, record_from, refuse, show, show_name
from resilience.spec.document import read_document
from resilience.spec.experiment import experiment_from_file
from resilience.spec.load import Load
from resilience.spec.openslo import slos_from_file
from resilience.spec.override import overridden
from resilience.spec.record import Record
from resilience.spec.scenario import Experiment, Scenario, Timeline
from resilience.spec.slo import Slo
from resilience.spec.stack import Programs, Stack
from resilience.spec.suite import Setting, Suite, SuiteRun, overrides_of
from resilience.spec.weakness import KnownWeakness

SCENARIOS = "scenarios"
SUITES = "scenarios/suites.yaml"
_SUITES_MAX = 100
_NO_SCENARIOS = frozenset({"slo", "suites.yaml"})  # below SCENARIOS
_NAME = r"^[a-z][a-z0-9-]{0,62}\Z"

Text = Annotated[str, Meta(min_length=1, max_length=10_000)]
FilePath = Annotated[str, Meta(min_length=1, max_length=500)]


class _ScenarioFile(Record, frozen=True, kw_only=True):
    """A scenario's own file; ``checks`` absent means all, ``set`` changes fields of its stack (`spec.override`)."""

    title: Text
    description: Text
    stack: FilePath
    timeline: Timeline
    slos: Annotated[tuple[FilePath, ...], Meta(min_length=1, max_length=50)]
    load: Load = msgspec.field(default_factory=Load)
    experiment: FilePath | None = None
    checks: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=50)] | UnsetType = msgspec.UNSET
    seed: int = 1
    blast_radius: BlastRadius | None = None
    known_weaknesses: Annotated[tuple[KnownWeakness, ...], Meta(max_length=50)] = ()
    set: Annotated[dict[Text, Setting], Meta(max_length=50)] = msgspec.field(default_factory=dict)


class _SuiteEntry(Record, frozen=True, kw_only=True):
    """A suite in the file of suites: its own runs, or the names of others whose runs are its own, in their order."""

    title: Text
    runs: Annotated[tuple[SuiteRun, ...], Meta(min_length=1, max_length=500)] | UnsetType = msgspec.UNSET
    suites: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=20)] | UnsetType = msgspec.UNSET


def read_scenario(root: Path, name_or_path: str, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of that name, or of the file at that path, with ``overrides`` made (`spec.override`).

    ``root`` is the project's root. ``checks`` of the result is empty where the file asks for all. Raises `SpecError`.
    """
    path = _scenario_path(root, name_or_path)
    label = _label(root, path)
    file = record_from(read_document(path, label), _ScenarioFile, label)
    if not _is_name(path.stem):
        raise refuse(label, "the file's name", "expected lower-case letters, digits and dashes", path.stem)
    scenario = Scenario(
        name=path.stem,
        title=file.title,
        description=file.description,
        stack=_stack(root, file.stack, label),
        load=file.load,
        timeline=file.timeline,
        experiment=None if file.experiment is None else _experiment(root, file.experiment, label),
        slos=_slos(root, file.slos, label),
        checks=() if isinstance(file.checks, UnsetType) else file.checks,
        seed=file.seed,
        blast_radius=file.blast_radius,
        known_weaknesses=file.known_weaknesses,
        file=label,
    )
    scenario = _checked(root, overridden(scenario, overrides_of(file.set), label), label)
    return _with_overrides(root, scenario, overrides)


def read_stack(root: Path, path: str | Path) -> Stack:
    """The stack of a file; its name is the file's. Raises `SpecError`."""
    file = root / path
    label = _label(root, file)
    value = read_document(file, label)
    if isinstance(value, dict):
        if "name" in value:
            raise refuse(label, "name", "unknown field: a stack's name is its file's")
        value = {"name": file.stem, **value}
    stack = record_from(value, Stack, label)
    _check_stack(root, stack, label)
    return stack


def read_suite(root: Path, name: str) -> Suite:
    """A suite of ``scenarios/suites.yaml``, with every one of its scenarios read. Raises `SpecError`."""
    entries = _suite_entries(root)
    if name not in entries:
        raise SpecError(f"{SUITES}: there is no suite {show(name)}{did_you_mean(name, set(entries))}")
    return _suite(root, name, entries, cache(partial(read_scenario, root)))


def read_suites(root: Path) -> tuple[Suite, ...]:
    """All suites, in the order of the file. Raises `SpecError`."""
    read, entries = cache(partial(read_scenario, root)), _suite_entries(root)  # many suites run the same few scenarios
    return tuple(_suite(root, name, entries, read) for name in entries)


def _suite(root: Path, name: str, entries: Mapping[str, _SuiteEntry], read: Callable[[str], Scenario]) -> Suite:
    entry = entries[name]
    if not isinstance(entry.suites, UnsetType):
        parts = [_suite(root, part, entries, read) for part in entry.suites]
        runs = tuple(run for part in parts for run in part.runs)
        return Suite(
            name=name, title=entry.title, runs=runs, scenarios=tuple(s for part in parts for s in part.scenarios)
        )
    runs = () if isinstance(entry.runs, UnsetType) else entry.runs
    for index, run in enumerate(runs):
        check_bounds(run.expect.measures, SUITES, f"{name}.runs[{index}].expect.measures")
    scenarios = tuple(_of_suite(root, run, f"{name}.runs[{index}]", read) for index, run in enumerate(runs))
    return Suite(name=name, title=entry.title, runs=runs, scenarios=scenarios)


def _of_suite(root: Path, run: SuiteRun, field: str, read: Callable[[str], Scenario]) -> Scenario:
    try:
        return _with_overrides(root, read(run.scenario), run.overrides)
    except SpecError as error:
        raise SpecError(f"{SUITES}: {field}: {error}") from error


def _suite_entries(root: Path) -> dict[str, _SuiteEntry]:
    value = read_document(root / SUITES, SUITES)
    if not isinstance(value, dict):
        raise refuse(SUITES, "", "expected suites by their names", value)
    if len(value) > _SUITES_MAX:
        raise refuse(SUITES, "", f"expected at most {_SUITES_MAX} suites (got {len(value)})")
    for name in value:
        if not _is_name(name):  # it becomes a folder's
            raise refuse(SUITES, name, "expected a name of lower-case letters, digits and dashes")
    entries = {name: record_from(entry, _SuiteEntry, SUITES, f".{name}") for name, entry in value.items()}
    for name, entry in entries.items():
        _check_suite(name, entry, entries)
    return entries


def _check_suite(name: str, entry: _SuiteEntry, entries: Mapping[str, _SuiteEntry]) -> None:
    """A suite has runs, or suites that have: none within another within another."""
    if isinstance(entry.runs, UnsetType) == isinstance(entry.suites, UnsetType):
        raise refuse(SUITES, name, "expected either runs, or suites whose runs are its own")
    parts = () if isinstance(entry.suites, UnsetType) else entry.suites
    for index, part in enumerate(parts):
        field = f"{name}.suites[{index}]"
        if part not in entries:
            raise refuse(SUITES, field, f"there is no suite {show(part)}{did_you_mean(part, set(entries))}")
        if isinstance(entries[part].runs, UnsetType):
            raise refuse(SUITES, field, f"expected one that has runs of its own (got {part})")
        if part in parts[:index]:
            raise refuse(SUITES, field, f"expected every suite once (got {part} again)")


def read_slos(root: Path, path: str | Path) -> tuple[Slo, ...]:
    """The SLOs of an OpenSLO file. Raises `SpecError`."""
    return slos_from_file(root / path, _label(root, root / path))


def list_scenarios(root: Path) -> tuple[str, ...]:
    """The names of a project's scenarios, in alphabetical order; their files are not read."""
    return tuple(path.stem for path in _scenario_files(root))


def _scenario_files(root: Path) -> list[Path]:
    folder = root / SCENARIOS
    files = (path for path in folder.rglob("*.yaml") if path.relative_to(folder).parts[0] not in _NO_SCENARIOS)
    return sorted(files, key=lambda path: (path.stem, path))


def _scenario_path(root: Path, name_or_path: str) -> Path:
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return _user_path(root, name_or_path)
    files = _scenario_files(root)
    found = [path for path in files if path.stem == name_or_path]
    if not found:
        known = {path.stem for path in files}
        raise SpecError(f"scenario {show(name_or_path)}: there is none of that name{did_you_mean(name_or_path, known)}")
    if len(found) > 1:
        places = ", ".join(_label(root, path) for path in found)
        raise SpecError(f"scenario {show(name_or_path)}: the name stands twice: {places}")
    return found[0]


def _user_path(root: Path, path: str) -> Path:
    """A path from the command line: as a person types it, else below the root."""
    given = Path(path)
    return given if given.is_absolute() or _there(given.exists) else root / given


def _there(look: Callable[[], bool]) -> bool:
    """What a look at a path says; a path that cannot even be looked at, such as an endless one, is none."""
    try:
        return look()
    except OSError:
        return False


def _is_name(text: str) -> bool:
    try:
        msgspec.convert(text, Annotated[str, Meta(pattern=_NAME)])
    except msgspec.ValidationError:
        return False
    return True


def _label(root: Path, path: Path) -> str:
    """What messages call a file: its path below the root where it is below, and always one line."""
    whole = path.absolute()
    shown = whole.relative_to(root.absolute()) if whole.is_relative_to(root.absolute()) else path
    return show_name(str(shown))


def _below(root: Path, name: str, label: str, field: str) -> Path:
    """The file that a field names. Raises `SpecError` if it leads out of the project."""
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        raise refuse(label, field, "expected a path that can be followed", name) from error
    if Path(name).is_absolute() or not path.is_relative_to(root.resolve()):
        raise refuse(label, field, "expected a path below the project's root", name)
    if not _there(path.is_file):
        raise refuse(label, field, "expected a file that exists", name)
    return Path(name)


def _stack(root: Path, name: str, label: str) -> Stack:
    return read_stack(root, _below(root, name, label, "stack"))


def _checked(root: Path, scenario: Scenario, label: str) -> Scenario:
    """The scenario, found coherent, on a stack that has a member for each process of its load."""
    scenario = replace(scenario, stack=scenario.stack.with_workers(scenario.load.processes))
    _check_stack(root, scenario.stack, label, scenario.load.processes)
    check_scenario(scenario, label)
    return scenario


def _check_stack(root: Path, stack: Stack, label: str, workers: int = 1) -> None:
    """Its parts fit together, and the programs that it names are files of the project: no other code is ever run."""
    check_stack(stack, label, workers)
    named = {f"programs.{name}": module for name, module in msgspec.structs.asdict(stack.programs).items()}
    ours = {f"programs.{name}": module for name, module in msgspec.structs.asdict(Programs()).items()}
    for name, service in (("personalization", stack.personalization), ("content", stack.content)):
        if service is not None:
            named[f"{name}.program"], ours[f"{name}.program"] = service.program, type(service)().program
    for field, module in named.items():
        if module != ours[field] and not (root / module.replace(".", "/")).with_suffix(".py").is_file():
            raise refuse(label, field, "expected a module of this project", module)


def _experiment(root: Path, name: str, label: str) -> Experiment:
    path = root / _below(root, name, label, "experiment")
    return experiment_from_file(path, _label(root, path))


def _slos(root: Path, names: Iterable[str], label: str) -> tuple[Slo, ...]:
    found: list[Slo] = []
    for index, name in enumerate(names):
        found += read_slos(root, _below(root, name, label, f"slos[{index}]"))
    return tuple(found)


def _with_overrides(root: Path, scenario: Scenario, overrides: Sequence[str]) -> Scenario:
    if not overrides:
        return scenario
    label = show_name(f"{scenario.file} with {', '.join(overrides)}")
    return _checked(root, overridden(scenario, overrides), label)
