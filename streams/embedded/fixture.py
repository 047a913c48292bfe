"""``mailpulse dev``: Kafka, a schema registry and believable records, for writing consumers.

Invariants:
1. Nothing else of the pipeline runs: no webhooks, no database. Everything listens on 127.0.0.1.
2. Its data directory is its own, so a consumer's mistakes meet no real record.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from starlette.applications import Starlette

from ingest.registry_endpoint import registry_routes
from schemas.cloudevents import ENRICH, cloud_event
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.serving.server import bind, port_of, serving
from schemas.serving.sites import SameSite, Sites
from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.embedded import local_kafka
from streams.embedded.child import Announce, Child, until
from streams.embedded.data_dir import locked
from streams.embedded.fixture_records import Story
from streams.embedded.open_files import allow_open_files
from streams.embedded.ports import Ports
from streams.embedded.role_environ import role_environ
from streams.embedded.stopping import Stop
from streams.kafka import admin
from streams.kafka.clients import producer

BEGUN_MESSAGES = 300
"""Written at once, so that a consumer that reads from the beginning has something to read."""
REGISTRY_PORT = 8081
READY_S = 120.0


async def run(
    settings: Settings,
    environ: Mapping[str, str],
    announce: Announce,
    stop: Stop,
    rate_per_s: float,
) -> None:
    """Runs until it is stopped.

    Args:
        environ: from which the broker's environment is derived.
        announce: called with one line of text for the developer.
        rate_per_s: messages a second, each with one to ten records.

    Raises:
        ConfigError, Unavailable: Kafka is missing, or does not start.
        Stopped: a stop was asked for before it had started.
    """
    allow_open_files()
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(settings.data_dir))
        announce("Starting Kafka …")
        reserved = stack.enter_context(Ports())
        ports = reserved.named(kafka=9092, controller=0)
        broker = _broker(settings, environ, announce, ports)
        stop.kill = partial(broker.kill, for_good=True)
        stack.push_async_callback(broker.stop)
        kafka = settings.model_copy(
            update={
                "kafka_bootstrap": f"127.0.0.1:{ports['kafka']}",
                "kafka_security_protocol": "PLAINTEXT",
                "kafka_replication_factor": 1,
            }
        )
        await stop.unless_asked(_started(broker, kafka))
        codec = Codec()
        sock = bind("127.0.0.1", reserved.free(REGISTRY_PORT))
        registry = SameSite(
            Starlette(routes=[registry_routes(codec.ids)]), Sites.of_listener("127.0.0.1")
        )
        await stack.enter_async_context(serving(registry, sock, name="registry"))
        announce(f"KAFKA={kafka.kafka_bootstrap}")
        announce(f"REGISTRY=http://127.0.0.1:{port_of(sock)}/registry")
        announce(f"Topics: {', '.join(sorted({name.split('.')[-2] for name in BY_NAME}))}")
        announce("One record in ten comes twice, as after a crash: act once per coordinate.")
        announce("Ctrl-C stops it.")
        await _write(kafka, codec, stop.asked, rate_per_s)


def _broker(
    settings: Settings, environ: Mapping[str, str], announce: Announce, ports: Mapping[str, int]
) -> Child:
    logs = settings.data_dir.resolve() / "logs"
    own = role_environ("broker", environ, {})
    program = local_kafka.program(settings, environ, own, ports, logs / "broker.log")
    return Child(program, announce)


async def _started(broker: Child, kafka: Settings) -> None:
    await broker.start()
    if not await until(partial(local_kafka.serves, kafka, created=False), READY_S):
        raise Unavailable("Kafka did not start:\n" + "\n".join(broker.program.tail()))
    await admin.topics_apply(kafka)


async def _write(kafka: Settings, codec: Codec, stop: asyncio.Event, rate_per_s: float) -> None:
    """Writes the story from an hour ago to now, then goes on at its rate."""
    story = Story()
    async with producer(kafka) as client:

        async def message(at_us: int) -> None:
            for one in story.message(at_us):
                schema = BY_NAME[one.topic].schema
                value = None if one.value is None else codec.encode(schema, one.value)
                headers = cloud_event(schema, ENRICH, one.identity, at_us)
                await client.send(
                    one.topic, value, one.key, timestamp_ms=at_us // 1000, headers=headers
                )

        now_us = int(time.time() * 1_000_000)
        step_us = 3_600_000_000 // BEGUN_MESSAGES
        for number in range(BEGUN_MESSAGES, 0, -1):
            await message(now_us - number * step_us)
        await client.flush()
        while not stop.is_set():
            await message(int(time.time() * 1_000_000))
            await client.flush()
            try:
                await asyncio.wait_for(stop.wait(), 1.0 / rate_per_s)
            except TimeoutError:
                continue
