"""Addresses of servers: what is read, what is refused, and that no password is ever shown."""

import ipaddress
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import (
    bracketed,
    brokers,
    clickhouse_address,
    encoded,
    registry_url,
    store_url,
)
from schemas.errors import ConfigError
from schemas.settings import load_settings

CANARY = "c4nary"
_LABEL = r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?"
HOSTS = st.one_of(
    st.from_regex(rf"{_LABEL}(\.{_LABEL}){{0,3}}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)  # fmt: skip
PORTS = st.none() | st.integers(1, 65_535)
TEXTS = st.text(max_size=20)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
SLASHES = st.sampled_from(("", "/"))


def cased(scheme: str) -> st.SearchStrategy[str]:
    """The scheme in any case."""
    return st.lists(st.booleans(), min_size=len(scheme), max_size=len(scheme)).map(
        lambda ups: "".join(
            c.upper() if up else c for c, up in zip(scheme, ups, strict=True)
        )
    )  # fmt: skip


@given(
    scheme=st.sampled_from(("http", "https")), data=st.data(), host=HOSTS, port=PORTS, user=TEXTS,
    password=TEXTS, database=st.just("") | NAMES, slash=SLASHES,
)  # fmt: skip
def test_a_dsn_gives_back_the_parts_that_it_is_made_of(
    scheme: str, data: st.DataObject, host: str, port: int | None, user: str, password: str,
    database: str, slash: str,
) -> None:  # fmt: skip
    """Whatever is in user and password; missing parts have one default each."""
    written = data.draw(cased(scheme))
    login = f"{encoded(user)}:{encoded(password)}@" if user or password else ""
    at = bracketed(host) + (f":{port}" if port else "")
    found = clickhouse_address(f"{written}://{login}{at}/{database}{slash if database else ''}")
    assert (found.scheme, found.host, found.user) == (scheme, host, user or "default")
    assert found.port == (port or {"http": 8123, "https": 8443}[scheme])
    assert (found.password, found.database) == (password, database or "mailpulse")
    assert clickhouse_address(f"{found.url}/{found.database}").place == found.place


@pytest.mark.parametrize(
    "dsn",
    [
        "", "localhost", "localhost:8123/db", "clickhouse://h/db", "chdb:/var/lib", "http:///db",
        "http://:8123/db", "http://h:0/db", "http://h:99999/db", "http://h:port/db",
        "http://[::1/db", "http://[zz::1]/db", "http://::1/db", "http://h/a/b",
        "http://h/db?database=other", "http://h/db#x", "http://a b/db",
        f"http://sink:{CANARY}/x@h/db", f"http://sink:{CANARY}?x@h/db", f"http://{CANARY}#@h/db",
        f"http://sink:12/{CANARY}@h/db", f"http://sink:{CANARY}@h:x/db", f"sink:{CANARY}@h/db",
        f"http://sink:{CANARY}@/db", f"http://sink:{CANARY}@h/db?{CANARY}", f"ftp://u:{CANARY}@h/",
    ],
)  # fmt: skip
def test_what_names_no_clickhouse_is_told_by_its_setting(dsn: str) -> None:
    """At the start of any role, without what was given."""
    given = {"MAILPULSE_CLICKHOUSE_DSN": dsn}
    with pytest.raises(ConfigError) as raised:
        load_settings(given, lambda path: path.read_text())
    assert "MAILPULSE_CLICKHOUSE_DSN: " in str(raised.value)
    assert CANARY not in str(raised.value)


URLS = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}://{}:{}{}@{}:{}/{}".format,
        st.sampled_from(("http", "HTTPS", "redis", "rediss", "valkey", "ftp", "")),
        st.text(max_size=5), st.text(max_size=5), st.just(CANARY), st.text(max_size=8),
        st.text(max_size=5) | st.integers(-1, 70_000).map(str), st.text(max_size=8),
    ),
)  # fmt: skip


@given(URLS)
def test_no_reader_shows_a_password(text: str) -> None:
    """Each reads or says what is wrong, as ``ValueError``, without the text."""
    for read in (clickhouse_address, registry_url, store_url, brokers):
        assert CANARY not in _complaint(read, text)


