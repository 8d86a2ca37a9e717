"""What a member sends, and the end of its connection."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientConnectionResetError

from services.collaboration import frames_of


async def frames(end: Exception | None) -> AsyncIterator[str]:
    yield "join"
    yield "edit"
    if end:
        raise end


@pytest.mark.parametrize(
    "end", [None, ClientConnectionResetError("Cannot write to closing transport")], ids=["closed", "lost at a ping"]
)
async def test_a_connection_that_is_lost_is_over_and_no_error(end: Exception | None) -> None:
    assert [frame async for frame in frames_of(frames(end))] == ["join", "edit"]


async def test_what_is_wrong_with_the_service_is_an_error() -> None:
    with pytest.raises(KeyError):
        assert [frame async for frame in frames_of(frames(KeyError("room")))]
