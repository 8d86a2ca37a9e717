"""The check and the test that ``docs/adding-a-check.md`` shows are ones that somebody can begin with."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs/adding-a-check.md"


def test_the_documents_check_passes_the_documents_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check, test = re.findall(r'```python\n(""".*?)```', DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.setitem(sys.modules, "resilience.check.restart", module("check", check))
    module("test", test).test_a_restart_without_a_reason(tmp_path)


def module(name: str, text: str) -> ModuleType:
    made = ModuleType(name)
    exec(text, made.__dict__)
    return made
