"""Content decoding within limits, and the shape of JSON against a parser's own count."""

import contextlib
import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import body as body_module
from ingest.body import BodyLimits, Refused, check_shape, content_coding, decode_content

LIMITS = BodyLimits(
    decompressed_bytes_max=1_000_000,
    decompression_ratio_max=100,
    json_depth_max=8,
    json_values_max=10_000,
)


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the zlib header, as many senders mean it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, list[Callable[[bytes], bytes]]] = {
    "gzip": [gzip.compress],
    "deflate": [zlib.compress, raw_deflate],
    "br": [brotli.compress],
}
CASES = [(coding, packer) for coding, packers in PACKERS.items() for packer in packers]


@pytest.mark.parametrize(("coding", "packer"), CASES)
@given(data=st.binary(max_size=3_000))
def test_what_was_packed_comes_out(
    coding: str, packer: Callable[[bytes], bytes], data: bytes
) -> None:
    """For every coding, in any case of its name."""
    assert decode_content(packer(data), content_coding(coding.upper()), LIMITS) == data


@pytest.mark.parametrize(("coding", "packer"), CASES)
@given(data=st.binary(min_size=1, max_size=300), cut=st.integers(1, 400))
def test_what_is_cut_short_is_refused(
    coding: str, packer: Callable[[bytes], bytes], data: bytes, cut: int
) -> None:
    """However much is missing; what is there is not believed."""
    packed = packer(data)
    with pytest.raises(Refused) as refused:
        decode_content(packed[: -min(cut, len(packed))], coding, LIMITS)
    assert refused.value.status == 400


@pytest.mark.parametrize(("coding", "packer"), CASES)
def test_bytes_behind_the_end_are_refused(coding: str, packer: Callable[[bytes], bytes]) -> None:
    """They would be a second reading of the same body."""
    with pytest.raises(Refused, match="content_broken"):
        decode_content(packer(b"[1,2]") + b"x", coding, LIMITS)


@pytest.mark.parametrize(("coding", "packer"), CASES)
def test_a_bomb_stops_at_the_limit(coding: str, packer: Callable[[bytes], bytes]) -> None:
    """By ratio when it is small, by bytes when it is large."""
    with pytest.raises(Refused, match="decompression_ratio"):
        decode_content(packer(b"\0" * 900_000), coding, LIMITS)
    noise = bytes(range(256)) * 5_000
    loose = BodyLimits(1_000_000, 10**9, 8, 10_000)
    with pytest.raises(Refused, match="decompressed_too_large"):
        decode_content(packer(noise), coding, loose)


@pytest.mark.parametrize(
    "values",
    ["gzip, gzip", "gzip,br", "zstd", "identity, gzip", "gzip, utf-8", "utf-16"],
)
def test_one_known_coding_or_none(values: str) -> None:
    """Nested and unknown codings are not taken."""
    with pytest.raises(Refused, match="content_coding"):
        content_coding(values)


@pytest.mark.parametrize("values", [None, "", "identity", " Identity ", "utf-8", "UTF-8", "utf8"])
def test_no_coding_leaves_the_body_alone(values: str | None) -> None:
    """Absent, ``identity``, or the charset that some senders put there."""
    assert content_coding(values) is None
    assert decode_content(b"x", content_coding(values), LIMITS) == b"x"


def depth(value: Any) -> int:
    """How deep a JSON value is nested, by looking at it."""
    if isinstance(value, dict):
        return 1 + max((depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(item) for item in value), default=0)
    return 0


TEXTS = st.text(st.sampled_from('[]{}",\\ab\n'), max_size=8)
JSON = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=40,
)


@given(value=JSON, around=st.integers(0, 12), most=st.integers(1, 12))
def test_depth_is_what_a_parser_would_find(value: Any, around: int, most: int) -> None:
    """Brackets, quotes and backslashes inside strings count for nothing."""
    for _ in range(around):
        value = [value]
    body = json.dumps(value, ensure_ascii=False).encode()
    limits = BodyLimits(1, 1, most, 10**9)
    if depth(value) > most:
        with pytest.raises(Refused, match="too_deep"):
            check_shape(body, limits)
    else:
        check_shape(body, limits)


def values(value: Any) -> int:
    """Members and elements of a JSON value, counted by looking at it."""
    if isinstance(value, dict):
        return len(value) + sum(values(item) for item in value.values())
    if isinstance(value, list):
        return len(value) + sum(values(item) for item in value)
    return 0


@given(value=JSON, part=st.integers(1, 12), most=st.integers(1, 6))
def test_parts_change_nothing(value: Any, part: int, most: int) -> None:
    """Wherever a body is cut: in a string, in a run of backslashes, between brackets."""
    body = json.dumps(value, ensure_ascii=False).encode()
    limits = BodyLimits(1, 1, most, 10**9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_module, "_PART_BYTES", part)
        try:
            check_shape(body, limits)
        except Refused:
            assert depth(value) > most
        else:
            assert depth(value) <= most


def test_a_ratio_is_that_of_what_was_read_so_far() -> None:
    """A bomb with a dull end is refused at its beginning, and costs no more than that."""
    bomb = gzip.compress(b"\0" * 900_000 + random.Random(1).randbytes(50_000))
    with pytest.raises(Refused, match="decompression_ratio"):
        decode_content(bomb, "gzip", LIMITS)
    honest = json.dumps([{"email": f"reader{n}@example.com"} for n in range(20_000)]).encode()
    assert decode_content(gzip.compress(honest), "gzip", LIMITS) == honest


@given(value=JSON)
def test_the_count_of_values_is_never_too_low(value: Any) -> None:
    """What is let through holds no more values than the limit."""
    body = json.dumps(value).encode()
    for most in range(60):
        try:
            check_shape(body, BodyLimits(1, 1, 10**9, most))
        except Refused:
            continue
        assert values(value) <= most
        break


@given(body=st.binary(max_size=300))
def test_any_bytes_are_looked_at_without_harm(body: bytes) -> None:
    """What is no JSON passes or is refused, nothing else."""
    with contextlib.suppress(Refused):
        check_shape(body, BodyLimits(1, 1, 2, 20))


@pytest.mark.parametrize("before", [0, 2_000, 4_000, 4_095, 10_000])
def test_depth_is_carried_on_through_a_long_body(before: int) -> None:
    """Wherever in a body it gets too deep, and only where."""
    limits = BodyLimits(10**9, 100, 8, 10**9)
    flat = b"[" + b"{}," * before
    check_shape(flat + b"[" * 7 + b"]" * 8, limits)
    with pytest.raises(Refused, match="too_deep"):
        check_shape(flat + b"[" * 8 + b"]" * 9, limits)
