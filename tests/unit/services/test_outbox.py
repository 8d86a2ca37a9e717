"""When the mover of the outbox looks again."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from services import mover
from services.broker import Broker
from services.database import Database
from services.metric import OutboxMetrics
from services.mover import Mover
from services.outbox import rows_of


class Moved(Mover):
    """A mover whose broker stands, and which finds nothing; ``writes``: whether a row is written during each look."""

    def __init__(self, writes: list[bool]) -> None:
        database = Database(("198.18.0.5:6432",), user="harmonyflow", password="secret")
        broker = Broker(("198.18.0.6:5672",), user="harmonyflow", password="secret")
        super().__init__(rows_of("session-events"), database, broker, OutboxMetrics(CollectorRegistry()))
        broker._channel = object()
        self._writes = iter(writes)
        self.looks = 0

    async def _move(self) -> int:
        self.looks += 1
        if next(self._writes, False):
            self.wake()
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
    writes: list[bool], looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def there(*_: object) -> None: ...

    monkeypatch.setattr(mover, "make_tables", there)

    async def looked() -> int:
        moved = Moved(writes)
        moving = asyncio.create_task(moved._move_on())
        for _ in range(50):  # turns of the loop, which take no time: far less than another instance's rows may wait
            await asyncio.sleep(0)
        moving.cancel()
        return moved.looks

    assert asyncio.run(looked()) == looks
