from pathlib import Path

import pytest

from resilience.chaos.session import SESSION_ENV, open_session
from resilience.errors import FaultError


@pytest.mark.parametrize("text", [None, "{}", "nonsense"])
def test_no_session(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "session.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(FaultError, match="no session"):
        open_session({SESSION_ENV: str(file)})


def test_no_session_is_named() -> None:
    with pytest.raises(FaultError, match="resilience run"):
        open_session({})
