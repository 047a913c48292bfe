"""The questions before the first event: in a process's one engine, so apart from the others."""

from pathlib import Path

from streams.cli.clickhouse import ask
from tests.analytics.test_queries import QUERIES
from tests.warehouses import migrated_warehouse


def test_every_question_has_an_answer_before_the_first_event(tmp_path: Path) -> None:
    """None of them, or zeros; not an error."""
    with migrated_warehouse(tmp_path) as (opened, _):
        for file in QUERIES:
            for _ in ask(opened.reader_settings, file.read_text("utf-8"), "JSONEachRow").pieces:
                pass
