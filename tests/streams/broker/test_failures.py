"""Messages that say why the broker ended; tests/live/test_broker_failures checks that they are
real."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.broker.failures import cause_in

LINES = {
    "org.apache.kafka.common.KafkaException: Socket server failed to bind to 127.0.0.1:58255: "
    "Address already in use.": "port 58255 of 127.0.0.1 is taken",
    "Failed to acquire lock on file .lock in /d/x. A Kafka instance in another process": (
        "another Kafka runs on /d/x;"
    ),
    "java.io.IOException: No space left on device": "the disk is full",
    "java.nio.file.FileSystemException: /d/a: Read-only file system": "read-only",
    "java.io.IOException: Input/output error": "answers with errors",
    "Caused by: java.lang.IllegalArgumentException: No MetadataVersion with feature level 27.": (
        "written by a newer Kafka"
    ),
    "java.lang.NoClassDefFoundError: org/apache/kafka/server/config/ServerConfigs": "jars",
    "Error: Could not find or load main class kafka.Kafka": "jars are missing or damaged",
    "java.lang.UnsupportedClassVersionError: kafka/Kafka has been compiled by a": "too old",
    "Aborting due to java.lang.OutOfMemoryError: Java heap space": "out of its heap",
    "There is insufficient memory for the Java Runtime Environment to continue.": "400 MB",
}


@pytest.mark.parametrize(("line", "said"), LINES.items())
def test_known_cause_is_one_sentence(line: str, said: str) -> None:
    """Among other lines, before and after."""
    sentence = cause_in(["2026-11-26 WARN something", line, "\tat kafka.Kafka.main(Kafka.scala)"])
    assert sentence is not None
    assert said in sentence
    assert "{" not in sentence


def test_last_cause_wins() -> None:
    """The log contains several starts."""
    lines = list(LINES)
    assert "400 MB" in str(cause_in(lines))
    assert "port 58255" in str(cause_in(reversed(lines)))


@given(st.lists(st.text()))
def test_unknown_causes_are_not_guessed_at(lines: list[str]) -> None:
    """Any other text is no cause, and no text breaks the search."""
    if not any(word in line for line in lines for word in ("Error", "space", "memory", "system")):
        assert cause_in(lines) is None
