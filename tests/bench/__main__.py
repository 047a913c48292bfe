"""``python -m tests.bench``: every measurement, on real Kafka, ending in one flat JSON object.

Invariants:
1. A part is a module ``tests/bench/NAME.py`` with ``run(kafka_bootstrap, quick)`` that returns
   figures by name, or yields them as they come. It gets a fresh broker with mailpulse's topics,
   unless it needs none, and stops what it starts.
2. Words go to stderr; the last line of stdout is the JSON object, whatever happened. Its key
   ``compiled`` is 1 if the compiled build was measured, 0 for plain Python.
3. A part that fails fails the run, but not the parts after it; what it has yielded is kept.

Absolute figures move from machine to machine and from run to run: parts report ratios of things
measured side by side wherever they can.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module

from schemas import compiled_build
from streams.broker.config import UNFLUSHED
from tests.live.kafka import Kafka, create_mailpulse_topics
from tests.live.maven import Missing

PARTS = (
    "ingress",
    "engine",
    "meaning",
    "reprocess",
    "hot",
    "snapshots",
    "analytics",
    "alerts",
    "verdicts",
    "silence",
    "deliver",
    "scaling",
)
WITHOUT_BROKER = frozenset(("snapshots", "alerts", "verdicts", "silence", "scaling"))
"""Parts that simulate, measure a disk or start a broker themselves; they are given none."""
OK, FAILED, USAGE = 0, 1, 2


Say = Callable[[str], None]


def say(line: str) -> None:
    """One line of words on stderr."""
    print(line, file=sys.stderr, flush=True)


def say_nothing(_line: str) -> None:
    """With ``--json``."""


def run_part(name: str, bootstrap: str, quick: bool, say: Say) -> Iterator[dict[str, float]]:
    """Runs one part; tells and yields its figures as they come.

    Raises:
        Exception: whatever the part raises.
        TypeError: a figure that is no number.
    """
    say(f"== {name}")
    begun = time.monotonic()
    found = import_module(f"tests.bench.{name}").run(bootstrap, quick)
    for figures in [found] if isinstance(found, dict) else found:
        for key, value in figures.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name}: {key} is {value!r}, no number")
            say(f"{key:40} {value:>16,.4g}")
        yield figures
    say(f"{name}: {time.monotonic() - begun:.0f} s")


@contextmanager
def broker_for(given: str | None) -> Iterator[str]:
    """The bootstrap address of the broker given, or of a fresh one, with mailpulse's topics.

    Raises:
        Missing: no Java or Maven to start one.
    """
    with ExitStack() as stack:
        bootstrap = given or stack.enter_context(Kafka(heap_mb=1024, options=UNFLUSHED)).bootstrap
        create_mailpulse_topics(bootstrap)
        yield bootstrap


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="run this part (may be repeated)"
    )
    parser.add_argument("--quick", action="store_true", help="small inputs: does it run at all?")
    parser.add_argument("--json", action="store_true", help="no words but errors, only the object")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="use this broker; default: start one")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Runs the parts asked for; returns the exit status."""
    arguments = arguments_of(given)
    tell: Say = say_nothing if arguments.json else say
    build = compiled_build.state()
    figures: dict[str, float] = {"compiled": float(build.compiled)}
    failed: list[str] = []
    version = platform.python_version()
    tell(f"{platform.machine()}, {os.cpu_count()} cores, Python {version}, {build}")
    for name in arguments.only or PARTS:
        try:
            needed = nullcontext("") if name in WITHOUT_BROKER else broker_for(arguments.kafka)
            with needed as bootstrap:
                for some in run_part(name, bootstrap, arguments.quick, tell):
                    figures.update(some)
        except Missing as error:
            print(error, file=sys.stderr)
            failed.append(name)
        except Exception:  # invariant 3
            traceback.print_exc()
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    print(json.dumps({key: round(value, 6) for key, value in figures.items()}), flush=True)
    return FAILED if failed else OK


if __name__ == "__main__":
    sys.exit(main())
