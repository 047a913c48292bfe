"""Settings: all problems at once, named, and no secret in any message."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from schemas.settings import PREFIX, Settings, load_settings, load_sources, resolve_secret

SECRET = "s3cret-Value-never-shown"


def no_file(path: Path) -> str:
    """A machine without files."""
    raise FileNotFoundError(2, "No such file or directory", str(path))


def holding(content: str | bytes) -> Callable[[Path], str]:
    """A machine on which every file holds ``content``."""

    def read(_: Path) -> str:
        return content.decode() if isinstance(content, bytes) else content

    return read


def problems_of(environ: dict[str, str], **overrides: Any) -> tuple[str, ...]:
    """What ``load_settings`` complains about."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, no_file, **overrides)
    return caught.value.problems


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set."""
    assert load_settings({}, no_file) == Settings()


def test_names_of_other_programs_are_left_alone() -> None:
    """Only our prefix is ours; what tests and sources refer to is no setting."""
    environ = {
        "PATH": "/bin",
        "KAFKA_BOOTSTRAP": "elsewhere:1",
        "MAILPULSE_TEST_X": "1",
        "MAILPULSE_SECRET_NEWS": SECRET,
    }
    assert load_settings(environ, no_file) == Settings()


def test_every_problem_is_named_at_once() -> None:
    """Wrong type, out of range, unknown name, missing file and a clash of two: all in one error."""
    found = problems_of(
        {
            "MAILPULSE_INGEST_PORT": "eighty",
            "MAILPULSE_PARTITIONS": "0",
            "MAILPULSE_LOG_FORMAT": "xml",
            "MAILPULSE_TRUSTED_PROXIES": "10.0.0.0/8,nonsense",
            "MAILPULSE_KAFKA_BOOTSTRAPS": "typing:9092",
            "MAILPULSE_KAFKA_SASL_PASSWORD_FILE": "/run/absent",
            "MAILPULSE_RECIPIENTS": "hashed",
            "MAILPULSE_TLS_CERT_FILE": "/etc/cert.pem",
        }
    )
    assert sorted(line.partition(":")[0] for line in found) == [
        "MAILPULSE_INGEST_PORT",
        "MAILPULSE_KAFKA_BOOTSTRAPS",
        "MAILPULSE_KAFKA_SASL_PASSWORD_FILE",
        "MAILPULSE_LOG_FORMAT",
        "MAILPULSE_PARTITIONS",
        "MAILPULSE_RECIPIENT_HASH_KEY",
        "MAILPULSE_TLS_CERT_FILE",
        "MAILPULSE_TRUSTED_PROXIES",
    ]


SECRET_SETTINGS = sorted(
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
)


ADDRESSES = {
    "clickhouse_dsn": "https://reader:{}@clickhouse.example/mailpulse",
    "rate_limit_url": "redis://user:{}@valkey.example/0",
    "schema_registry_url": "https://user:{}@registry.example",
}
"""Settings that hold a secret within an address."""


@pytest.mark.parametrize("name", SECRET_SETTINGS)
def test_secrets_show_neither_in_problems_nor_in_repr(name: str) -> None:
    """A secret setting stays out of messages, whatever else is wrong."""
    value = ADDRESSES.get(name, "{}").format(SECRET)
    environ = {PREFIX + name.upper(): value, "MAILPULSE_PARTITIONS": "none"}
    assert SECRET not in "\n".join(problems_of(environ))
    environ.pop("MAILPULSE_PARTITIONS")
    settings = load_settings(environ, no_file)
    assert SECRET not in repr(settings) + str(settings.model_dump_json())
    assert SECRET in getattr(settings, name).get_secret_value()


@pytest.mark.parametrize("name", ADDRESSES)
def test_what_is_no_address_is_refused_without_showing_it(name: str) -> None:
    """It may be a password that was put in the wrong place."""
    (problem,) = problems_of({PREFIX + name.upper(): SECRET})
    assert problem.startswith(PREFIX + name.upper())
    assert SECRET not in problem


def test_there_are_secret_settings() -> None:
    """The test above looks at something."""
    assert {"kafka_sasl_password", "recipient_hash_key", "clickhouse_dsn"} <= set(SECRET_SETTINGS)


@given(value=st.text(max_size=20))
def test_no_value_of_a_number_makes_it_crash(value: str) -> None:
    """Any text where a number belongs is a problem of that name, or a number."""
    outcome: object = None
    try:
        outcome = load_settings({"MAILPULSE_PARTITIONS": value}, no_file).partitions
    except ConfigError as error:
        outcome = [line.partition(":")[0] for line in error.problems]
    assert outcome in (["MAILPULSE_PARTITIONS"], as_number(value))


def as_number(text: str) -> float | None:
    """The number that a text is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


