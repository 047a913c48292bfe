"""What names mean to the engine that will run a statement."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What names mean, where a statement will run.

    Attributes:
        database: of names without one, and the one that may be read.
        databases: that the engine has, all of them.
        functions: that the engine knows, in lower case; not the aggregates.
        keywords: every word that the engine's parser knows, in capitals.
    """

    database: str
    databases: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    keywords: frozenset[str] = frozenset()
