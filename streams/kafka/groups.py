"""Names of consumer groups that are no role's. Pure."""

from schemas.settings import Settings


def destination_group(settings: Settings, destination: str) -> str:
    """The consumer group of a destination of ``mailpulse deliver``."""
    return f"{settings.deliver_group}-{destination}"
