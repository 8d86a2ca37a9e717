from pathlib import Path

import msgspec
import pytest

from resilience.chaos.session import SESSION_ENV, SessionFile, open_session
from resilience.errors import FaultError
from tests.unit.chaos.stand import SCENARIO


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


def test_unknown_backend(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode({"scenario": SCENARIO}))
    file = SessionFile(run_dir=str(tmp_path), state_dir=str(tmp_path), base_ns=0, backend="mainframe")
    path = tmp_path / "session.json"
    path.write_bytes(msgspec.json.encode(file))
    with pytest.raises(FaultError, match=r"backend: expected one of local.* \(got 'mainframe'\)"):
        open_session({SESSION_ENV: str(path)})
