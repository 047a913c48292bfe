"""Commands for the broker of the embedded pipeline."""

from typing import Annotated

import typer

from schemas.errors import Unavailable
from streams.cli.context import Json, emit, environ, put, say, settings_of

group = typer.Typer(help="The Kafka that 'up' and 'demo' run.", no_args_is_help=True)


@group.command("install")
def install(
    list_only: Annotated[
        bool, typer.Option("--list", help="Only print the jars with their SHA-256.")
    ] = False,
    json: Json = False,
) -> None:
    """Downloads Apache Kafka's jars (43 MB) from Maven Central and verifies them; once per user.

    Needs neither Java nor Maven. MAILPULSE_MAVEN_URL sets a mirror; with MAILPULSE_KAFKA_HOME set
    to an unpacked Apache archive nothing is downloaded.
    """
    from streams.broker import install as installing
    from streams.broker import jars as listing
    from streams.broker.java import find_java

    given, settings = environ(), settings_of(attach=False)
    jars = listing.listed()
    if list_only:
        for jar in jars:
            put(f"{jar.sha256}  {jar.path}")
        return
    version = listing.kafka_version(jars)
    folder = installing.cache_dir(given, version)
    fetched = 0
    if settings.kafka_home is None:
        fetch = installing.fetch_from(settings.maven_url.get_secret_value())
        try:
            fetched = installing.install(folder, jars, fetch, say)
        except Unavailable as error:
            advice = installing.by_hand(folder, version, len(jars))
            raise Unavailable(f"{error}\n{advice}") from error
    software = installing.find_software(settings.kafka_home, given)
    java = find_java(given)
    if json:
        emit(
            {
                "kafka": software.version,
                "origin": software.origin,
                "fetched": fetched,
                "java": java.version,
                "java_path": str(java.path),
                "java_origin": java.origin,
            }
        )
        return
    say(f"Kafka {software.version} is installed ({software.origin}); it will run on {java}")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(group, name="kafka", rich_help_panel="Start here")