def test_a_file_gives_a_setting_without_its_line_end() -> None:
    """``MAILPULSE_X_FILE`` reads ``MAILPULSE_X`` from a file, as mounted secrets are."""
    environ = {"MAILPULSE_KAFKA_SASL_PASSWORD_FILE": "/run/secrets/kafka"}
    settings = load_settings(environ, holding(SECRET + "\n"))
    assert settings.kafka_sasl_password.get_secret_value() == SECRET


def test_a_file_that_is_no_text_is_a_problem() -> None:
    """Binary content is told as a problem, without the content."""
    with pytest.raises(ConfigError, match=r"MAILPULSE_KAFKA_SASL_PASSWORD_FILE.*UTF-8"):
        load_settings({"MAILPULSE_KAFKA_SASL_PASSWORD_FILE": "/k"}, holding(b"\xff\xfe"))


def test_overrides_win_over_the_environment_and_none_is_no_override() -> None:
    """A command-line flag that was not given leaves the environment's value."""
    environ = {"MAILPULSE_PARTITIONS": "7", "MAILPULSE_INGEST_PORT": "1"}
    settings = load_settings(environ, no_file, partitions=9, ingest_port=None)
    assert (settings.partitions, settings.ingest_port) == (9, 1)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"MINUTES_TTL_DAYS": "395"}, True), ({"MINUTES_TTL_DAYS": "396"}, False),
        ({"MINUTES_TTL_DAYS": "0"}, False), ({"EVENTS_TTL_DAYS": "10000"}, False),
        ({"MINUTES_TTL_DAYS": "30", "EVENTS_TTL_DAYS": "31"}, True),
        ({"MINUTES_TTL_DAYS": "30", "EVENTS_TTL_DAYS": "30"}, False),
    ],
)  # fmt: skip
def test_counts_are_kept_no_shorter_than_what_they_count(
    given: dict[str, str], refused: bool
) -> None:
    """Figures of events and of minutes would differ for no reason that anybody sees."""
    environ = {f"MAILPULSE_{name}": value for name, value in given.items()}
    if not refused:
        load_settings(environ, no_file)
        return
    with pytest.raises(ConfigError, match=r"MAILPULSE_MINUTES_TTL_DAYS: .* 0 keeps them for ever"):
        load_settings(environ, no_file)