def _complaint(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""


@given(st.lists(st.tuples(HOSTS, st.integers(1, 65_535)), min_size=1, max_size=4), st.data())
def test_brokers_are_read_with_any_white_space(
    places: list[tuple[str, int]], data: st.DataObject
) -> None:
    """And commas at the ends; an IPv6 address keeps its brackets, as Kafka's clients want them."""
    expected = [f"{bracketed(host)}:{port}" for host, port in places]
    blank = st.sampled_from(("", " ", "\n"))
    text = ",".join(data.draw(blank) + each + data.draw(blank) for each in expected)
    assert brokers(text) == expected
    assert brokers(f"{text},") == expected


@pytest.mark.parametrize(
    "text", ["", ",", "kafka", "kafka:", "kafka:0", "kafka:65536", ":9092", "::1:9092", "[::1]",
             "[::g]:9092", "[1::2::3]:9092", "kafka://kafka:9092", "a:9092 b:9092", "u:p@k:9092"],
)  # fmt: skip
def test_what_names_no_broker_is_told_by_its_setting(text: str) -> None:
    """A missing port too: clients take different ones, or fail late."""
    with pytest.raises(ConfigError, match="MAILPULSE_KAFKA_BOOTSTRAP: "):
        load_settings({"MAILPULSE_KAFKA_BOOTSTRAP": text}, lambda path: path.read_text())


@given(
    scheme=st.sampled_from(("http", "https")), data=st.data(), host=HOSTS, port=PORTS,
    password=TEXTS, path=st.sampled_from(("", "/", "/apis/ccompat/v7", "/apis/ccompat/v7/")),
)  # fmt: skip
def test_a_registrys_url_ends_without_a_slash(
    scheme: str, data: st.DataObject, host: str, port: int | None, password: str, path: str
) -> None:
    """So that paths can be put behind it; nothing else changes but the scheme's case."""
    at = f"user:{encoded(password)}@{bracketed(host)}" + (f":{port}" if port else "")
    found = registry_url(f"{data.draw(cased(scheme))}://{at}{path}")
    assert found == f"{scheme}://{at}{path.rstrip('/')}"


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("", ""),
        ("redis://h", "valkey://h"),
        ("REDISS://u:p%40@[::1]:6380/2/", "valkeys://u:p%40@[::1]:6380/2"),
        ("valkey://h:6379/0?socket_timeout=1", "valkey://h:6379/0?socket_timeout=1"),
    ],
)
def test_a_stores_url_is_as_its_client_takes_it(given_url: str, expected: str) -> None:
    """One client for Redis and Valkey; its options stay."""
    assert store_url(given_url) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAILPULSE_RATE_LIMIT_URL", f"http://u:{CANARY}@h"),
        ("MAILPULSE_RATE_LIMIT_URL", f"redis://u:{CANARY}@h/zero"),
        ("MAILPULSE_RATE_LIMIT_URL", f"redis//u:{CANARY}@h"),
        ("MAILPULSE_RATE_LIMIT_URL", f"redis://u:{CANARY}/2@h"),
        ("MAILPULSE_SCHEMA_REGISTRY_URL", f"u:{CANARY}@h:8081"),
        ("MAILPULSE_SCHEMA_REGISTRY_URL", f"http://u:{CANARY}@h:8081?x=1"),
        ("MAILPULSE_SCHEMA_REGISTRY_URL", f"http://u:{CANARY}@h:port"),
    ],
)
def test_what_names_no_store_or_registry_is_told_by_its_setting(name: str, value: str) -> None:
    """Without what was given."""
    with pytest.raises(ConfigError) as raised:
        load_settings({name: value}, lambda path: path.read_text())
    assert f"{name}: " in str(raised.value)
    assert CANARY not in str(raised.value)


@given(st.ip_addresses(v=6), TEXTS)
def test_brackets_and_encoding_are_those_of_urls(address: ipaddress.IPv6Address, text: str) -> None:
    """An IPv6 address gets brackets, and no delimiter of a URL is left in a password."""
    assert bracketed(str(address)) == f"[{address}]"
    assert encoded(text) == quote(text, safe="")
    assert not set("/?#@:[]") & set(encoded(text))
