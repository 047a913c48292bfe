"""Who is admitted by the analysts' listener: host names, sites, and the token if one is set."""

import base64
import urllib.error
import urllib.request
from collections.abc import Iterator

import clickhouse_connect
import pytest

from analytics.client import reader
from schemas.errors import BadInput
from streams.cli.clickhouse import ask
from tests.analytics.test_door import call
from tests.warehouses import OpenWarehouse as OpenDoor
from tests.warehouses import migrated_warehouse

TOKEN = "a-token-for-tests-0123456789"
KEY = {"X-ClickHouse-Key": TOKEN}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoor]:
    """A door with a token."""
    with migrated_warehouse(tmp_path_factory.mktemp("door"), door_token=TOKEN) as (opened, _):
        yield opened


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def test_other_hosts_are_turned_away(door: OpenDoor) -> None:
    """A page that rebinds its name to this machine is refused."""
    assert call(door, "SELECT 1", headers={"Host": "evil.example", **KEY})[0] == 403
    assert call(door, "SELECT 1", headers={"Host": f"localhost:{door.port}", **KEY})[0] == 200
    wrong = {"Host": f"localhost:{door.port + 1}", **KEY}
    status, text, _ = call(door, "SELECT 1", headers=wrong)
    assert (status, "MAILPULSE_DOOR_HOSTS" in text) == (403, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
@pytest.mark.parametrize("path", ["", "ping"])
def test_other_sites_are_turned_away(door: OpenDoor, headers: dict[str, str], path: str) -> None:
    """With ClickHouse's error, before anything runs, and without permission to read it."""
    request = urllib.request.Request(
        f"{door.url}/{path}?query=SELECT+1", headers={**headers, **KEY}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 403
    assert caught.value.read().startswith(b"Code: 497. DB::Exception: ")
    assert "access-control-allow-origin" not in caught.value.headers


@pytest.mark.parametrize("fmt", ["RawBLOB", "TSVRaw", "LineAsString", "Markdown", "XML", "JSON"])
def test_no_answer_is_a_page_or_a_script(door: OpenDoor, fmt: str) -> None:
    """Whatever the format: nothing that a browser executes or another site can embed or read."""
    text = "'<script>alert(1)</script>' AS x"
    status, _, headers = call(
        door, f"SELECT {text} FORMAT {fmt}", headers=KEY, add_http_cors_header="1"
    )
    assert status == 200
    kind = headers["content-type"].partition(";")[0]
    assert kind not in ("text/html", "application/xhtml+xml", "image/svg+xml", "text/javascript")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "sandbox" in headers["content-security-policy"]
    assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-ClickHouse-User": "default"}, 401),
        ({"X-ClickHouse-Key": TOKEN}, 200),
        ({"X-ClickHouse-Key": ""}, 403),
        ({"X-ClickHouse-Key": TOKEN + "x"}, 403),
        ({"X-ClickHouse-Key": TOKEN.upper()}, 403),
        ({"X-ClickHouse-Key": "\xff"}, 403),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": "Bearer x"}, 403),
        ({"Authorization": f"Basic {_basic('default', TOKEN)}"}, 200),
        ({"Authorization": f"Basic {_basic('anybody', TOKEN)}"}, 200),
        ({"Authorization": f"Basic {_basic('default', 'x')}"}, 403),
        ({"Authorization": f"Basic {_basic(TOKEN, '')}"}, 403),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": f"Digest {TOKEN}"}, 401),
        ({"X-ClickHouse-Key": "x", "Authorization": f"Bearer {TOKEN}"}, 403),
    ],
)
def test_a_token_is_needed_where_one_is_set(
    door: OpenDoor, headers: dict[str, str], status: int
) -> None:
    """Sent as ClickHouse's clients send a password; without it nothing runs."""
    got, text, answered = call(door, "SELECT 1 AS x", headers=headers)
    assert got == status, text
    assert TOKEN not in text
    assert ("www-authenticate" in answered) == (status == 401)
    assert (text == "1\n") == (status == 200)


def test_clients_bring_the_token(door: OpenDoor) -> None:
    """clickhouse-connect, the command line and the dashboard's reader."""
    made = clickhouse_connect.get_client(host="127.0.0.1", port=door.port, password=TOKEN)
    assert made.query("SELECT 1").result_rows == [(1,)]
    made.close()
    client = reader(door.reader_settings_with(TOKEN))
    assert client.query("SELECT 1").result_rows == [(1,)]
    client.close()
    asked = door.reader_settings_with(TOKEN)
    assert b"".join(ask(asked, "SELECT 1 AS x", "JSONEachRow").pieces) == b'{"x":1}\n'
    with pytest.raises(BadInput, match="not this door's token"):
        ask(door.reader_settings, "SELECT 1", "CSV")
