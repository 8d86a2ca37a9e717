"""Whatever values stand in a file: the reader gives a record or a `SpecError` of one line, and never anything else."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience.errors import SpecError
from resilience.report.text import visible, xml_text
from resilience.spec.document import documents_from_text
from resilience.spec.read import read_scenario, read_stack, read_suites
from resilience.spec.selector import selector_from_text
from tests.malformed.conftest import ROOT

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def read(project: Path, file: str) -> object:
    if file.endswith("suites.yaml"):
        return read_suites(project)
    return read_stack(project, file) if file.startswith("stacks") else read_scenario(project, "redis-failover")


def refusal(call: Callable[[], object], kind: type[Exception] = SpecError) -> str:
    """What a call says that refuses what it was given; "" if it takes it."""
    try:
        call()
    except kind as error:
        return str(error)
    return ""


def one_line_or_record(project: Path, file: str, text: str) -> None:
    (project / file).write_text(text, encoding="utf-8", errors="surrogatepass")
    said = refusal(lambda: read(project, file))
    assert said.isprintable()
    assert len(said) < 500


FILES = (
    "scenarios/redis/redis-failover.yaml",
    "stacks/local/harmonyflow.yaml",
    "experiments/redis/redis-failover.yaml",
    "scenarios/slo/redis-failover-fault.yaml",
    "scenarios/suites.yaml",
)


@pytest.mark.parametrize("file", FILES)
@given(data=st.data())
@QUICK
def test_any_value_of_any_field(project: Path, file: str, data: st.DataObject) -> None:
    document: Any = next(yaml.load_all((ROOT / file).read_bytes(), Loader=yaml.CSafeLoader))
    field = data.draw(st.sampled_from(sorted(document)))
    document[field] = data.draw(VALUES)
    one_line_or_record(project, file, yaml.dump(document, Dumper=yaml.CSafeDumper))


@pytest.mark.parametrize("file", FILES)
@given(text=st.text(max_size=300))
@QUICK
def test_any_text(project: Path, file: str, text: str) -> None:
    one_line_or_record(project, file, text)


@given(text=st.text(max_size=200) | st.text(alphabet="{}[]:,-!&*|>'\"#%@` \nab01.", max_size=60))
@QUICK
def test_any_text_is_values_or_one_line(text: str) -> None:
    assert refusal(lambda: documents_from_text(text, "file")).isprintable()


@given(text=st.text(max_size=80) | st.text(alphabet='ab{}="~!,()[]*+?\\ \n', max_size=40))
@QUICK
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    assert len(refusal(lambda: selector_from_text(text), ValueError)) < 400


@given(text=st.text(alphabet=st.characters(), max_size=200))
@QUICK
def test_what_is_shown_holds_nothing_that_controls(text: str) -> None:
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not [character for character in visible(text) if unicodedata.category(character) in hidden]
    assert not any(ord(character) < 32 and character not in "\t\n\r" for character in xml_text(text))
