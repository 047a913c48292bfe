"""Native values of every kind become clean ones, and nothing raises."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import addresses, fields
from schemas.event import ID_CHARS_MAX, METADATA_ENTRIES_MAX, TAGS_MAX, TEXT_CHARS_MAX
from schemas.settings import Source

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
DAY = 86_400_000_000

ANY_TEXT = st.text(st.characters(codec=None), max_size=40)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
NESTED: Any = None
for _ in range(5_000):
    NESTED = [NESTED]


def is_clean(text: str, limit: int) -> bool:
    text.encode("utf-8")  # raises on a lone surrogate
    return 0 < len(text) <= limit and "\0" not in text


# --- times ---------------------------------------------------------------------------------------


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_every_unit_and_shape_means_the_same_time(moment: datetime) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds, as numbers and as text, and ISO 8601."""
    whole = moment.replace(microsecond=0)
    seconds = int(whole.timestamp())
    us = seconds * 1_000_000
    shifted = whole.astimezone(timezone(timedelta(hours=-5, minutes=-30)))
    shapes: list[object] = [seconds, seconds * 1000, us, us * 1000, float(seconds)]
    shapes += [str(shape) for shape in shapes]
    shapes += [whole.isoformat(), whole.isoformat().replace("+00:00", "Z"), shifted.isoformat()]
    shapes += [whole.isoformat(" "), whole.replace(tzinfo=None).isoformat(), f"  {seconds} "]
    assert {fields.microseconds(shape) for shape in shapes} == {us}


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_a_date_of_a_mail_header_is_read(moment: datetime) -> None:
    """RFC 5322 §3.3, with and without the day's name, and with offsets in both spellings."""
    whole = moment.replace(microsecond=0)
    east = whole.astimezone(timezone(timedelta(hours=5, minutes=30)))
    shapes = [format_datetime(whole, usegmt=True), format_datetime(whole), format_datetime(east)]
    shapes += [shape.partition(", ")[2] for shape in shapes]
    us = int(whole.timestamp()) * 1_000_000
    assert {fields.microseconds(shape) for shape in shapes} == {us}


@pytest.mark.parametrize(
    ("value", "us"),
    [
        ("2016-12-31T23:59:60Z", 1483228800000000),
        ("2016-12-31 23:59:60.25+00:00", 1483228800250000),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800000000),
        ("2026-11-24T12:00:60", 1795521660000000),
        ("Tue, 24 Nov 2026 12:00:00", 1795521600000000),
        ("Tue, 24 Nov 2026 12:00:00 -0000", 1795521600000000),
        (1521233195.375624, 1521233195375624),
        ("1521233195.375624", 1521233195375624),
        ("2019-11-05T16:33:54.9070259Z", 1572971634907025),
        ("2019-11-05T11:33:54.9070259-05:00", 1572971634907025),
        ("2023-02-22 23:41:11.894719+00", 1677109271894719),
        ("2023-02-22", 1677024000000000),
        (1795520000.0, 1795520000000000),
    ],
)
def test_fractions_keep_six_digits(value: object, us: int) -> None:
    """As Mailgun, Postmark and Resend write them; a seventh digit is cut."""
    assert fields.microseconds(value) == us


@pytest.mark.parametrize(
    "value",
    [None, "", "soon", True, False, [], {}, [1795520000], float("nan"), float("inf"), "1e9", "-5",
     "0001-01-01T00:00:00+23:00x", "9" * 30, "2026-13-01"],
)  # fmt: skip
def test_what_is_no_time_is_none(value: object) -> None:
    """Nothing is guessed."""
    assert fields.microseconds(value) is None


@given(ANY_JSON)
def test_a_suspect_time_is_the_arrival(value: object) -> None:
    """``time_suspect`` says that arrival stands for the provider's time, and nothing else."""
    at, suspect = fields.occurred(value, NOW_US)
    assert at == NOW_US if suspect else NOW_US - 30 * DAY <= at <= NOW_US + DAY


@pytest.mark.parametrize(
    ("offset_us", "suspect"),
    [(0, False), (DAY, False), (DAY + 1, True), (-30 * DAY, False), (-30 * DAY - 1, True)],
)
def test_the_limits_of_belief(offset_us: int, suspect: bool) -> None:
    """A day ahead and thirty days behind, each to the microsecond."""
    at, doubted = fields.occurred(NOW_US + offset_us, NOW_US)
    assert (at, doubted) == (NOW_US if suspect else NOW_US + offset_us, suspect)


