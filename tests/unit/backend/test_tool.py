"""What other programs print is handed on, whatever it is."""

import pytest

from resilience.backend.tool import output
from resilience.errors import StackError


def test_what_is_no_text_is_handed_on_as_far_as_it_is_one() -> None:
    assert output(["printf", r"a\377b"], timeout_s=5.0) == "a\ufffdb"
    with pytest.raises(StackError, match="failed: x\ufffd"):
        output(["sh", "-c", r"printf 'x\377' >&2; exit 1"], timeout_s=5.0)
