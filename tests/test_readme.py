"""The pages are correct: generated parts are fresh, commands exist, names are right."""

import os
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from schemas import topics
from schemas.settings import PREFIX, Settings
from streams.cli.main import app
from tests.readme import PAGES, ROOT, SECTIONS, blocks, rendered

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
ALL = "\n".join(TEXTS.values())
FIRST_PAGE_BYTES_MAX = 8_000
PARAGRAPH_WORDS_MAX, ITEM_WORDS_MAX = 80, 40
of_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@of_each_page
def test_generated_sections_are_fresh(page: Path) -> None:
    """Glossary, provider table and queries are those of the code: ``python -m tests.readme``."""
    assert rendered(TEXTS[page]) == TEXTS[page]


def test_every_generated_section_is_on_some_page() -> None:
    """None was lost when sections moved between pages."""
    assert set(re.findall(r"<!-- generated: (\w+) -->", ALL)) == set(SECTIONS)


def test_every_page_is_found_from_the_first() -> None:
    """Directly, or from a page that it names. And the first page is short."""
    first = TEXTS[PAGES[0]]
    assert len(first.encode()) <= FIRST_PAGE_BYTES_MAX
    named = {page for page in PAGES[1:] if f"]({page.relative_to(ROOT)})" in first}
    for page in set(PAGES[1:]) - named:
        relative = os.path.relpath
        assert any(f"]({relative(page, one.parent)})" in TEXTS[one] for one in named), page


@of_each_page
def test_no_paragraph_is_long(page: Path) -> None:
    """Longer ones should be a table, or two paragraphs."""
    text = re.sub(r"```.*?```|<!-- generated.*?<!-- end -->", "", TEXTS[page], flags=re.S)
    for part in re.split(r"\n\n|\n(?=- |\d+\. )", text):
        limit = ITEM_WORDS_MAX if re.match(r"(- |\d+\. )", part) else PARAGRAPH_WORDS_MAX
        assert part.startswith("|") or len(part.split()) <= limit, part


def commands() -> set[tuple[str, ...]]:
    """Every ``mailpulse …`` in code, as its words."""
    found = set()
    for code in re.findall(r"`(mailpulse [^`]+)`", ALL):
        found.add(tuple(shlex.split(code)))
    for block in blocks(ALL):
        if block.language == "sh":
            for line in block.text.splitlines():
                if line.startswith("mailpulse "):
                    found.add(tuple(shlex.split(line.rstrip("&"), comments=True)))
    return found


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_commands_exist(words: tuple[str, ...]) -> None:
    """Each command and option on the pages exists."""
    command = typer.main.get_command(app)
    options: dict[str, bool] = {}
    takes_value = False
    for word in words[1:]:
        if word.startswith("--"):
            assert word in options, f"{' '.join(words)}: no {word}"
            takes_value = options[word]
            continue
        if takes_value:
            takes_value = False
            continue
        inner = getattr(command, "commands", None)
        if inner is None:
            continue  # an argument
        assert word in inner, f"{' '.join(words)}: no command {word}"
        command = inner[word]
        options = {
            name: not getattr(parameter, "is_flag", False)
            for parameter in command.params
            for name in parameter.opts
        }


def test_settings_and_topics_named_are_real() -> None:
    """No setting and no topic is named that does not exist."""
    for name in re.findall(rf"{PREFIX}[A-Z_]+", ALL):
        if name.removeprefix(PREFIX) in ("X", "X_FILE", ""):
            continue
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name
    for name in re.findall(r"email\.[a-z.]+\.v\d", ALL):
        assert name in topics.BY_NAME, name


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@of_each_page
def test_links_and_files_named_exist(page: Path) -> None:
    """Anchors lead to headings, also on other pages, and paths to files."""
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(TEXTS[found]), target
    pattern = r"`((?:schemas|ingest|streams|analytics|tests)/[\w./]+\.\w+)`"
    for path in re.findall(pattern, TEXTS[page]):
        assert (ROOT / path).exists(), path


def test_consumer_examples_are_short() -> None:
    """A consumer fits on a screen."""
    examples = [block for block in blocks(ALL) if block.kind == "consumer"]
    assert [block.name for block in examples] == [
        "aiokafka", "confluent", "opens-python", "opens-typescript",
    ]  # fmt: skip
    assert all(len(block.text.splitlines()) <= 50 for block in examples)
