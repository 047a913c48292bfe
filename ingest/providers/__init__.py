"""Every provider whose webhooks are understood, by its name in ``mailpulse.toml``.

Law: the list is written out here; nothing is found by looking at what lies in the directory.
"""

from ingest.providers import sendgrid
from ingest.providers.base import Provider

_ALL: tuple[Provider, ...] = (sendgrid.PROVIDER,)

REGISTRY: dict[str, Provider] = {provider.name: provider for provider in _ALL}
"""Value of ``provider`` in mailpulse.toml -> the provider."""
