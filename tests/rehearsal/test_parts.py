"""The parts of a rehearsal that need no root: what they make of a compose file."""

import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from schemas.addresses import clickhouse_address
from streams.cli.secret_files import DSN, READER_DSN, USERS, secret_files
from tests.compose import COMPOSE, SERVICES, shared_networks
from tests.live.maven import Missing
from tests.rehearsal import network
from tests.rehearsal.__main__ import main
from tests.rehearsal.clickhouse import DOOR, PRIVATE, target_of, users_of
from tests.rehearsal.image import dockerfile, environment_of, kafka_properties
from tests.rehearsal.loading import go
from tests.rehearsal.names import answer
from tests.rehearsal.project import Service, seconds


def service(name: str, networks: tuple[str, ...], **more: Any) -> Service:
    """A service of which only some things matter."""
    given: dict[str, Any] = {
        "image": "x:1", "command": None, "entrypoint": None, "environment": {}, "user": None,
        "read_only": False, "drops_all": False, "capabilities": (), "no_new_privileges": False,
        "tmpfs": {}, "mounts": (), "ports": (), "needs": {}, "restarts": True, "grace_s": 10,
        "health": None,
    }  # fmt: skip
    return Service(name=name, networks=networks, **(given | more))


PLAN = network.plan(
    COMPOSE["networks"] | {"edge": {"internal": True}},
    {name: service(name, tuple(one["networks"])) for name, one in SERVICES.items()},
)


def test_every_address_is_given_once_and_lies_in_its_network() -> None:
    """Two services with one address would answer for each other."""
    given = [
        (one, address) for networks in PLAN.addresses.values() for one, address in networks.items()
    ]
    assert len({address for _, address in given}) == len(given)
    for name, address in given:
        assert address in PLAN.networks[name].subnet
        assert address != PLAN.networks[name].gateway


def test_names_are_found_as_docker_finds_them() -> None:
    """For each two services: in the network that ``tests.compose`` says, or not at all."""
    for asker in SERVICES:
        for name in SERVICES:
            shared = shared_networks(asker, name)
            expected = PLAN.addresses[name][shared[0]] if shared else None
            assert PLAN.find(asker, name) == expected, (asker, name)
    assert PLAN.find("caddy", "kafka") is None
    assert PLAN.find("caddy", "nobody") is None


def test_no_port_is_published_of_a_service_on_internal_networks_alone() -> None:
    """Docker publishes none either, and says nothing about it."""
    alone = {"inner": {"internal": True}}
    planned = network.plan(alone, {"a": service("a", ("inner",))})
    assert planned.published_at("a") is None
    for name, one in SERVICES.items():
        assert (PLAN.published_at(name) is not None) or not one.get("ports"), name


def question(name: str, kind: int) -> bytes:
    """A DNS question, as the C library asks it."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0" + labels + b"\0" + struct.pack(">HH", kind, 1)


def known(name: str) -> IPv4Address | None:
    """One name."""
    return IPv4Address("172.18.0.7") if name == "kafka" else None


@pytest.mark.parametrize(
    ("name", "kind", "code", "records"),
    [("kafka", 1, 0, 1), ("KAFKA", 1, 0, 1), ("kafka", 28, 0, 0), ("nobody", 1, 3, 0)],
)
def test_a_question_is_answered(name: str, kind: int, code: int, records: int) -> None:
    """The address of a known name; no IPv6 address; unknown names do not exist."""
    told = answer(question(name, kind), known)
    assert told is not None
    assert told[:2] == b"\x12\x34"
    assert (told[3] & 15, int.from_bytes(told[6:8], "big")) == (code, records)
    assert not records or told.endswith(socket.inet_aton("172.18.0.7"))


@pytest.mark.parametrize("length", range(0, 23))
def test_what_is_no_question_gets_no_answer(length: int) -> None:
    """A datagram that is cut off anywhere, and an answer."""
    whole = question("kafka", 1)
    assert answer(whole[:length], known) is None
    assert answer(whole[:2] + b"\x81" + whole[3:], known) is None


@pytest.mark.parametrize(
    ("text", "expected"), [("45s", 45), ("2m0s", 120), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600)]
)
def test_durations_are_gos(text: str, expected: float) -> None:
    """As the loader prints them."""
    assert seconds(text) == expected


def test_no_duration_is_refused() -> None:
    """Rather than read as none."""
    with pytest.raises(ValueError, match="no duration"):
        seconds("45 seconds")


def test_kafkas_variables_become_properties() -> None:
    """One underscore is a dot, two are one, three a dash."""
    told = {"KAFKA_NODE_ID": "1", "KAFKA_A__B": "2", "KAFKA_A___B_C": "3", "KAFKA_HEAP_OPTS": "-X"}
    assert kafka_properties(told) == {"node.id": "1", "a_b": "2", "a-b.c": "3"}


def test_the_last_stage_of_a_dockerfile_is_read() -> None:
    """Its variables, with the lines that go on."""
    text = "FROM a AS b\nUSER 1\nFROM c\nENV X=1 \\\n    PATH=/o:$PATH\nUSER 2:2\n# ENV Y=1\n"
    lines = dockerfile(text)
    assert lines["USER"] == ["2:2"]
    assert environment_of(lines).keys() == {"X", "PATH"}
    assert environment_of(lines)["PATH"].startswith("/o:/usr/")


def basic(dsn: str) -> dict[str, str]:
    """The headers of a client that was given a DSN."""
    address = clickhouse_address(dsn.strip())
    return {"X-ClickHouse-User": address.user, "X-ClickHouse-Key": address.password}


def test_the_users_of_config_secrets_reach_their_listeners() -> None:
    """Who may write the sink's, who may read the analysts', anyone else none."""
    made = secret_files("clickhouse", iter([f"password{n}" for n in range(9)]).__next__)
    users = users_of(made[USERS])
    assert target_of(basic(made[DSN]), users) == PRIVATE
    assert target_of(basic(made[READER_DSN]), users) == DOOR
    assert target_of(basic(made[READER_DSN]) | {"X-ClickHouse-Key": "no"}, users) is None
    assert target_of({}, users) is None


def say(folder: Path, name: str, version: str) -> Path:
    """A program that says which Go it is."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho 'go version {version} linux/amd64'\n", "utf-8")
    program.chmod(0o755)
    return program


def test_the_first_go_that_is_new_enough_builds_the_loader(tmp_path: Path) -> None:
    """Debian 12's is too old, and says nothing of the kind before it has tried."""
    debians, newer = say(tmp_path, "a", "go1.19.8"), say(tmp_path, "b", "go1.27.3")
    tip, absent = say(tmp_path, "c", "devel +1a2b3c"), tmp_path / "absent"
    assert go([debians, absent, tip, newer]) == newer
    assert go([newer, debians]) == newer
    with pytest.raises(Missing, match=r"needs Go 1\.24 or newer"):
        go([debians, absent, tip])


def test_without_root_it_fails_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It never skips: a rehearsal that nobody could run shows nothing."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["rehearse", "--keep", str(tmp_path / "kept")])
    assert main() == 1
    assert "needs root" in capsys.readouterr().err
