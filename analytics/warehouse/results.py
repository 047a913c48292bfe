"""Metadata of a result: its summary, and the header of an empty one."""

import json
import re
from typing import Any

_FORMAT_CLAUSE = re.compile(r"\sFORMAT \w+\s*;?\s*\Z", re.IGNORECASE)


def figures(result: Any) -> dict[str, str]:
    """As ``X-ClickHouse-Summary`` names them; older engines do not tell what was written."""
    told = {
        "read_rows": "rows_read",
        "read_bytes": "bytes_read",
        "written_rows": "rows_written",
        "written_bytes": "bytes_written",
    }
    return {
        name: str(getattr(result, source)())
        for name, source in told.items()
        if hasattr(result, source)
    }


def empty_native(handle: Any, sql: str, parameters: dict[str, str] | None) -> bytes:
    """The header of a Native result without rows: a server sends it, chDB does not.

    Clients take the names of columns from it. ``sql`` that is no query has none. A clause
    ``FORMAT`` at its end does not belong inside the brackets.
    """
    try:
        described = handle.query(
            f"DESCRIBE TABLE ({_FORMAT_CLAUSE.sub('', sql)})",
            "JSONCompactEachRow",
            params=parameters,
        )
    except Exception:  # not a SELECT: there is nothing to describe
        return b""
    columns = [json.loads(line) for line in bytes(described.bytes() or b"").splitlines()]
    block = length_bytes(len(columns)) + length_bytes(0)
    for text in (text for column in columns for text in column[:2]):  # name, type
        encoded = str(text).encode()
        block += length_bytes(len(encoded)) + encoded
    return block


def length_bytes(number: int) -> bytes:
    """A length as ClickHouse's Native format writes it: seven bits a byte, low bits first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
