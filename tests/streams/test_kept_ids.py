"""The registry's ids on disk: a role that knows them starts while the registry is away."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from schemas.codec import FIXED_IDS, schema_json
from schemas.errors import ConfigError, Unavailable
from schemas.settings import Settings
from streams.cli.context import role_codec
from streams.kafka.kept_ids import FILE, registered_or_kept


class Registry:
    """A registry that gives the ids of ``FIXED_IDS``, moved by ``offset``, or fails.

    Attributes:
        status: what it answers with from now on.
    """

    def __init__(self, offset: int = 0) -> None:
        self.offset, self.status = offset, 200
        self._known = {json.dumps(schema_json(full)): number for full, number in FIXED_IDS.items()}

    def answer(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """To one request."""
        if method == "PUT":
            return {"compatibility": body["compatibility"]}
        return {"id": self._known[body["schema"]] + self.offset}


@contextmanager
def running(registry: Registry) -> Iterator[str]:
    """Gives its URL, with a password."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = json.dumps(registry.answer(self.command, body)).encode()
            self.send_response(registry.status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_PUT = do_POST = _do

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://me:hunter2@127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def moved(offset: int) -> dict[str, int]:
    """The ids that such a registry gives."""
    return {full: number + offset for full, number in FIXED_IDS.items()}


def test_a_registry_that_is_away_costs_nothing_once_its_ids_are_known(tmp_path: Path) -> None:
    """Not answering at all, or with a 5xx; the password is not kept, and may change."""
    registry = Registry(700)
    with running(registry) as url:
        assert registered_or_kept(url, tmp_path) == moved(700)
        registry.status = 503
        assert registered_or_kept(url, tmp_path) == moved(700)
    assert registered_or_kept(url.replace("hunter2", "new"), tmp_path) == moved(700)
    assert "hunter2" not in (tmp_path / FILE).read_text("utf-8")


def test_a_registry_that_answers_decides(tmp_path: Path) -> None:
    """Its ids replace the kept ones, and a refusal is a refusal."""
    registry = Registry(700)
    with running(registry) as url:
        registered_or_kept(url, tmp_path)
        registry.offset = 900
        assert registered_or_kept(url, tmp_path) == moved(900)
        registry.status = 409
        with pytest.raises(ConfigError):
            registered_or_kept(url, tmp_path)


def _cut(text: str) -> str:
    return text[:-20]


def _less(text: str) -> str:
    document = json.loads(text)
    document["ids"].pop(next(iter(FIXED_IDS)))
    return json.dumps(document)


def _other(text: str) -> str:
    return text.replace('"registry": "', '"registry": "0')


def _odd(text: str) -> str:
    return "[1]"


@pytest.mark.parametrize("change", [_cut, _less, _other, _odd])
def test_ids_that_do_not_fit_are_not_used(
    change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file, one of an earlier release, one of another registry: as if there were none."""
    monkeypatch.setattr("streams.kafka.registry.BACKOFF_S", 0)
    monkeypatch.setattr("streams.kafka.kept_ids.ATTEMPTS_MAX", 1)
    with running(Registry()) as url:
        registered_or_kept(url, tmp_path)
    path = tmp_path / FILE
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(Unavailable):
        registered_or_kept(url, tmp_path)


def test_a_disk_that_cannot_be_written_holds_no_role_up(tmp_path: Path) -> None:
    """Only the help is missing at the next start."""
    (tmp_path / "data").write_text("a file, not a folder", "utf-8")
    with running(Registry(5)) as url:
        assert registered_or_kept(url, tmp_path / "data") == moved(5)


def test_roles_use_them(tmp_path: Path) -> None:
    """And without a registry the fixed ids."""
    with running(Registry(5)) as url:
        settings = Settings(schema_registry_url=url, data_dir=tmp_path)
        assert role_codec(settings).ids == moved(5)
    assert role_codec(settings).ids == moved(5)
    assert role_codec(Settings(data_dir=tmp_path)).ids == FIXED_IDS
