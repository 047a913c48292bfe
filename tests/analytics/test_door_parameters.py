"""Whatever a parameter of the analysts' door is: an answer, or a refusal with its reason.

Never a 500, which would say that the server is at fault, and never an answer without ClickHouse's
error code.
"""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.warehouses import OpenWarehouse, migrated_warehouse

QUERY = """
SELECT bucket, delivered
FROM campaign_timeline(
    campaign = {campaign:String}, from = {from:DateTime}, to = {to:DateTime},
    step = {step:UInt32}, zone = {zone:String})
WHERE delivered > {least:Float64} AND delivered IN {among:Array(Int64)}
    AND toDate(bucket) > {day:Date} AND {really:Bool} AND toUUID({id:UUID}) != toUUID({id:UUID})
"""
PARAMETERS = {
    "query": QUERY, "param_campaign": "c", "param_from": "2026-01-01 00:00:00",
    "param_to": "2026-01-02 00:00:00", "param_step": "60", "param_zone": "UTC",
    "param_least": "0", "param_among": "[1]", "param_day": "2020-01-01", "param_really": "true",
    "param_id": "00000000-0000-0000-0000-000000000000",
    "default_format": "JSON", "database": "mailpulse", "session_timezone": "UTC",
    "max_threads": "1", "max_block_size": "100", "max_execution_time": "5", "limit": "3",
    "offset": "0", "date_time_output_format": "iso", "query_id": "x", "session_id": "a",
    "user": "u", "password": "p", "compress": "0", "enable_http_compression": "0",
    "wait_end_of_query": "1", "buffer_size": "1", "send_progress_in_http_headers": "0",
}  # fmt: skip
ODD = [
    "0", "-1", "-0", "4294967296", "18446744073709551616", "1e400", "NaN", "inf", "", "ü",
    "☃" * 50, "\0", "a\nb", "'", "x" * 5_000, "2026-02-30 00:00:00", "9999-12-31 00:00:00",
    "1900-01-01 00:00:00", "[", "[1,", "null", "../etc", "file:x", "%", "{x:String}",
]  # fmt: skip


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWarehouse]:
    """An open door; its campaign «c» has minutes in the time that is asked for."""
    with migrated_warehouse(tmp_path_factory.mktemp("door")) as (opened, client):
        client.command(
            "INSERT INTO campaign_minutes (campaign_id, minute, events, delivered)"
            " SELECT 'c', toDateTime('2026-01-01 00:00:00', 'UTC') + number * 60, 1, 1"
            " FROM numbers(100)"
        )
        yield opened


def answer(door: OpenWarehouse, parameters: dict[str, str]) -> tuple[int, str, str]:
    """Status, ClickHouse's error code or an empty text, and the text of the answer."""
    asked = urllib.parse.urlencode(parameters, errors="surrogatepass")
    try:
        with urllib.request.urlopen(f"{door.url}/?{asked}", timeout=30) as found:
            return found.status, "", found.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        code = error.headers.get("X-ClickHouse-Exception-Code", "")
        return error.code, code, error.read().decode("utf-8", "replace")


def test_the_question_has_an_answer(door: OpenWarehouse) -> None:
    """As it stands; otherwise the tests below would test nothing."""
    assert answer(door, PARAMETERS)[0] == 200


@settings(deadline=None, max_examples=400)
@given(
    st.dictionaries(
        st.sampled_from(sorted(PARAMETERS)),
        st.one_of(st.none(), st.sampled_from(ODD), st.text(max_size=20), st.integers().map(str)),
        min_size=1,
        max_size=3,
    )
)
def test_no_parameter_is_a_fault_of_the_server(
    door: OpenWarehouse, changed: dict[str, str | None]
) -> None:
    """Zeros, negatives, huge numbers, NaN, nothing at all, other alphabets, or left out."""
    asked = {name: value for name, value in {**PARAMETERS, **changed}.items() if value is not None}
    status, code, text = answer(door, asked)
    assert status < 500 or code == "48", (changed, status, text)
    assert status == 200 or code, (changed, status, text)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("param_step", "0", "step is in seconds: whole minutes below a day, or whole days"),
        ("param_zone", "Nowhere/Town", "Cannot load time zone Nowhere/Town"),
        ("param_from", "yesterday", "cannot be parsed as DateTime"),
    ],
)
def test_a_bad_step_zone_or_time_is_a_400_with_a_sentence(
    door: OpenWarehouse, name: str, value: str, words: str
) -> None:
    """``step=0`` was once a 500."""
    status, _, text = answer(door, {**PARAMETERS, name: value})
    assert (status, words in text) == (400, True), text