@given(
    st.integers(0, 4_000_000_000), st.integers(-(10**9), 10**9) | st.integers(-(3 * 10**6), 10**5)
)
def test_believable_seconds_are_those_that_are_believed(received_s: int, offset_s: int) -> None:
    """The short way of a tight loop and the long one agree, to the second."""
    received_at = received_s * 1_000_000 + 123_456
    first, last = fields.believable_seconds(received_at)
    moment = max(1, received_s + offset_s)
    assert (first <= moment <= last) is not fields.occurred(moment, received_at)[1]
    for edge, inside in ((first, first), (last, last)):
        if first <= last:
            assert fields.occurred(edge, received_at) == (inside * 1_000_000, False)


def test_before_2000_is_never_believed() -> None:
    """Also when arrival itself is near: a clock at zero is no time."""
    received = fields.YEAR_2000_US + 5
    assert fields.occurred(fields.YEAR_2000_US // 1_000_000, received) == (
        fields.YEAR_2000_US, False,
    )  # fmt: skip
    assert fields.occurred(fields.YEAR_2000_US // 1_000_000 - 1, received) == (received, True)


@given(st.floats(946_684_800, 4e9))
def test_iso_reads_back(seconds: float) -> None:
    """What a sample writes is read as the same time, to the millisecond."""
    read = fields.microseconds(fields.iso(seconds))
    assert read is not None
    assert abs(read - seconds * 1e6) <= 1001


@given(st.integers() | st.none())
def test_utc_date_is_total(at: int | None) -> None:
    """A date where the calendar has one, else nothing."""
    date = fields.utc_date(at)
    assert date == "" or len(date) == 10
    assert fields.utc_date(NOW_US) == "2026-11-24"


# --- texts and addresses -------------------------------------------------------------------------


@given(ANY_JSON, st.integers(1, 30))
def test_text_is_clean_and_short(value: object, limit: int) -> None:
    """No lone surrogate, no NUL, never longer than the limit, never empty."""
    result = fields.text(value, limit)
    assert result is None or is_clean(result, limit)


@given(st.text(max_size=30))
def test_text_leaves_good_text_alone(value: str) -> None:
    """What can be stored is stored as it came."""
    expected = value.replace("\0", "\ufffd") or None
    assert fields.text(value) == expected


def test_text_of_other_values() -> None:
    """JSON, keys sorted; too deep is nothing; a number is its digits."""
    assert fields.text({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'
    assert fields.text(2**70) == str(2**70)
    assert fields.text(True) == "true"
    assert fields.text("") is fields.text(None) is fields.text(NESTED) is None
    assert fields.text("x" * 5000) == "x" * TEXT_CHARS_MAX
    assert fields.text({"a": "\ud800"}) == '{"a": "\\ud800"}'


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("<a@b>", "a@b"), (" <a@b> ", "a@b"), ("<<x>", "<x"), ("<>", None), ("  ", None),
        ("a<b", "a<b"), (17, "17"), (None, None), ("i" * 600, "i" * ID_CHARS_MAX),
    ],
)  # fmt: skip
def test_identifiers_lose_their_brackets(value: object, wanted: str | None) -> None:
    """RFC 5322 writes message ids in brackets, providers with and without."""
    assert fields.identifier(value) == wanted


@given(ANY_JSON)
def test_identifiers_are_clean(value: object) -> None:
    """Whatever comes."""
    result = fields.identifier(value)
    assert result is None or is_clean(result, ID_CHARS_MAX)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("A@Example.COM", ("A@example.com", "example.com")),
        ("Name <A@Example.com>", ("A@example.com", "example.com")),
        ('"x <y@z>" <A@B.c>', ("A@b.c", "b.c")),
        ("<a@b.c>", ("a@b.c", "b.c")),
        ('"a@x"@B.c', ('"a@x"@b.c', "b.c")),
        (" a@b.c\n", ("a@b.c", "b.c")),
        ("nobody", ("nobody", "")),
        ("a@ÉX.example", ("a@éx.example", "éx.example")),
        ("", (None, "")), ("<>", (None, "")), (None, (None, "")),
        (7, (None, "")), (["a@b"], (None, "")),
    ],
)  # fmt: skip
def test_addresses(value: object, wanted: tuple[str | None, str]) -> None:
    """The domain in lower case, the local part as it is, the name left out."""
    assert addresses.address(value) == wanted


