"""The enrich stage with all of its meaning, or with none of it: what meaning costs.

``python -m tests.bench.meaning_worker full|bare BOOTSTRAP COUNT DIR`` reads ``COUNT`` raw events as
the shipped worker does and prints one JSON line (``tests.bench.engine_peers.Clock``).

Invariant of this file: ``bare`` still reads, drops duplicates, learns campaigns, counts, writes
every event and keeps its state. It does not classify bounces, judge opens and clicks, correct
verdicts, look up mailbox provider and client, watch recipients for suppressions, or tell of
engagement. Those functions are replaced in its process; nothing else is.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from schemas.topics import RAW
from streams.classify import actors
from streams.enrich import derive, step
from streams.transport.runner import settle_garbage_collector
from tests.bench.engine_peers import Clock, mailpulse


def take_meaning_away() -> None:
    """Replaces what looks up and judges by constants; raises if a name is gone."""
    replaced: list[tuple[Any, str, Any]] = [
        (derive, "classify_bounce", lambda *_: ("undetermined", "other")),
        (derive, "mailbox_of", lambda *_: "other"),
        (derive, "client_of", lambda _: ("", "", "")),
        (actors, "by_itself", lambda *_: ("machine", "none")),  # so that nobody is told
        (actors, "rejudge", lambda *_: []),
        (step, "_recipient_key", lambda *_: b""),
    ]
    for module, name, stand_in in replaced:
        assert hasattr(module, name), f"{module.__name__}.{name} is gone"
        setattr(module, name, stand_in)


def main() -> None:
    """Runs the variant named on the command line."""
    variant, bootstrap, count, directory = sys.argv[1:]
    if variant == "bare":
        take_meaning_away()
    settle_garbage_collector()
    asyncio.run(mailpulse(bootstrap, RAW, Clock(int(count)), Path(directory)))


if __name__ == "__main__":
    main()
