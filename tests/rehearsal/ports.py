"""Ports of this machine that lead to a container, as Docker publishes them, and back."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forward:
    """From an address and port to another."""

    host: str
    port: int
    to_host: str
    to_port: int


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _join(one: Forward, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        their_reader, their_writer = await asyncio.open_connection(one.to_host, one.to_port)
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(_pipe(reader, their_writer), _pipe(their_reader, writer))
    finally:
        writer.close()
        their_writer.close()


@asynccontextmanager
async def forwarding(forwards: Iterable[Forward]) -> AsyncIterator[None]:
    """Listens on every one for the block.

    Raises:
        OSError: an address is taken.
    """
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()
    for one in forwards:

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Forward = one
        ) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            with suppress(asyncio.CancelledError, OSError):
                await _join(to, reader, writer)

        servers.append(await asyncio.start_server(serve, one.host, one.port))
    try:
        yield
    finally:
        for server in servers:
            server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
