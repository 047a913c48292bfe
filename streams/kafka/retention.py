"""Whether topics keep their records for as long as workers need them.

Invariants:
1. State is rebuilt from the enriched topic, so a message that is still remembered must still be
   there: a rebuild without it would count its repeats.
2. A correction reads its raw record again, so the raw topic must hold that for as long as a message
   can be corrected.
3. What can't be known, since the right is missing, is told and refuses nothing.
"""

from collections.abc import Mapping

import structlog

from schemas.errors import ConfigError
from schemas.settings import Settings
from schemas.topics import ENRICHED, RAW, READ_AGAIN
from streams.kafka.admin import configs_of
from streams.kafka.clients import admin_client

log = structlog.get_logger(__name__)

HOUR_MS = 3_600_000
_RAISE = (
    "kafka-configs.sh --bootstrap-server … --entity-type topics --entity-name {topic} --alter"
    " --add-config retention.ms={wanted_ms}"
)


def contradictions(settings: Settings, configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Settings of workers that ask for more than topics keep, one line each. Pure.

    Args:
        configs: settings of topics, as text; of one that is missing nothing is known.
    """
    wanted = {
        ENRICHED: ("MESSAGE_TTL_HOURS", settings.message_ttl_hours, "lost state is rebuilt from"),
        RAW: ("CORRECTION_HOURS", settings.correction_hours, "corrected events are read from"),
    }
    problems = []
    for topic, (name, hours, what_for) in wanted.items():
        kept_ms = int(configs.get(topic, {}).get("retention.ms", -1))
        if 0 <= kept_ms < hours * HOUR_MS:
            problems.append(
                f"MAILPULSE_{name}: {hours} hours, but {topic}, which {what_for} it, keeps records "
                f"for {kept_ms / HOUR_MS:g}: set {kept_ms // HOUR_MS} at most, or "
                + _RAISE.format(topic=topic, wanted_ms=hours * HOUR_MS)
            )
    return problems


def bounded_by_size(configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Topics that lose records before their time once they are large (``retention.bytes``)."""
    return [name for name, config in configs.items() if int(config.get("retention.bytes", -1)) >= 0]


async def check_retention(settings: Settings) -> None:
    """Refuses to start a worker whose settings ask for more than topics keep.

    Raises:
        ConfigError: with every problem.
        Unavailable: no broker answers.
    """
    async with admin_client(settings) as client:
        configs = await configs_of(client, READ_AGAIN)
    if problems := contradictions(settings, configs):
        raise ConfigError(problems)
    unknown = [name for name in READ_AGAIN if "retention.ms" not in configs.get(name, {})]
    if unknown:
        log.warning(
            "how long topics keep records can't be read, and so is not compared with settings: it "
            "takes the right DescribeConfigs", topics=unknown,
        )  # fmt: skip
    for name in bounded_by_size(configs):
        log.warning(
            "the topic also loses records by size: events that are sent again may be counted again "
            "after state is rebuilt", topic=name, retention_bytes=configs[name]["retention.bytes"],
        )  # fmt: skip
