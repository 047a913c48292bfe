"""Kafka and the Java that it runs on, for tests: the product's choice, found by its own code."""

import os
from functools import cache

from schemas.errors import ConfigError, Unavailable
from streams.broker import install
from streams.broker import jars as listing
from streams.broker.install import Software, find_software
from streams.broker.java import Java, find_java
from tests.live.maven import Missing, jars

KAFKA_VERSION_DEFAULT = listing.kafka_version(listing.listed())
KAFKA_VERSION = os.environ.get("MAILPULSE_TEST_KAFKA_VERSION", KAFKA_VERSION_DEFAULT)


@cache
def software(version: str = KAFKA_VERSION) -> Software:
    """Kafka, fetched at first use (43 MB); a version other than the product's comes by Maven.

    Raises:
        Missing: it can't be fetched.
    """
    if version != KAFKA_VERSION_DEFAULT:
        kafka, slf4j = f"{listing.KAFKA}:{version}", "org.slf4j:slf4j-simple:1.7.36"
        folder = jars(f"kafka-{version}", kafka, slf4j)
        return Software(version, f"{folder}/*", str(folder))
    try:
        try:
            return find_software(None, os.environ)
        except ConfigError:
            folder = install.cache_dir(os.environ, version)
            install.install(folder, listing.listed(), install.fetch_from(""), print)
            return find_software(None, os.environ)
    except (ConfigError, Unavailable) as error:
        raise Missing(f"needs Kafka: {error}") from error


@cache
def java() -> Java:
    """The Java that the product would choose here.

    Raises:
        Missing: there is none.
    """
    try:
        return find_java(os.environ)
    except ConfigError as error:
        raise Missing(str(error)) from error
