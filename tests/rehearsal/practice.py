"""A fault to find and mend by hand: ``make rehearse ARGS="--practise 4"``.

The pipeline runs under traffic, the fault is brought about without being named, and commands are
read line by line, as at the pages: Compose's own, mailpulse's, and a few that stand for an editor.
"""

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping

from tests.live.verdict import verdict_of
from tests.rehearsal.faults import FAULTS, RATE_PER_S, is_calm, log_sizes, seen_at
from tests.rehearsal.stack import Trouble
from tests.rehearsal.story import BACK_S, Rehearsal

HELP = """\
docker compose ps | logs SERVICE | start SERVICE | stop SERVICE | restart SERVICE
docker compose exec SERVICE COMMAND
docker compose run --rm topics | operator COMMAND     such as operator doctor
mailpulse COMMAND                                     the same as operator COMMAND
alerts                                                what Prometheus shows
set SERVICE NAME=VALUE                                a variable of docker-compose.yml
done                                                  mended: doctor is asked, figures are compared
Secrets are in {folder}/secrets."""
_START_S = 20.0


class Session:
    """Somebody at a keyboard.

    Args:
        begins: service -> size of its log at the begin.
    """

    def __init__(self, one: Rehearsal, begins: dict[str, int]) -> None:
        self._one = one
        self._begins = begins

    def act(self, line: str) -> str:
        """Does what a line says; what there is to read then."""
        words = shlex.split(line)
        if words[:2] == ["docker", "compose"]:
            words = words[2:]
        if words[:2] == ["run", "--rm"]:
            words = words[2:]
        first, rest = (words[0], words[1:]) if words else ("", [])
        if first in ("ps", "alerts"):
            return seen_at(self._one, first, self._begins)
        if first in ("operator", "mailpulse", "topics"):
            given = ["topics", "apply"] if first == "topics" else rest
            return self._one.operate(*given)[1]
        if len(rest) and rest[0] in self._one.long_running() and first in self._acts:
            try:
                return self._acts[first](self, rest[0], rest[1:])
            except Trouble as error:
                return str(error)
        return HELP.format(folder=self._one.folder)

    def _logs(self, service: str, _: list[str]) -> str:
        return seen_at(self._one, f"logs {service}", self._begins)[-8_000:]

    def _start(self, service: str, _: list[str]) -> str:
        self._one.stack.start(service)
        self._one.stack.wait([service], BACK_S)
        return f"{service} is healthy"

    def _stop(self, service: str, _: list[str]) -> str:
        return f"{service} ended with {self._one.stack.stop(service)}"

    def _restart(self, service: str, _: list[str]) -> str:
        self._one.stack.stop(service)
        return self._start(service, [])

    def _exec(self, service: str, words: list[str]) -> str:
        return self._one.stack.containers[service].run(words, _START_S)[1]

    def _set(self, service: str, words: list[str]) -> str:
        self._one.stack.stop(service)
        self._one.stack.containers[service].give(dict(word.split("=", 1) for word in words))
        return self._start(service, [])

    _acts: Mapping[str, Callable[["Session", str, list[str]], str]] = {
        "logs": _logs, "start": _start, "stop": _stop, "restart": _restart, "exec": _exec,
        "set": _set,
    }  # fmt: skip


def practise(one: Rehearsal, number: int, lines: Iterator[str] | None = None) -> None:
    """Brings fault ``number`` about and does what is typed until ``done``, or the end of input.

    Args:
        lines: default: standard input.
    """
    typed = iter(sys.stdin) if lines is None else lines

    def meanwhile() -> None:
        session = Session(one, log_sizes(one))
        FAULTS[number - 1].bring(one)
        one.found.tell(f"something is wrong; help: the commands; secrets: {one.folder}/secrets")
        for line in typed:
            if line.strip() == "done":
                break
            print(session.act(line), flush=True)
        wrong = is_calm(one)
        one.found.check("mended", not wrong, wrong)

    async def disturb() -> None:
        await asyncio.to_thread(meanwhile)

    verdict = verdict_of(
        one, one.accounts, seconds=None, rate_per_s=RATE_PER_S, disturb=disturb, tls=one.trust()
    )
    one.found.check("figures agree with what was sent", verdict.exact, str(verdict))
