"""Limits of a statement, and what happens to one that exceeds them.

Invariants:
1. Pure: the time comes in as an argument, decisions go out as values.
2. The engine ends a query at its time limit by itself. One that goes on ``KILL_AFTER_S`` longer
   is killed, and killed again until it is gone; so is one whose client went away.
3. A query that goes on ``obey_s_max`` beyond its limit does not obey (tried: a single call of
   ``editDistance`` on long strings looks at nothing until it is done): then the process has to end.
   A client that disconnects does not bring that moment forward.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from analytics.door.canonical import CANONICAL_BYTES_PER_BYTE_MAX, PARSER
from schemas.settings import AnalyticsSettings

KILL_AFTER_S = 0.5
RIGHT = {"final": "1"}
"""Settings without which a query can give a wrong figure: rows that were replaced, and are not
merged yet, must not count. No caller's setting is stronger."""
EXIT_DISOBEYED = 75
"""Exit code of a process that a query did not let go (EX_TEMPFAIL of sysexits.h: try again)."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query of analysts' may use, and how many may run.

    Attributes:
        seconds_max: of running.
        memory_bytes_max: of the engine's memory.
        result_bytes_max: of the result, in its format.
        threads_max: of the engine's threads.
        concurrent_max: queries at once.
        query_bytes_max: of the text of a query.
        unsent_bytes_max: of results that are not read yet, of all queries.
        wait_s_max: longest wait for a place, and for room among the results.
        obey_s_max: from a query's limit to the end of a process that it does not let go.
    """

    seconds_max: int = 30
    memory_bytes_max: int = 1 << 30
    result_bytes_max: int = 256 << 20
    threads_max: int = 1
    concurrent_max: int = 4
    query_bytes_max: int = 256 << 10
    unsent_bytes_max: int = 512 << 20
    wait_s_max: float = 10.0
    obey_s_max: float = 10.0

    def settings(self) -> dict[str, str]:
        """The limits as the engine's settings."""
        return {
            "max_execution_time": str(self.seconds_max),
            "timeout_before_checking_execution_speed": "0",
            "max_memory_usage": str(self.memory_bytes_max),
            "max_threads": str(self.threads_max),
            "os_thread_priority": "10",
            "function_sleep_max_microseconds_per_block": "1000000",
            **RIGHT,
            **self.parser_settings(),
        }

    def parser_settings(self) -> dict[str, str]:
        """Limits of the engine's parser, the same for judging a query and for running it."""
        size = self.query_bytes_max * CANONICAL_BYTES_PER_BYTE_MAX
        return {**PARSER, "max_query_size": str(size)}


def query_limits(settings: AnalyticsSettings) -> QueryLimits:
    """The limits that the settings ask for."""
    return QueryLimits(
        seconds_max=settings.door_query_s_max,
        memory_bytes_max=settings.door_memory_bytes_max,
        result_bytes_max=settings.door_result_bytes_max,
        threads_max=settings.door_threads_max,
        concurrent_max=settings.door_queries_max,
        query_bytes_max=settings.door_query_bytes_max,
        unsent_bytes_max=settings.door_unsent_bytes_max,
        obey_s_max=settings.door_obey_s_max,
    )


class Flag(Protocol):
    """Something that may be set, such as ``threading.Event``."""

    def is_set(self) -> bool:
        """Whether it is."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A statement under way.

    Attributes:
        tag: its name inside the engine (``log_comment``).
        query_id: its name for the client.
        since_s: when it began.
        limit_s: how long it may run.
        gone: set once nobody waits for it any more.
    """

    tag: str
    query_id: str
    since_s: float
    limit_s: float
    gone: Flag


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now.

    Attributes:
        kill: tags of the statements to kill.
        disobeys: the statement for which the process has to end; ``None``: there is none.
    """

    kill: tuple[str, ...] = ()
    disobeys: Running | None = None


def decide(running: Iterable[Running], now_s: float, obey_s_max: float) -> Decision:
    """What becomes of the statements under way (invariants 2 and 3)."""
    kill = []
    for one in running:
        over_s = now_s - one.since_s - one.limit_s
        if over_s > obey_s_max:
            return Decision(disobeys=one)
        if one.gone.is_set() or over_s > KILL_AFTER_S:
            kill.append(one.tag)
    return Decision(kill=tuple(kill))
