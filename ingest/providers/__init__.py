"""Every supported provider, by its name in ``mailpulse.toml``.

Invariant: the list is explicit; the directory is not searched for providers.
"""

from collections.abc import Mapping

from ingest import published
from ingest.providers import (
    brevo,
    customer_io,
    elastic_email,
    generic,
    iterable,
    klaviyo,
    loops,
    mailersend,
    mailgun,
    mailjet,
    mailtrap,
    mandrill,
    postal,
    postmark,
    preset,
    resend,
    sendgrid,
    ses,
    sparkpost,
    standard_webhooks,
    unisender_go,
)
from ingest.providers.base import Provider
from schemas.settings import Source

_ALL: tuple[Provider, ...] = (
    sendgrid.PROVIDER,
    mailgun.PROVIDER,
    ses.PROVIDER,
    postmark.PROVIDER,
    mandrill.PROVIDER,
    sparkpost.PROVIDER,
    mailjet.PROVIDER,
    brevo.PROVIDER,
    mailersend.PROVIDER,
    mailtrap.PROVIDER,
    postal.PROVIDER,
    unisender_go.PROVIDER,
    customer_io.PROVIDER,
    klaviyo.PROVIDER,
    iterable.PROVIDER,
    elastic_email.PROVIDER,
    resend.PROVIDER,
    loops.PROVIDER,
    standard_webhooks.PROVIDER,
    generic.PROVIDER,
    *preset.PRESETS,
)

REGISTRY: dict[str, Provider] = {provider.name: provider for provider in _ALL}
"""Value of ``provider`` in mailpulse.toml -> the provider."""


def check_sources(
    sources: Mapping[str, Source], registry: Mapping[str, Provider] = REGISTRY
) -> list[str]:
    """Every problem of the sources' configuration, one line each; empty if there is none.

    That a secret is not set is told by the source itself (``Source.unset``).
    """
    problems: list[str] = []
    for name, source in sources.items():
        provider = registry.get(source.provider)
        if provider is None:
            known = ", ".join(sorted(registry))
            problems.append(f"sources.{name}.provider: no provider {source.provider!r} ({known})")
        elif not source.unset:
            problems += provider.check(source) + published.problems_of(source)
    return problems