@given(ANY_TEXT)
def test_addresses_are_clean(value: str) -> None:
    """Whatever text comes; and the domain is the end of the address."""
    mailbox, domain = addresses.address(value)
    assert mailbox is None or is_clean(mailbox, ID_CHARS_MAX)
    assert mailbox is None or mailbox.endswith(domain)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("se", "SE"),
        ("US", "US"),
        ("EU", None),
        ("ap", None),
        ("XX", None),
        ("", None),
        ("Serbia", None),
        ("s1", None),
        ("åß", None),
        (5, None),
    ],
)
def test_countries_are_two_letters(value: object, wanted: str | None) -> None:
    """Names are not looked up."""
    assert fields.country(value) == wanted


# --- what the server said ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "status"),
    [
        ("550 5.1.1 The email account does not exist", 550, "5.1.1"),
        ("smtp; 550-5.7.26 unauthenticated", 550, "5.7.26"),
        ("smtp;452 4.2.2 Over quota", 452, "4.2.2"),
        ("host mx.example.com[192.0.2.25] said: 554 5.7.1 blocked", 554, "5.7.1"),
        ("5.1.2 no such domain", None, "5.1.2"),
        ("250 OK", 250, None),
        ("421 #4.4.1 try later", 421, "4.4.1"),
        ("Unable to connect to 5.1.1.10 after 550 seconds", None, None),
        ("version 2.5.1234 or 15.1.1", None, None),
        ("error: 553 not allowed", 553, None),
        ("", None, None),
        (None, None, None),
        (550, None, None),
    ],
)  # fmt: skip
def test_codes_in_a_servers_words(said: object, code: int | None, status: str | None) -> None:
    """Reply code and enhanced status; addresses, versions and durations are neither."""
    assert (fields.reply_code(said), fields.enhanced_status(said)) == (code, status)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(550, 550), ("450", 450), (550.0, 550), (605, None), (99, None), ("55", None), (True, None),
     ("5.1.1", None), (None, None), (float("nan"), None), (float("inf"), None), ([550], None)],
)  # fmt: skip
def test_explicit_reply_codes(value: object, wanted: int | None) -> None:
    """200 to 599; Mailgun's own 605 is none of SMTP's."""
    assert fields.smtp_code(value) == wanted


@given(ANY_JSON)
def test_codes_are_total(value: object) -> None:
    """Any value gives a code or nothing."""
    code = fields.smtp_code(value)
    assert code is None or 200 <= code <= 599
    assert fields.reply_code(value) is None or isinstance(value, str)
    assert fields.enhanced_status(value) is None or isinstance(value, str)


# --- tags, metadata, campaign --------------------------------------------------------------------


@given(ANY_JSON)
def test_tags_are_clean_and_few(value: object) -> None:
    """From a text, a list, or anything else."""
    tags = fields.tag_list(value)
    assert len(tags) <= TAGS_MAX
    assert all(is_clean(tag, ID_CHARS_MAX) for tag in tags)


def test_tags_keep_their_order() -> None:
    """The first tag is what ``tag`` means in ``campaign_from``."""
    assert fields.tag_list("one") == ["one"]
    assert fields.tag_list(["b", "", None, "a", 7, {"k": 1}]) == ["b", "a", "7", '{"k":1}']
    assert fields.tag_list([str(n) for n in range(100)]) == [str(n) for n in range(TAGS_MAX)]


@given(ANY_JSON)
def test_metadata_is_clean_and_small(value: object) -> None:
    """From an object; what is none gives nothing."""
    metadata = fields.metadata_map(value)
    assert len(metadata) <= METADATA_ENTRIES_MAX
    for key, text in metadata.items():
        assert key == "" or is_clean(key, ID_CHARS_MAX)
        assert text == "" or is_clean(text, TEXT_CHARS_MAX)


def test_metadata_of_values_that_are_not_text() -> None:
    """Numbers and truth as JSON, null left out, an object in a text read."""
    assert fields.metadata_map({"a": 1, "b": True, "c": None, "d": {"y": 1, "x": 2}, "e": ""}) == {
        "a": "1", "b": "true", "d": '{"x":2,"y":1}', "e": "",
    }  # fmt: skip
    assert fields.metadata_map('{"a": 1}') == {"a": "1"}
    assert fields.metadata_map("{broken") == fields.metadata_map([1]) == {}
    many = {str(n): None if n % 2 else n for n in range(400)}
    assert len(fields.metadata_map(many)) == METADATA_ENTRIES_MAX


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (("metadata.campaign_id", "tag", "provider"), ("m-1", "metadata")),
        (("metadata.none", "tag"), ("t-0", "tag")),
        (("tag.1",), ("t-1", "tag")),
        (("tag.7", "provider"), ("brevo:42", "provider")),
        (("header.X-Campaign",), ("h-1", "header")),
        (("metadata.empty", "metadata.blank", "provider"), ("brevo:42", "provider")),
        (("metadata.template",), ("brevo:7", "provider")),
        (("metadata.none", "tag.9", "header.none"), (None, "none")),
        ((), (None, "none")),
        (("metadata.with.dots",), ("dotted", "metadata")),
    ],
)
def test_campaign_by_precedence(entries: tuple[str, ...], wanted: tuple[str | None, str]) -> None:
    """The first entry that is there wins; what is empty is not there."""
    metadata = {
        "campaign_id": "m-1", "empty": "", "blank": "  ", "with.dots": "dotted", "template": "7",
    }  # fmt: skip
    source = Source(name="news", provider="brevo", campaign_from=entries)
    found = fields.campaign(
        source, ["t-0", "t-1"], metadata,
        numbered=42, own_keys=("template", "absent"), headers={"x-campaign": "h-1"},
    )  # fmt: skip
    assert found == wanted


