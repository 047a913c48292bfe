"""What ``docker compose up --wait`` does with containers: order, health, restarts, one thread each.

Invariants:
1. A service starts once each service that it needs is in the state that it asks for.
2. A container that ends by itself is started again if its policy says so, after Docker's pauses:
   0.1 s, doubled up to a minute, from the start again once it ran for 10 s.
3. A service is healthy from its first check that passes, and unhealthy after as many failures in a
   row as it allows; one without a check is healthy while it runs.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.rehearsal.container import Container, wait_inside

_PAUSE_S, _PAUSE_S_MAX, _STEADY_S = 0.1, 60.0, 10.0
_ENDS_MAX = 4


class Trouble(RuntimeError):
    """A service did not do what compose asks of it; the end of its log is in the text."""


@dataclass(slots=True)
class State:
    """What is known of a container.

    Attributes:
        code: of the last end; ``None`` before.
        starts: how often it was started.
        failed: checks that failed in a row; ``said``: what the last one printed.
        ends: times in a row that it ended by itself without having been healthy.
        wanted: whether it is to run.
    """

    running: bool = False
    healthy: bool = False
    code: int | None = None
    starts: int = 0
    failed: int = 0
    ends: int = 0
    said: str = ""
    wanted: bool = False
    since: float = field(default_factory=time.monotonic)


class Stack:
    """All containers of a project.

    Args:
        containers: by name.
        tell: called with a line when something happens.
    """

    def __init__(self, containers: Mapping[str, Container], tell: Callable[[str], None]) -> None:
        self.containers = containers
        self.states = {name: State() for name in containers}
        self._tell = tell
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def is_running(self, name: str) -> bool:
        """Whether a service's container runs."""
        return name in self.states and self.states[name].running

    def up(self, timeout_s: float) -> None:
        """Starts everything in order; returns when all are healthy and all jobs have ended with 0.

        Raises:
            Trouble: a job failed, a service ended or is not healthy in time.
        """
        for name in self.containers:
            self.states[name].wanted = True
            thread = threading.Thread(target=self._keep, args=(name,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self.wait(self.containers, timeout_s, patient=False)

    def wait(self, names: Iterable[str], timeout_s: float, *, patient: bool = True) -> None:
        """Waits until services are healthy, or jobs done.

        Args:
            patient: whether one that is called unhealthy may still become healthy.

        Raises:
            Trouble: a job failed, a service keeps ending, or not in time.
        """
        end = time.monotonic() + timeout_s
        for name in names:
            job = self.containers[name].service.is_job
            with self._changed:
                while not (self._is_done(name) if job else self.states[name].healthy):
                    self._check_ends()
                    if time.monotonic() > end or (not patient and self._is_unhealthy(name)):
                        raise self._unhealthy(name)
                    self._changed.wait(1)

    def kill(self, names: Sequence[str], timeout_s: float) -> float:
        """Ends services as a crash does; returns once all are healthy again, with the seconds.

        Raises:
            Trouble: one does not come back.
        """
        began = time.monotonic()
        with self._changed:
            starts = {name: self.states[name].starts for name in names}
        for name in names:
            self.containers[name].kill()
        for name in names:
            with self._changed:
                if not self._changed.wait_for(partial(self._is_newer, name, starts), timeout_s):
                    raise self._trouble(name, "was not started again")
        self.wait(names, timeout_s)
        return time.monotonic() - began

    def _is_newer(self, name: str, starts: Mapping[str, int]) -> bool:
        return self.states[name].starts > starts[name]

    def restart(self, name: str, timeout_s: float) -> int | None:
        """``docker compose restart``; returns the exit code once it is healthy again.

        Raises:
            Trouble: it is not healthy in time.
        """
        code = self.stop(name)
        self.start(name)
        self.wait([name], timeout_s)
        return code

    def start(self, name: str) -> None:
        """Starts a service that was stopped; returns at once."""
        with self._changed:
            self.states[name].wanted, self.states[name].ends = True, 0
            self._changed.notify_all()

    def stop(self, name: str) -> int | None:
        """Stops a service; returns its exit code."""
        state = self.states[name]
        with self._changed:
            state.wanted = False
        code = self.containers[name].stop()
        with self._changed:
            self._changed.wait_for(lambda: not state.running, 10)
        return code

    def down(self) -> dict[str, int | None]:
        """Stops every service after those that need it; exit codes of what still ran."""
        codes: dict[str, int | None] = {}
        left = [name for name in self.containers if self.states[name].running]
        while left:
            needed = {other for one in left for other in self.containers[one].service.needs}
            free = [name for name in left if name not in needed] or left
            for name in free:
                codes[name] = self.stop(name)
            left = [name for name in left if name not in free]
        self._over.set()
        return codes

    def _unhealthy(self, name: str) -> Trouble:
        """Why a service is not healthy: because of itself, or of one that it waits for."""
        needs = self.containers[name].service.needs
        while not self.states[name].running:
            late = [one for one, how in needs.items() if not self._meets(one, how)]
            if not late:
                break
            name, needs = late[0], self.containers[late[0]].service.needs
        return self._trouble(name, f"is not healthy: {self.states[name].said.strip()[-500:]}")

    def _trouble(self, name: str, what: str) -> Trouble:
        return Trouble(f"{name} {what}\n{self.containers[name].process.log_tail(30)}")

    def _check_ends(self) -> None:
        for name, container in self.containers.items():
            state = self.states[name]
            if state.ends >= _ENDS_MAX or (container.service.is_job and state.code):
                raise self._trouble(name, f"ended with {state.code}")

    def _is_done(self, name: str) -> bool:
        return self.states[name].code == 0

    def _is_unhealthy(self, name: str) -> bool:
        state, health = self.states[name], self.containers[name].service.health
        if health is None or not state.running:
            return False
        late = time.monotonic() - state.since > health.start_s
        return not state.healthy and late and state.failed >= health.retries

    def _keep(self, name: str) -> None:
        """The thread of one container (invariants 1 and 2)."""
        container, state = self.containers[name], self.states[name]
        for other, condition in container.service.needs.items():
            with self._changed:
                self._changed.wait_for(partial(self._meets, other, condition))
        pause_s = _PAUSE_S
        while not self._over.is_set():
            with self._changed:
                if not self._changed.wait_for(lambda: state.wanted, 0.5):
                    continue
                state.running, state.since, state.failed = True, time.monotonic(), 0
                container.start()
                state.starts += 1
                self._changed.notify_all()
            self._watch(container, state)
            lasted_s = time.monotonic() - state.since
            with self._changed:
                state.ends = state.ends + 1 if state.wanted and not state.healthy else 0
                state.running = state.healthy = False
                state.code = container.process.returncode
                if not container.service.restarts:
                    state.wanted = False
                again = state.wanted
                self._changed.notify_all()
            if again:
                pause_s = _PAUSE_S if lasted_s > _STEADY_S else pause_s
                self._tell(f"{name} ended with {state.code}, starts again")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _meets(self, name: str, condition: str) -> bool:
        if condition == "service_completed_successfully":
            return self._is_done(name)
        return self.states[name].healthy if condition == "service_healthy" else (
            self.states[name].running
        )  # fmt: skip

    def _watch(self, container: Container, state: State) -> None:
        """Checks a container's health until it ends (invariant 3)."""
        health = container.service.health
        wait_inside(container)
        while container.process.running:
            if health is None:
                self._note(state, True, "")
                time.sleep(0.1)
                continue
            code, said = container.run(health.test, health.timeout_s)
            self._note(state, code == 0, said)
            young = not state.healthy and time.monotonic() - state.since < health.start_s
            due = time.monotonic() + (health.start_every_s if young else health.every_s)
            while container.process.running and time.monotonic() < due:
                time.sleep(0.05)

    def _note(self, state: State, passed: bool, said: str) -> None:
        with self._changed:
            state.failed = 0 if passed else state.failed + 1
            if passed or state.failed >= 3:
                changed = state.healthy != passed
                state.healthy = passed
                if changed:
                    self._changed.notify_all()
            state.said = said
