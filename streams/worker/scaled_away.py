"""A worker that Kubernetes takes away for good leaves its group; one that restarts keeps its place.

A pod that is told to end is not told why. Its StatefulSet says it: a pod whose number is not below
``spec.replicas`` won't come back. Kubernetes lowers that number before it ends pods. Without the
answer the worker stays a member until the session time-out, as everywhere else.

Invariants:
1. A worker leaves only when its StatefulSet answers and has no place for it: a drained node, a
   roll-out and a deleted StatefulSet keep it.
2. Nothing here fails a worker that has ended in order.

Sources: Kubernetes' pages «Accessing the Kubernetes API from a Pod» (address, token, certificate)
and «StatefulSets» (pods' numbers, ``spec.ordinals.start``, scaling).
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from schemas.errors import MailpulseError, Unavailable
from schemas.settings import Settings
from streams.kafka.membership import take_out

__all__ = ["ACCOUNT", "is_surplus", "leave_if_scaled_away", "stateful_set_of"]

log = structlog.get_logger(__name__)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's token, the certificate of its API and the pod's namespace."""
ASKED_S_MAX = 5.0
"""Longest time to wait for Kubernetes' API."""
_POD = re.compile(r"([a-z0-9](?:[-.a-z0-9]*[a-z0-9])?)-(\d{1,9})", re.ASCII)


async def leave_if_scaled_away(
    settings: Settings, environ: Mapping[str, str], account: Path = ACCOUNT
) -> bool:
    """Takes this worker out of its group if its StatefulSet has no place for it any more.

    To be called once the worker has ended in order. Never raises: what fails is logged.

    Args:
        settings: ``group_instance_id`` is the name of the pod.
        environ: Kubernetes' ``KUBERNETES_SERVICE_HOST`` and ``…_PORT``.
        account: the folder of the pod's service account; without a token nothing is done.

    Returns:
        Whether the worker was a member and is none now.
    """
    pod, host = settings.group_instance_id, environ.get("KUBERNETES_SERVICE_HOST", "")
    if not (_POD.fullmatch(pod) and host and (account / "token").is_file()):
        return False
    try:
        port = environ.get("KUBERNETES_SERVICE_PORT", "443")
        found = await _stateful_set(pod, f"{_bracketed(host)}:{port}", account)
        if not is_surplus(pod, found):
            return False
        left = (await take_out(settings, [pod]))[pod]
    except MailpulseError as error:
        log.warning(
            "not known whether this worker is taken away: its partitions wait for the session "
            "time-out if it does not come back",
            pod=pod, reason=str(error), session_timeout_ms=settings.session_timeout_ms,
        )  # fmt: skip
        return False
    log.info("left the group: the StatefulSet was made smaller", pod=pod)
    return left


def stateful_set_of(pod: str) -> tuple[str, int]:
    """The name of a pod's StatefulSet and the pod's number in it.

    Raises:
        ValueError: ``pod`` is no pod of a StatefulSet.
    """
    found = _POD.fullmatch(pod)
    if found is None:
        raise ValueError(f"{pod!r} is not <StatefulSet>-<number>")
    return found[1], int(found[2])


def is_surplus(pod: str, stateful_set: Mapping[str, Any]) -> bool:
    """Whether a StatefulSet has no place for a pod of it.

    Args:
        stateful_set: the object as Kubernetes' API gives it.

    Raises:
        Unavailable: it is no StatefulSet.
    """
    try:
        spec = stateful_set["spec"]
        first = (spec.get("ordinals") or {}).get("start") or 0
        return bool(stateful_set_of(pod)[1] >= first + int(spec["replicas"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"Kubernetes' answer is no StatefulSet: {error!r}") from error


async def _stateful_set(pod: str, authority: str, account: Path) -> Mapping[str, Any]:
    import httpx

    name, _ = stateful_set_of(pod)
    try:
        namespace = (account / "namespace").read_text("utf-8").strip()
        token = (account / "token").read_text("utf-8").strip()
        trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
        url = f"https://{authority}/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"
        async with httpx.AsyncClient(
            verify=trusted, timeout=ASKED_S_MAX, trust_env=False
        ) as client:
            answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(
                f"Kubernetes answers {answer.status_code} to GET {url}: the pod's service account "
                "has to be allowed to get its StatefulSet"
            )
        found = answer.json()
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"Kubernetes: {error!r}") from error
    return found if isinstance(found, dict) else {}


def _bracketed(host: str) -> str:
    """``host`` as an address bar has it."""
    return f"[{host}]" if ":" in host else host
