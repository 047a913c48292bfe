"""ClickHouse's compressed frames: checksum checked against another implementation, and decoding."""

import struct
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.door.frames import FRAME_BYTES_MAX, HEADER_BYTES, city_hash_128, compressed
from tests.warehouses import open_warehouse

# made with go-faster/city, whose CH128 clickhouse-go checks frames with; low half, then high
VECTORS = {
    0: "3df09dfc64c09a2b3cb540c392e51e29",
    1: "39379490ccb55d552af2b13064cd571f",
    3: "fd9d1a3499e191d0f293863f095e1a1d",
    4: "f6d63d85ae3e216496759aa1d4d03ff6",
    7: "b68bce11e3957ff310f50be45949533e",
    8: "1710569b22fc54335fc0af59c28d2682",
    9: "c36b40ef4d65790b1160f4406cacf049",
    15: "5bee5bdbf9acf94ada64432e0a9a30d8",
    16: "cb67264b0b0c1390bc99c7b5b7bdff30",
    17: "cc4a2622d7217b449760736cbfb3b68b",
    24: "483a73edb3e22cf0f5679c1e915124ca",
    25: "47c66692e6dc52240a41918947316278",
    31: "578f24604715c13f56295dc24d21015c",
    32: "307065a359b93ebccd881c54f1000231",
    33: "a655117b50743503f75fa24c621d36ab",
    48: "32dbf754b77a6d0e38ec863f53f9ad29",
    100: "7d325b79b190d5fd6bd702ca81a05597",
    127: "c24766c822b0aa919ed825475b4f1b49",
    128: "d3ce44f443a4976a2cd6c1f73f535b4a",
    143: "c4a7d87a6f64cd226281f6bcf0d41363",
    144: "bb52d1eaebc777d504ace1bc32086341",
    145: "d7f1a0b196d4a030a878671a0ff2fe7c",
    175: "71aab8ab32eb24d2415c90b1c0251bdc",
    176: "61b176dd7b235bcb6d1bff464bec429a",
    200: "7a9413a2feb66564e599fe356b99002f",
    271: "71502f6c19550efba1158e52c7f95118",
    272: "78ad589c5fd79441fbe414f78683f0f5",
    273: "be6c37748d081fc6e7b84ffd8a8764bb",
    1000: "fa552e6539b13a03cf1cd14e391ad1bc",
    5000: "73068ef5ca3b13a07643b5f3e7344095",
}  # fmt: skip


def sample(size: int) -> bytes:
    """Bytes without a short period."""
    return bytes((at * at + 7 * at + 3) % 251 for at in range(size))


@pytest.mark.parametrize("size", VECTORS)
def test_checksum_is_the_one_that_clients_check(size: int) -> None:
    """Every branch of the algorithm: each length class, and remainders of every kind."""
    low, high = struct.unpack("<QQ", city_hash_128(sample(size)))
    assert f"{low:016x}{high:016x}" == VECTORS[size]


def unframed(content: bytes) -> bytes:
    """Decodes frames as a client does.

    Raises:
        AssertionError: a frame is not as ClickHouse documents it.
    """
    plain = bytearray()
    while content:
        checksum, (method, size, plain_size) = content[:16], struct.unpack_from("<BII", content, 16)
        frame, content = content[16 : 16 + size], content[16 + size :]
        assert checksum == city_hash_128(frame)
        assert method == 0x82
        assert plain_size <= FRAME_BYTES_MAX
        plain += lz4.block.decompress(frame[HEADER_BYTES:], uncompressed_size=plain_size)
    return bytes(plain)


@given(st.binary(max_size=3_000))
def test_frames_hold_what_was_put_in(content: bytes) -> None:
    """Any bytes are restored; an empty result is no frame at all."""
    assert unframed(compressed(content)) == content


def test_large_results_are_several_frames() -> None:
    """No frame is larger than ClickHouse's own; the last may be small."""
    content = sample(2 * FRAME_BYTES_MAX + 5)
    assert unframed(compressed(content)) == content


def test_door_frames_results_for_compress_1(tmp_path: Path) -> None:
    """In any format; an error stays readable; a framed request body is refused with a message."""
    with open_warehouse(tmp_path) as door:

        def ask(**parameters: str) -> bytes:
            url = f"{door.url}/?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bytes(answer.read())

        sql = "SELECT number, toString(number) FROM numbers(1000)"
        for fmt in ("Native", "JSON", "CSV"):
            framed = ask(query=f"{sql} FORMAT {fmt}", compress="1")
            if fmt == "JSON":  # it tells its own duration
                assert unframed(framed).endswith(b"}\n")
            else:
                assert unframed(framed) == ask(query=f"{sql} FORMAT {fmt}")
        for parameters, word in (
            ({"query": "SELECT * FROM nowhere", "compress": "1"}, b"UNKNOWN_TABLE"),
            ({"query": "SELECT 1", "decompress": "1"}, b"NOT_IMPLEMENTED"),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                ask(**parameters)
            assert word in caught.value.read()
