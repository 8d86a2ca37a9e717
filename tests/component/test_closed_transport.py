"""A server that ends while somebody writes to it: the loop closes the transport, and the writer hears of it last."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import uvloop
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from loadgen.direct_link import connection_to
from services.redis_node import Login, RedisNode

pytestmark = pytest.mark.component


async def of_the_direct_client(port: int) -> Connection:
    connection = connection_to(f"127.0.0.1:{port}", "")
    await connection.connect()  # type: ignore[no-untyped-call]
    return connection


async def of_a_service(port: int) -> Connection:
    node = RedisNode(("127.0.0.1", port), Login(name="", password=None))
    return await node.connect(asyncio.get_running_loop().time() + 5)


async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def written_to_a_closed_transport(made: Callable[[int], Awaitable[Connection]]) -> None:
    server = await asyncio.start_server(held, "127.0.0.1", 0)
    async with server:
        connection = await made(server.sockets[0].getsockname()[1])
        assert connection._writer
        connection._writer.transport.abort()  # what the loop does once the kernel has told it of a reset
        await asyncio.sleep(0)
        with pytest.raises(RedisConnectionError):
            await connection.send_packed_command(connection.pack_commands([("PING",)]), check_health=False)


@pytest.mark.parametrize("made", [of_the_direct_client, of_a_service])
def test_a_closed_transport_is_a_lost_connection(made: Callable[[int], Awaitable[Connection]]) -> None:
    uvloop.run(written_to_a_closed_transport(made))