def test_a_provider_s_field_for_the_sender_s_name_is_a_name() -> None:
    """It comes before the provider's own number, and is shared across providers."""
    source = Source(name="news", provider="mailjet", campaign_from=("provider",))
    assert fields.campaign(source, [], {}, named="spring", numbered=7) == ("spring", "sender")
    assert fields.campaign(source, [], {}, named=" ", numbered=7) == ("mailjet:7", "provider")
    assert fields.campaign(source, [], {}, named=None, numbered=None) == (None, "none")


def test_accounts_of_one_provider_are_told_apart_where_they_are_named() -> None:
    """Providers number per account: with ``account`` set, it is part of the id."""
    ids = {
        fields.own_campaign(Source(name=name, provider="brevo", account=account), 4242)
        for name, account in (("a", "north"), ("b", "south"), ("c", "south"), ("d", ""))
    }
    assert ids == {"brevo:north:4242", "brevo:south:4242", "brevo:4242"}


@given(ANY_JSON)
def test_an_own_campaign_is_clean_and_short(value: object) -> None:
    """Whatever a provider sends; nothing gives nothing."""
    source = Source(name="news", provider="brevo", account="a" * 600)
    found = fields.own_campaign(source, value)
    assert found is None or is_clean(found, ID_CHARS_MAX)


LISTED = "<mailto:leave@a.example?subject=1>,\r\n <https://A.example/l/\r\n 8f3?u=1>"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/l/8f3?u=1", True),
        ("HTTPS://a.Example/l/8f3?u=1#top", True),
        ("mailto:leave@a.example?subject=1", True),
        ("https://a.example/l/8f3?u=2", None),
        ("https://a.example/L/8f3?u=1", None),
        ("https://a.example/", None),
        ("", None),
        (None, None),
    ],
)
def test_links_of_a_list_unsubscribe_header(url: object, expected: bool | None) -> None:
    """A link that stands in it unsubscribes; of others it says nothing."""
    assert fields.is_listed(url, LISTED) is expected
    assert fields.is_listed(url, None) is None
    assert fields.is_listed(url, "https://a.example/l/8f3?u=1") is None  # not in brackets


def test_names_with_values() -> None:
    """Lists of names and values (Resend, SES) and plain objects."""
    listed = [
        {"name": "A", "value": "1"},
        {"name": "a", "value": "2"},
        {"value": "3"},
        4,
        {"name": 5},
    ]
    assert fields.named_values(listed) == {"A": "1", "a": "2"}
    assert fields.named_values({"x": 1}) == {"x": 1}
    assert fields.header_map(listed) == {"a": "1"}
    assert fields.header_map({"X-A": "1", "B": 2}) == {"x-a": "1"}
    assert fields.header_map(None) == fields.named_values(None) == {}


@given(ANY_JSON)
def test_json_text_is_total_and_independent_of_key_order(value: Any) -> None:
    """Ids are made of it: the same value gives the same text, however its keys are ordered."""

    def turned(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: turned(one[key]) for key in reversed(one)}
        return [turned(item) for item in one] if isinstance(one, list) else one

    assert fields.json_text(value) == fields.json_text(turned(value))
    assert fields.id_part(value) == fields.id_part(turned(value))


@given(st.one_of(st.floats(), st.integers(), st.integers(-(10**400), 10**400)))
def test_any_number_is_a_time_or_none(number: float) -> None:
    """Infinite, not a number, or as far away as numbers go: no error (invariant 1)."""
    found = fields.microseconds(number)
    assert found is None or isinstance(found, int)
    assert fields.utc_date(found) is not None
    at, suspect = fields.occurred(number, 1_790_000_000_000_000)
    assert suspect or at == found
