"""A worker whose StatefulSet has no place for it leaves its group; tests/live asks a real Kafka."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.worker import scaled_away
from streams.worker.scaled_away import is_surplus, leave_if_scaled_away, stateful_set_of
from tests.kubernetes_api import KubernetesApi, kubernetes_api

POD = "mailpulse-worker-2"
SETTINGS = Settings(group_instance_id=POD)


class Group:
    """Kafka's group: who was taken out of it."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.is_away = False

    async def take_out(self, settings: Settings, instances: list[str]) -> dict[str, bool]:
        if self.is_away:
            raise Unavailable("Kafka does not answer")
        self.out += instances
        return dict.fromkeys(instances, True)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    made = Group()
    monkeypatch.setattr(scaled_away, "take_out", made.take_out)
    return made


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with kubernetes_api(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("replicas", "first", "leaves"),
    [
        (3, None, False),
        (2, None, True),
        (0, None, True),
        (2, 1, False),
        (1, 1, True),
        (1, 2, False),
    ],
)
async def test_a_pod_without_a_place_leaves(
    api: KubernetesApi, group: Group, replicas: int, first: int | None, leaves: bool
) -> None:
    """Pods are numbered from ``spec.ordinals.start``, zero by default."""
    api.scale("mailpulse-worker", replicas, first)
    assert await leave_if_scaled_away(SETTINGS, api.environ, api.account) is leaves
    assert group.out == ([POD] if leaves else [])


async def test_a_deleted_set_and_a_right_that_is_missing_keep_the_place(
    api: KubernetesApi, group: Group
) -> None:
    """Both are said, with what to do."""
    with capture_logs() as said:
        assert not await leave_if_scaled_away(SETTINGS, api.environ, api.account)
        api.scale("mailpulse-worker", 0)
        api.forbids = True
        assert not await leave_if_scaled_away(SETTINGS, api.environ, api.account)
        api.forbids = False
        (api.account / "token").write_text("another", "utf-8")
        assert not await leave_if_scaled_away(SETTINGS, api.environ, api.account)
    assert [one["reason"].split(" to ")[0] for one in said] == [
        "Kubernetes answers 404", "Kubernetes answers 403", "Kubernetes answers 401"
    ]  # fmt: skip
    assert all("allowed to get its StatefulSet" in one["reason"] for one in said)
    assert group.out == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b'{"spec":null}', b'{"spec":{"replicas":null}}',
             b'{"spec":{"replicas":"few"}}', b'{"spec":{"replicas":1,"ordinals":7}}', b"\xff\xfe"],
)  # fmt: skip
async def test_an_answer_that_is_no_stateful_set_keeps_the_place(
    api: KubernetesApi, group: Group, body: bytes
) -> None:
    """Whatever stands between the pod and the API."""
    api.body = body
    with capture_logs() as said:
        assert not await leave_if_scaled_away(SETTINGS, api.environ, api.account)
    assert [one["log_level"] for one in said] == ["warning"]
    assert group.out == []


async def test_an_api_that_is_not_the_clusters_gets_no_token(
    api: KubernetesApi, group: Group, tmp_path: Path
) -> None:
    """Its certificate is not the authority's."""
    (tmp_path / "other").mkdir()
    with kubernetes_api(tmp_path / "other") as other:
        other.scale("mailpulse-worker", 0)
        with capture_logs() as said:
            assert not await leave_if_scaled_away(SETTINGS, other.environ, api.account)
    assert "CERTIFICATE_VERIFY_FAILED" in said[0]["reason"]
    assert group.out == []


async def test_what_fails_never_fails_a_worker_that_has_ended_in_order(
    api: KubernetesApi, group: Group
) -> None:
    """Kafka away; nobody at the API's address; a certificate or a namespace that is not there."""
    api.scale("mailpulse-worker", 0)
    group.is_away = True
    nobody = {**api.environ, "KUBERNETES_SERVICE_PORT": "1"}
    odd = {**api.environ, "KUBERNETES_SERVICE_PORT": "https"}
    with capture_logs() as said:
        for environ in (api.environ, nobody, odd):
            assert not await leave_if_scaled_away(SETTINGS, environ, api.account)
        for name in ("namespace", "ca.crt"):
            (api.account / name).unlink()
            assert not await leave_if_scaled_away(SETTINGS, api.environ, api.account)
    assert len(said) == 5


@pytest.mark.parametrize("instance", ["", "worker", "compose-worker-", "-1", "a b-1", "../x-1"])
async def test_elsewhere_nobody_is_asked(
    api: KubernetesApi, group: Group, instance: str, tmp_path: Path
) -> None:
    """An instance that is no pod, no Kubernetes, a pod without a token."""
    api.scale("mailpulse-worker", 0)
    with capture_logs() as said:
        own = Settings(group_instance_id=instance)
        assert not await leave_if_scaled_away(own, api.environ, api.account)
        assert not await leave_if_scaled_away(SETTINGS, {}, api.account)
        assert not await leave_if_scaled_away(SETTINGS, api.environ, tmp_path / "nothing")
    assert (said, group.out) == ([], [])


@given(replicas=st.integers(0, 40), first=st.integers(0, 40), extra=st.integers(0, 80))
def test_the_pods_of_a_set_are_as_many_as_it_says(replicas: int, first: int, extra: int) -> None:
    """Brute force: of all numbers from the first on, as many as ``replicas`` have a place."""
    found: dict[str, Any] = {"spec": {"replicas": replicas, "ordinals": {"start": first}}}
    numbers = range(first, first + replicas + extra)
    places = [n for n in numbers if not is_surplus(f"worker-{n}", found)]
    assert places == list(numbers)[:replicas]


def test_a_name_may_hold_numbers_of_its_own() -> None:
    """The last is the pod's."""
    assert stateful_set_of("mail-7-worker-12") == ("mail-7-worker", 12)
    with pytest.raises(ValueError, match="not <StatefulSet>"):
        stateful_set_of("worker")
