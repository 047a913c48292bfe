"""The README says what is so: generated parts are fresh, commands exist, names are right."""

import re
import shlex

import pytest
import typer.main

from schemas import topics
from schemas.settings import PREFIX, Settings
from streams.cli.main import app
from tests.readme import README, ROOT, blocks, rendered

TEXT = README.read_text(encoding="utf-8")


def test_generated_sections_are_fresh() -> None:
    """Glossary, provider table and queries are those of the code: ``python -m tests.readme``."""
    assert rendered(TEXT) == TEXT


def commands() -> set[tuple[str, ...]]:
    """Every ``mailpulse …`` in code, as its words."""
    found = set()
    for code in re.findall(r"`(mailpulse [^`]+)`", TEXT):
        found.add(tuple(shlex.split(code)))
    for block in blocks(TEXT):
        if block.language == "sh":
            for line in block.text.splitlines():
                if line.startswith("mailpulse "):
                    found.add(tuple(shlex.split(line.rstrip("&"), comments=True)))
    return found


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_commands_exist(words: tuple[str, ...]) -> None:
    """Each command and each option in the README is one that the program has."""
    command = typer.main.get_command(app)
    options: set[str] = set()
    for word in words[1:]:
        if word.startswith("--"):
            assert word in options, f"{' '.join(words)}: no {word}"
            continue
        inner = getattr(command, "commands", None)
        if inner is None:
            continue  # an argument
        assert word in inner, f"{' '.join(words)}: no command {word}"
        command = inner[word]
        options = {name for parameter in command.params for name in parameter.opts}


def test_settings_and_topics_named_are_real() -> None:
    """No setting and no topic is named that does not exist."""
    for name in re.findall(rf"{PREFIX}[A-Z_]+", TEXT):
        if name.removeprefix(PREFIX) in ("X", "X_FILE", ""):
            continue
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name
    for name in re.findall(r"email\.[a-z.]+\.v\d", TEXT):
        assert name in topics.BY_NAME, name


def test_links_and_files_named_exist() -> None:
    """Anchors lead to headings, paths to files."""
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in
               re.findall(r"^#+ (.+)$", TEXT, re.M)}  # fmt: skip
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:schemas|ingest|streams|analytics|tests)/[\w./]+\.\w+)`", TEXT):
        assert (ROOT / path).exists(), path


def test_consumer_examples_are_short() -> None:
    """A consumer fits into 25 lines."""
    examples = [block for block in blocks(TEXT) if block.kind == "consumer"]
    assert [block.name for block in examples] == ["aiokafka", "confluent"]
    assert all(len(block.text.splitlines()) < 25 for block in examples)
