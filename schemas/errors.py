"""Errors, by whose fault they are and by what happens next.

- ``BadInput``: the sender's fault. Becomes a dead letter or is answered with a 4xx; never retried.
- ``Unavailable``: a peer's temporary fault. Retried with back-off, or answered with a 503.
- ``ConfigError``: the operator's fault. The process ends at start and names every problem.
- anything else is our bug: the process ends and its supervisor restarts it (invariant 8).
"""

from collections.abc import Sequence


class MailpulseError(Exception):
    """Base of every error that mailpulse raises on purpose."""


class BadInput(MailpulseError):
    """Input that fails on every retry.

    Attributes:
        reason: stable code, lower case with underscores, used in metrics and dead letters.
        detail: for a person; never contains a secret or an address.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class DecodeError(BadInput):
    """Bytes that are not a record of the topic: bad framing, unknown schema id, broken Avro."""


class Unavailable(MailpulseError):
    """A peer (Kafka, ClickHouse, registry) is down or too slow; trying again may help."""


class ConfigError(MailpulseError):
    """Settings that can't be used.

    Attributes:
        problems: one line each, starting with the name of the setting.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class NewerRelease(ConfigError):
    """A newer release was at work here, and what it left can't be gone on with by this one.

    No restart of this release helps, so a role ends with the exit code for settings.
    """
