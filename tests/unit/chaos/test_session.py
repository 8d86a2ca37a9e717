from pathlib import Path

import pytest
from chaoslib.exceptions import ActivityFailed

from resilience.chaos import actions, probes
from resilience.chaos.session import SESSION_ENV, open_session
from resilience.errors import FaultError


@pytest.mark.parametrize("text", [None, "{}", "nonsense"])
def test_no_session(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "session.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(FaultError, match="no session"):
        open_session({SESSION_ENV: str(file)})


def test_experiments_are_not_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FaultError, match="resilience run"):
        open_session({})
    monkeypatch.delenv(SESSION_ENV, raising=False)
    with pytest.raises(ActivityFailed, match="resilience run"):
        actions.heal()
    with pytest.raises(ActivityFailed, match="resilience run"):
        probes.members_running()
