"""When the relay of the outbox looks again."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.config import Outbox
from services.outbox import SessionEvents


class Relayed(SessionEvents):
    """A relay whose broker stands, and which finds nothing; ``writes``: whether a row is written during each look."""

    def __init__(self, password: Path, writes: list[bool]) -> None:
        settings = Outbox(
            postgresql=("198.18.0.5:6432",),
            postgresql_password_file=str(password),
            rabbitmq=("198.18.0.6:5672",),
            rabbitmq_password_file=str(password),
        )
        super().__init__(settings, CollectorRegistry())
        self._broker._channel = object()
        self._writes = iter(writes)
        self.looks = 0

    async def _make_table(self) -> None: ...

    async def _move(self) -> int:
        self.looks += 1
        if next(self._writes, False):
            self._written.set()
        return 0


@pytest.mark.parametrize(
    ("writes", "looks"),
    [
        ([], 1),
        ([True], 2),  # what was written while it looked is not left until others' rows are looked for
        ([True, True], 3),  # once for each look, however often it goes wrong: a store that is away is not asked more
        ([False, True], 1),
    ],
)
def test_a_row_that_is_written_during_a_look_is_looked_for_at_once(
    writes: list[bool], looks: int, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret")

    async def looked() -> int:
        relayed = Relayed(tmp_path / "password", writes)
        relaying = asyncio.create_task(relayed._relay_on())
        for _ in range(50):  # turns of the loop, which take no time: far less than another instance's rows may wait
            await asyncio.sleep(0)
        relaying.cancel()
        return relayed.looks

    assert asyncio.run(looked()) == looks
