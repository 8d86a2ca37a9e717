"""Steps that end in time, or are left to themselves."""

import asyncio

import pytest

from services.database import LOGINS_MAX, Database, DatabaseError, NotConnectedError, by


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


async def test_a_burst_does_not_become_a_burst_of_logins():
    """Here to a PgBouncer that is too busy to answer: each login that is begun makes it busier."""
    begun: list[asyncio.StreamWriter] = []

    async def never_answers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)

    async def ask(database: Database) -> None:
        async with database.connection(asyncio.get_running_loop().time() + 0.3):
            pass

    async with await asyncio.start_server(never_answers, "127.0.0.1") as server:
        database = Database([f"127.0.0.1:{server.sockets[0].getsockname()[1]}"], user="u", password="p")
        ends = await asyncio.gather(*(ask(database) for _ in range(50)), return_exceptions=True)
        assert {str(end) for end in ends} == {"timeout"}
        assert all(isinstance(end, NotConnectedError) for end in ends)
        # those that nobody waits for any more may have run out of time, and may not have been followed by others
        assert 1 <= len(begun) <= LOGINS_MAX
        await database.close()
        for writer in begun:
            writer.close()
