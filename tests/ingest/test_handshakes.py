"""TLS connections count, and end, before their handshake is over as they do afterwards."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ingest.sockets import Client, Listening, listening
from tests.live.certificates import Authority

CONNECTIONS_MAX = 20
BEGUN = bytes.fromhex("16030100c8010000c40303")
"""A ClientHello without its end."""
REQUEST = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Vouches for the door."""
    return Authority(tmp_path)


@pytest.fixture
async def door(authority: Authority) -> AsyncIterator[Listening]:
    """A front door with TLS, for few connections."""
    certificate, key = authority.issue("door")
    async with listening(
        tls_cert_file=certificate, tls_key_file=key, connections_max=CONNECTIONS_MAX,
        connections_per_client_max=CONNECTIONS_MAX, header_timeout_ms=1_000,
    ) as opened:  # fmt: skip
        yield opened


async def encrypted(door: Listening, authority: Authority) -> Client:
    """A connection whose handshake is over."""
    trusting = ssl.create_default_context(cafile=authority.certificate)
    return Client(*await asyncio.open_connection("127.0.0.1", door.port, ssl=trusting))


@pytest.mark.parametrize("said", [b"", BEGUN])
async def test_handshakes_that_do_not_end_give_way(
    door: Listening, authority: Authority, said: bytes
) -> None:
    """Many more than there are places: the eldest leave, and who asks something is answered."""
    begun = [await door.connect() for _ in range(3 * CONNECTIONS_MAX)]
    for client in begun:
        await client.send(said)
    asking = await encrypted(door, authority)
    await asking.send(REQUEST)
    assert await asking.answers(1) == [200]
    assert door.refused("displaced") >= 2 * CONNECTIONS_MAX
    assert await begun[0].rest() == b""
    for client in begun:
        client.writer.close()


async def test_a_handshake_ends_in_time(door: Listening) -> None:
    """With the time-out of headers, though nobody needs its place."""
    client = await door.connect()
    await client.send(BEGUN)
    assert await client.rest() == b""
    assert door.refused("displaced") == 0


@pytest.mark.parametrize("said", [REQUEST, b"\x16\x03\x01\x00\x02no", b"\0" * 100])
async def test_what_is_no_tls_ends(door: Listening, authority: Authority, said: bytes) -> None:
    """Without an answer in plain text, and others are served."""
    client = await door.connect()
    await client.send(said)
    assert not (await client.rest()).startswith(b"HTTP")
    asking = await encrypted(door, authority)
    await asking.send(REQUEST)
    assert await asking.answers(1) == [200]


async def test_places_come_free_again(door: Listening, authority: Authority) -> None:
    """Of handshakes that failed, of those whose client left, and of connections that ended."""
    for _ in range(2 * CONNECTIONS_MAX):
        (await door.connect()).writer.close()
        failed = await door.connect()
        await failed.send(b"no TLS")
        await failed.rest()
        asking = await encrypted(door, authority)
        await asking.send(REQUEST)
        assert await asking.answers(1) == [200]
        asking.writer.close()
    assert door.refused("displaced") == door.refused("too_many") == 0
