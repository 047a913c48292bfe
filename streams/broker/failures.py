"""Finds in the broker's log why it ended, in one sentence that says what to do. Pure.

Invariant: an unknown cause is not guessed; the caller shows the last lines of the log.

The texts are those of Apache Kafka 4.0 to 4.1 and of OpenJDK 17 to 25, each from a broker that was
made to fail that way (``tests/live/test_broker_failures.py`` does so again).
"""

import re
from collections.abc import Iterable

_INSTALL = "'mailpulse kafka install' fetches them again"

_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"failed to bind to \S+?:(\d+): Address already in use",
        "port {0} of 127.0.0.1 is taken by another program; end that, or start mailpulse again,"
        " which chooses another port",
    ),
    (
        r"Failed to acquire lock on file \.lock in (.+?)\. A Kafka instance",
        "another Kafka runs on {0}; stop it, or choose another directory with --data-dir",
    ),
    (
        r"No space left on device",
        "the disk is full; free some space: nothing that was acknowledged is lost",
    ),
    (
        r"Read-only file system",
        "the disk is read-only, often after an error of its own; mount it writable again",
    ),
    (r"Input/output error", "the disk answers with errors; nothing acknowledged was lost by Kafka"),
    (
        r"No MetadataVersion with feature level (\d+)",
        "the data directory was written by a newer Kafka; use that one again",
    ),
    (
        r"NoClassDefFoundError|ClassNotFoundException|zip END header not found"
        r"|Error opening zip file|Could not find or load main class",
        f"jars are missing or damaged; {_INSTALL}",
    ),
    (r"UnsupportedClassVersionError", "this Java is too old for Kafka; it needs 17 or newer"),
    (
        r"java\.lang\.OutOfMemoryError",
        "Kafka ran out of its heap; more was sent at once than a laptop is sized for",
    ),
    (
        r"insufficient memory for the Java Runtime|Could not reserve enough space",
        "this machine has not enough free memory for Kafka (400 MB)",
    ),
    (
        r"Could not create the Java Virtual Machine",
        "this Java does not take Kafka's options; set JAVA_HOME to an OpenJDK 17 to 25",
    ),
)


def cause_in(lines: Iterable[str]) -> str | None:
    """The sentence for the last known cause in ``lines`` of a log; ``None``: there is none."""
    found: str | None = None
    for line in lines:
        for pattern, sentence in _CAUSES:
            match = re.search(pattern, line)
            if match is not None:
                found = sentence.format(*match.groups())
                break
    return found
