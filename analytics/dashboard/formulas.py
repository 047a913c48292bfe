"""Text that a spreadsheet would run as a formula, made harmless: an apostrophe before it.

Invariants: pure; a text that is no formula is not changed. Names of campaigns, diagnostics and user
agents are whatever somebody outside wrote.

Source: OWASP, «CSV Injection».
"""

from collections.abc import AsyncIterator

BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of what a spreadsheet does not take for text."""
_BEGINS = tuple(begin.encode() for begin in BEGINS)


def harmless(text: str) -> str:
    """A cell's text, as a spreadsheet takes it for text."""
    return f"'{text}" if text.startswith(BEGINS) else text


async def without_formulas(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A CSV of ClickHouse's with every text harmless.

    ClickHouse puts each text, and nothing that is a number, between double quotes, and doubles
    those inside it.

    Args:
        pieces: of the CSV, cut at any byte.
    """
    inside = begins = touches = False  # in a text; at its first byte; right behind one's end
    async for piece in pieces:
        told = bytearray()
        for number, part in enumerate(piece.split(b'"')):
            if number:
                told += b'"'
                inside, begins, touches = not inside, not inside and not touches, inside
            if part:
                if inside and begins and part.startswith(_BEGINS):
                    told += b"'"
                told += part
                begins = touches = False
        yield bytes(told)
