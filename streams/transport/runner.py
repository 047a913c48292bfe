"""Runs a ``ChunkApp`` in the running event loop; its Faust settings.

Invariants:
1. SIGTERM and SIGINT end the app in order: flow stopped, checkpoint, commit, group left. That takes
   at most ``grace_s``.
2. The exit code is 0 after a request to stop, and 1 after a failure or when stopping took too long.
   Nothing is checkpointed or committed after a failure.
3. No command line, no logging set-up, no change of directory, which Faust's worker would do: they
   are up to the caller.
"""

import asyncio
import gc
import logging
import signal
import ssl
from typing import Any

from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials

from schemas.addresses import brokers
from schemas.settings import Settings
from streams.transport.app import ChunkApp

__all__ = ["faust_options", "run"]

log = logging.getLogger(__name__)

GRACE_S = 30.0
"""Longest time for an orderly end."""
FETCH_BYTES_MAX = 4 << 20
"""Of one partition in one fetch, compressed, in whole batches; each broker has one in flight."""

_NEVER = 10**12
"""For limits of Faust that must not be reached."""


async def run(
    app: ChunkApp,
    stop: asyncio.Event | None = None,
    *,
    grace_s: float = GRACE_S,
    owns_process: bool = True,
) -> int:
    """Runs the app until it fails, a signal comes or ``stop`` is set; returns the exit code.

    Args:
        app: not started yet.
        stop: set from outside to end the app in order.
        grace_s: longest time for an orderly end. Threads that hang after it are daemons, so the
            process ends.
        owns_process: handle SIGTERM and SIGINT, and tune the garbage collector; off where the
            process is not the app's own, as in tests.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    app.loop = loop
    signals = (signal.SIGTERM, signal.SIGINT) if owns_process else ()
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    if owns_process:
        settle_garbage_collector()
    starting = asyncio.create_task(_start(app), name="start of the app")
    ends = [asyncio.create_task(event.wait()) for event in (stop, app.failed)]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped = await _stop(app, grace_s)
        for number in signals:
            loop.remove_signal_handler(number)
        for task in (starting, *ends):
            task.cancel()
        await asyncio.gather(starting, *ends, return_exceptions=True)
    return 0 if stopped and not app.failed.is_set() else 1


def settle_garbage_collector() -> None:
    """Freezes everything loaded so far, and makes collections rarer.

    Chunks are thousands of small objects that live for some milliseconds. Whenever some of them
    reach the oldest generation, Python would traverse the objects of all modules: measured, a third
    of the transport's CPU, and pauses of 50 to 100 ms. With this, pauses of 20 ms remain.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def _start(app: ChunkApp) -> None:
    try:
        await app.start()
    except Exception as error:
        app.fail(f"the app did not start: {error!r}", error)


async def _stop(app: ChunkApp, grace_s: float) -> bool:
    """Whether the app ended in time. A task that hangs is abandoned."""
    task = asyncio.create_task(app.stop(), name="stop of the app")
    done, _ = await asyncio.wait([task], timeout=grace_s)
    if not done:
        log.error("the app did not stop within %.0f s; the process ends without it", grace_s)
        return False
    if (error := task.exception()) is not None:
        log.error("the app did not stop in order: %r", error)
        return False
    return True


def faust_options(settings: Settings) -> dict[str, Any]:
    """Faust's settings for a ``ChunkApp``, all but its id, which is the consumer group.

    Raises:
        OSError, ssl.SSLError: a certificate file can't be read.
    """
    session_s = settings.session_timeout_ms / 1000
    rebalance_s = settings.rebalance_timeout_ms / 1000
    request_s = settings.kafka_request_timeout_ms / 1000
    return {
        "broker": [f"kafka://{address}" for address in brokers(settings.kafka_bootstrap)],
        "broker_credentials": _credentials(settings),
        # The broker answers a join only when all members have joined: a shorter request time-out
        # would abort a rebalance that is within its limits.
        "broker_request_timeout": max(request_s, session_s, rebalance_s) + 5.0,
        "broker_session_timeout": session_s,
        # A member learns by its next heartbeat that others join or leave, and all wait for it.
        "broker_heartbeat_interval": min(1.0, session_s / 10),
        "broker_rebalance_timeout": rebalance_s,
        "broker_commit_interval": settings.checkpoint_interval_ms / 1000,
        "broker_commit_every": _NEVER,
        "broker_check_crcs": True,
        "broker_max_poll_records": None,
        "consumer_max_fetch_size": FETCH_BYTES_MAX,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.group_instance_id or None,
        "processing_guarantee": "at_least_once",
        "producer_request_timeout": request_s,
        "reply_create_topic": False,
        "store": "memory://",
        "stream_recovery_delay": 0.0,
        "stream_wait_empty": False,  # ``Hooks.on_revoke`` waits instead
        "table_standby_replicas": 0,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
        "autodiscover": False,
    }


def _credentials(settings: Settings) -> Credentials | None:
    options = settings.kafka_client_options()
    context: ssl.SSLContext | None = options.get("ssl_context")
    if tokens := options.get("sasl_oauth_token_provider"):
        return OAuthCredentials(oauth_cb=tokens, ssl_context=context)
    if settings.kafka_security_protocol.startswith("SASL"):
        return SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context=context) if context is not None else None
