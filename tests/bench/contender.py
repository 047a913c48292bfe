"""Runs one contender of the engine bench in a process of its own.

``python -m tests.bench.contender NAME BOOTSTRAP SOURCE COUNT DIR [PARTITIONS]`` prints one JSON
line (``tests.bench.engine_peers.Clock``). With a number of partitions, a peer also merges its
minute counts and publishes rates, as the worker that is shipped does.

Invariant: the garbage collector is set alike for all, as the worker sets its own.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.classify import user_agent
from streams.transport.runner import settle_garbage_collector
from tests.bench.engine_peers import CODEC, Clock, hand_loop, mailpulse
from tests.bench.faust_peer import stock_faust
from tests.bench.quix_peer import quix
from tests.bench.rolling import Rolling

CONTENDERS: dict[str, Callable[..., Any]] = {
    "mailpulse": mailpulse,
    "hand_loop": hand_loop,
    "stock_faust": stock_faust,
    "quix": quix,
}


def main() -> None:
    """Runs the contender named on the command line."""
    name, bootstrap, source, count, directory, *partitions = sys.argv[1:]
    settle_garbage_collector()
    user_agent.load()  # as the worker does at its start: nobody's clock shall run meanwhile
    given = [bootstrap, source, Clock(int(count)), Path(directory)]
    if partitions:
        given += [int(partitions[0]), Rolling(CODEC)]
    work = CONTENDERS[name](*given)
    if asyncio.iscoroutine(work):
        asyncio.run(work)


if __name__ == "__main__":
    main()
