"""Names of the static members of a destination's consumer group. Pure."""

from collections.abc import Sequence
from hashlib import sha256

from schemas.settings import Settings


def instance_of(settings: Settings, topics: Sequence[str]) -> str | None:
    """The static membership id, if one is set: another one for other topics.

    A static member that returns is given its former partitions, whatever it subscribes to now
    (KIP-345), and aiokafka refuses partitions of topics that it did not subscribe to.
    """
    if not settings.group_instance_id:
        return None
    return f"{settings.group_instance_id}-{sha256(' '.join(topics).encode()).hexdigest()[:8]}"
