"""A stack with the personalization service reads, or is refused with the field that keeps it from working."""

from pathlib import Path

import pytest
import yaml

from resilience.errors import SpecError
from resilience.spec.rabbitmq import QUEUES
from resilience.spec.read import read_scenario, read_stack
from resilience.spec.stack import Personalization

ROOT = Path(__file__).resolve().parents[3]
FILE = "stacks/local/personalization.yaml"
OWN = "personalization:\n  staleness_bound_s: 2.0"


def changed(folder: Path, old: str, new: str) -> Path:
    """A project with the shipped stack, in which something is another."""
    text = (ROOT / FILE).read_text()
    assert old in text
    path = folder / FILE
    path.parent.mkdir(parents=True)
    path.write_text(text.replace(old, new))
    return folder


def test_the_load_leaves_the_queue_to_the_service_that_consumes_it() -> None:
    stack = read_stack(ROOT, FILE)
    assert stack.personalization == Personalization(staleness_bound_s=2.0)
    assert stack.program("personalization") == "services.personalization"
    assert set(QUEUES) - set(stack.load_queues) == {"session-events"}
    assert read_stack(ROOT, "stacks/local/whole.yaml").load_queues == QUEUES


def test_it_is_the_whole_platform_and_the_service_beside_it() -> None:
    with_it, without = (yaml.safe_load((ROOT / f"stacks/local/{name}.yaml").read_text())
                        for name in ("personalization", "whole"))  # fmt: skip
    with_it.pop("personalization")
    with_it["members"] = [one for one in with_it["members"] if one["component"] != "personalization"]
    assert with_it == without


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (OWN, "", "personalization: is missing: the stack has members of personalization"),
        ("component: personalization", "component: session", "members: expected at least one personalization"),
        ("staleness_bound_s: 2.0", "staleness_bound_s: 0.1", "personalization.staleness_bound_s: expected"),
        ("staleness_bound_s: 2.0", "program: other.one", "personalization.program: expected a module of this project"),
    ],
)
def test_what_could_not_work_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_stack(changed(tmp_path, old, new), FILE)
    assert says in str(caught.value)


def test_nobody_is_asked_where_there_is_no_such_service() -> None:
    with pytest.raises(SpecError, match="personalization_rate_ops_per_s: expected none"):
        read_scenario(ROOT, "session-events-baseline", overrides=["load.personalization_rate_ops_per_s=5"])


def test_it_needs_both_stores(tmp_path: Path) -> None:
    text = yaml.safe_load((ROOT / FILE).read_text())
    del text["rabbitmq"]
    text["members"] = [one for one in text["members"] if not one["component"].startswith("rabbitmq")]
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(text))
    with pytest.raises(SpecError, match="rabbitmq: is missing: personalization has its profiles"):
        read_stack(tmp_path, FILE)
