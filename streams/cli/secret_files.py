"""``mailpulse config secrets``: the secret files that ``docker-compose.yml`` mounts.

Invariants:
1. Only the owner can enter the folder (0700). What is in it is readable by all, as each container
   runs under a user of its own; whoever puts secrets of sources into it makes them so.
2. Existing files are never replaced: a second run only adds what is missing.
3. ClickHouse gets hashes; only the roles' DSNs hold passwords.
"""

import hashlib
import secrets as chance
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from analytics.operations_tables import HIDDEN, RIGHTS
from streams.cli.context import say
from streams.cli.doctor import config

DSN, READER_DSN = "clickhouse_dsn", "clickhouse_reader_dsn"
READER_PASSWORD = "clickhouse_reader_password"
USERS, GRAFANA, SOURCES = "clickhouse_users.xml", "grafana_password", "sources"
TOKEN = "dashboard_token"

_USERS_XML = """\
<!-- Written by `mailpulse config secrets`; the passwords are in {dsn} and {reader_dsn}. -->
<clickhouse>
    <profiles>
        <mailpulse_reader>
            <readonly>2</readonly>
            <max_execution_time>60</max_execution_time>
            <max_memory_usage>2000000000</max_memory_usage>
            <final>1</final>
            <constraints><final><readonly/></final></constraints>
        </mailpulse_reader>
    </profiles>
    <users>
        <default remove="remove"/>
        <mailpulse>
            <password_sha256_hex>{writer}</password_sha256_hex>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <access_management>1</access_management>
        </mailpulse>
        <mailpulse_reader>
            <password_sha256_hex>{reader}</password_sha256_hex>
            <networks><ip>::/0</ip></networks>
            <profile>mailpulse_reader</profile>
            <quota>default</quota>
            <grants>
                <query>GRANT SELECT, SHOW ON mailpulse.*</query>
{hidden}
            </grants>
        </mailpulse_reader>
    </users>
</clickhouse>
"""


def secret_files(host: str, token: Callable[[], str]) -> dict[str, str]:
    """Name -> content of every file, with fresh passwords. Pure but for ``token``.

    Args:
        host: of ClickHouse, as the roles reach it.
        token: returns a new password that needs no escaping in a URL.
    """
    writer, reader = token(), token()
    hashed = {name: hashlib.sha256(value.encode()).hexdigest()
              for name, value in (("writer", writer), ("reader", reader))}  # fmt: skip
    hidden = "\n".join(
        f"                <query>REVOKE {RIGHTS} ON mailpulse.{table}</query>" for table in HIDDEN
    )
    return {
        DSN: f"http://mailpulse:{writer}@{host}:8123/mailpulse\n",
        READER_DSN: f"http://mailpulse_reader:{reader}@{host}:8123/mailpulse\n",
        READER_PASSWORD: reader + "\n",
        USERS: _USERS_XML.format(dsn=DSN, reader_dsn=READER_DSN, hidden=hidden, **hashed),
        GRAFANA: token() + "\n",
        TOKEN: token() + "\n",
    }


def write_missing(folder: Path, host: str) -> list[str]:
    """Writes the missing files in ``folder`` and returns their names (invariants 1 and 2).

    The files about ClickHouse belong together: if any of them exists, none is written.

    Raises:
        OSError: the folder can't be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / SOURCES).mkdir(exist_ok=True)
    (folder / SOURCES).chmod(0o755)  # whatever the umask
    together = {DSN, READER_DSN, READER_PASSWORD, USERS}
    made = []
    left_alone = {name for name in (*together, GRAFANA, TOKEN) if (folder / name).exists()}
    if left_alone & together:
        left_alone |= together
    for name, content in secret_files(host, lambda: chance.token_urlsafe(24)).items():
        if name in left_alone:
            continue
        (folder / name).write_text(content, encoding="utf-8")
        (folder / name).chmod(0o644)
        made.append(name)
    return made


@config.command("secrets")
def secrets(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")] = Path("secrets"),
    clickhouse_host: Annotated[
        str, typer.Option(help="Host name of ClickHouse for the roles.")
    ] = "clickhouse",
) -> None:
    """Writes the secret files that docker-compose.yml mounts; keeps existing ones.

    Put secrets of sources into FOLDER/sources and refer to them in mailpulse.toml as
    "file:/run/secrets/sources/NAME".
    """
    for name in write_missing(folder, clickhouse_host):
        say(f"made  {folder / name}")
    say(f"Put secrets of your sources into {folder / SOURCES}, readable by all (chmod 644)")


def register(app: typer.Typer) -> None:
    """Does nothing: importing this module adds the command to the group ``config``."""
