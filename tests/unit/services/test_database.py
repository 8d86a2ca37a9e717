"""Steps that end in time, or are left to themselves."""

import asyncio

import pytest

from services.database import Database, DatabaseError, NotConnectedError, by


async def test_a_step_in_time_gives_what_it_gives():
    async def step() -> int:
        return 7

    assert await by(asyncio.get_running_loop().time() + 5, step()) == 7


async def test_a_step_that_takes_too_long_is_broken_off_and_not_waited_for():
    """Its own end may take its time: a server is asked to break off, and need not answer."""
    told, goes_on = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            await goes_on.wait()
            raise

    with pytest.raises(DatabaseError, match="timeout"):
        await by(asyncio.get_running_loop().time() + 0.001, step())
    await told.wait()
    goes_on.set()


async def test_an_error_is_the_steps_own():
    async def step() -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        await by(asyncio.get_running_loop().time() + 5, step())


async def test_where_nobody_is_reached_nothing_was_asked():
    """Port 1 refuses; whoever is told so knows that nothing was done."""
    database = Database(["127.0.0.1:1"], user="u", password="p")
    with pytest.raises(NotConnectedError):
        async with database.connection(asyncio.get_running_loop().time() + 5):
            pass