def test_settings_cannot_be_changed() -> None:
    """What a role started with is what it runs with."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().partitions = 9  # type: ignore[misc]


NEWS = """
[sources.news]
provider = "generic"
secret = ["env:NEW_KEY", "file:/run/old"]
allow_ips = "203.0.113.0/24"
"""


def source_problems(text: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    """What ``load_sources`` complains about."""
    with pytest.raises(ConfigError) as caught:
        load_sources(text, environ or {}, no_file)
    return caught.value.problems


def test_a_source_takes_secrets_from_environment_and_files() -> None:
    """All values of a secret are kept, newest first, and none shows."""
    (news,) = load_sources(NEWS, {"NEW_KEY": "new"}, holding("old\n")).values()
    assert news.secrets("secret") == ("new", "old")
    assert news.allow_ips == ("203.0.113.0/24",)
    assert "new" not in repr(news.secret)


def test_a_public_key_stands_there_or_elsewhere() -> None:
    """As it is, or behind ``file:`` or ``env:`` as secrets are."""
    text = '[sources.news]\nprovider = "sendgrid"\npublic_key = ["MFkw", "file:/k", "env:KEY"]\n'
    (news,) = load_sources(text, {"KEY": "theirs"}, holding("ours\n")).values()
    assert news.public_key == ("MFkw", "ours", "theirs")
    problems = source_problems('[sources.a]\nprovider = "sendgrid"\npublic_key = "env:ABSENT"')
    assert problems == ("sources.a.public_key: environment variable ABSENT is not set",)


def test_every_problem_of_every_source_is_named_at_once() -> None:
    """Two wrong sources, a wrong section, a wrong name: one error with all of it."""
    text = """
    [source.typo]
    [sources."a b"]
    provider = "generic"
    [sources.one]
    provider = "generic"
    secret = "env:ABSENT"
    tolerance_s = -1
    [sources.two]
    colour = "red"
    allow_ips = ["300.0.0.1"]
    """
    assert sorted(line.partition(": ")[0] for line in source_problems(text)) == [
        "source",
        "sources.a b",
        "sources.one.secret",
        "sources.one.tolerance_s",
        "sources.two.allow_ips",
        "sources.two.colour",
        "sources.two.provider",
    ]


@pytest.mark.parametrize(
    "field", ["signing_key", "secret", "username", "password", "token", "api_key"]
)
@pytest.mark.parametrize("typed", [SECRET, f"env:{SECRET}", f"env: {SECRET}"])
def test_a_secret_typed_into_the_file_is_refused_and_not_repeated(field: str, typed: str) -> None:
    """The message says what belongs there, never what stood there."""
    text = f'[sources.news]\nprovider = "generic"\n{field} = "{typed}"\n'
    found = "\n".join(source_problems(text))
    assert f"sources.news.{field}" in found
    assert SECRET not in found


def test_an_empty_secret_is_no_secret() -> None:
    """An empty variable or file would make a signature that anybody can make."""
    assert "not set" in "".join(source_problems(NEWS, {"NEW_KEY": ""}))
    with pytest.raises(ValueError, match="is empty"):
        resolve_secret("file:/run/old", {}, holding(" \n"))


TWO = """
[sources.one]
provider = "generic"
secret = ["env:NEW", "file:/run/old"]
[sources.two]
provider = "generic"
secret = "env:OTHER"
"""


def test_a_secret_that_is_not_set_turns_its_source_off_and_no_other() -> None:
    """Also one of several, and one in an empty file; the reasons name the setting."""
    found = load_sources(TWO, {"OTHER": "s"}, holding(" \n"), whole=False)
    assert found["two"].unset == ()
    assert found["one"].unset == (
        "sources.one.secret: environment variable NEW is not set",
        "sources.one.secret: /run/old is empty",
    )
    with pytest.raises(ConfigError, match="NEW is not set"):
        load_sources(TWO, {"OTHER": "s"}, holding(" \n"))


@pytest.mark.parametrize("line", [
    'secret = "typed"', 'secret = "env:"', 'tolerance_s = -1', 'unset = []', 'unset = ["x"]',
])  # fmt: skip
def test_a_file_that_is_wrong_stays_an_error(line: str) -> None:
    """Nobody can mend it by setting a variable."""
    text = f'[sources.a]\nprovider = "generic"\n{line}\n'
    with pytest.raises(ConfigError):
        load_sources(text, {}, no_file, whole=False)


@pytest.mark.parametrize("text", ["sources = 3", "[sources]\nnews = 3", "= broken", "[sources.a"])
def test_a_misshapen_file_is_a_problem_and_no_crash(text: str) -> None:
    """Whatever stands in the file, the answer is ``ConfigError``."""
    assert source_problems(text)


@given(text=st.text(max_size=60))
def test_any_text_is_sources_or_a_config_error(text: str) -> None:
    """Fuzz: no file content makes loading raise anything else."""
    for candidate in (text, f"[sources.a]\n{text}", f'[sources.a]\nprovider = "{text}"'):
        with contextlib.suppress(ConfigError):
            assert set(load_sources(candidate, {}, no_file)) <= {"a"}


def test_no_sources_is_no_problem() -> None:
    """An empty file has no sources."""
    assert load_sources("", {}, no_file) == {}


def test_a_directory_as_dsn_is_refused_in_words_that_say_what_to_use() -> None:
    """Roles opened it themselves once; now one role does."""
    with pytest.raises(ConfigError) as caught:
        load_settings({"MAILPULSE_CLICKHOUSE_DSN": "chdb:///data/clickhouse"}, no_file)
    [problem] = caught.value.problems
    assert problem.startswith("MAILPULSE_CLICKHOUSE_DSN: ")
    assert "mailpulse warehouse" in problem
    assert "MAILPULSE_WAREHOUSE_DIR" in problem


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "db.example", "::"])
def test_the_sinks_listener_stays_on_this_machine(host: str) -> None:
    """Its token goes over the wire as it is."""
    with pytest.raises(ConfigError, match="MAILPULSE_WAREHOUSE_HOST"):
        load_settings({"MAILPULSE_WAREHOUSE_HOST": host}, no_file)
