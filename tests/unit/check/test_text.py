"""Words for numbers."""

import pytest

from resilience.check.text import ended_text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-9, "was killed by SIGKILL"),
        (137, "was killed by SIGKILL"),
        (-15, "was killed by SIGTERM"),
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (255, "ended with exit code 255"),
        (None, "ended with exit code None"),
    ],
)
def test_how_a_process_ended(code: int | None, text: str) -> None:
    assert ended_text(code) == text
