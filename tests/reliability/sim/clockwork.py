"""Time and coroutines of a simulated world: one thread, and nothing that is not decided by the seed.

Every simulated process has an event loop of its own, which runs only when
the scheduler lets it, and never waits: time passes when the scheduler says
so. Nothing here may look at the machine's clock or start a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from unittest import mock

START = datetime(2026, 3, 1, tzinfo=UTC)
#: Platform seconds in one second of the simulated wall: a follow-up of eight hours is 24.
SPEED = 1200.0


class Crash(BaseException):
    """The process dies here. No Exception on purpose: nothing of the product may survive it."""


class Hung(AssertionError):
    """Something turns for ever without time passing."""


@dataclass
class Time:
    """The wall of the world, in seconds since its start."""

    seconds: float = 0.0
    #: Called when something of the product sleeps in its own thread.
    on_sleep: Callable[[], None] = field(default=lambda: None)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def sleep(self, seconds: float) -> None:
        """What `time.sleep` does in the simulated world."""
        self.seconds += seconds
        self.on_sleep()

    # -- as the platform clock ----------------------------------------------

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds * SPEED)

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def until(self, moment: datetime) -> timedelta:
        return (moment - self.now()) / SPEED

    def milliseconds(self) -> int:
        return int(self.wall().timestamp() * 1000)


class _NoSelector:
    """There is no I/O to wait for."""

    def select(self, timeout: float | None) -> list[Any]:
        return []


class SimLoop(asyncio.BaseEventLoop):
    """The event loop of one simulated process."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self._simulated = time
        self._selector = _NoSelector()
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        return self._simulated.seconds

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """At once and in this thread."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 -- told to who waits, as an executor does
            future.set_exception(error)
        return future

    @property
    def busy(self) -> bool:
        """Is there anything to do now?"""
        ready: Any = self._ready  # type: ignore[attr-defined]
        return bool(ready) or self._due()

    def _due(self) -> bool:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return any(not h.cancelled() and h.when() <= self.time() for h in scheduled)

    @property
    def next_timer(self) -> float | None:
        """When the next timer is due."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return min((h.when() for h in scheduled if not h.cancelled()), default=None)

    def pump(self, turns: int) -> int:
        """Run what is ready, at most so many turns of the loop; answers how many it took."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        done = 0
        try:
            while done < turns and self.busy:
                self._run_once()  # type: ignore[attr-defined]
                done += 1
        finally:
            asyncio._set_running_loop(outer)
        return done


def settle(loop: SimLoop) -> None:
    """Run everything that is ready."""
    if loop.pump(20_000) == 20_000:
        raise Hung("a process turns for ever without time passing")


@contextlib.contextmanager
def simulated(time: Time, rng: Random) -> Iterator[None]:
    """While it holds, the product's own time, sleep and random numbers are the world's."""

    def wall_now() -> datetime:
        return time.wall()

    def monotonic() -> float:
        return time.seconds

    def since_epoch() -> float:
        return time.wall().timestamp()

    def token_hex(count: int = 16) -> str:
        return rng.randbytes(count).hex()

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("time.sleep", time.sleep))
        stack.enter_context(mock.patch("time.monotonic", monotonic))
        stack.enter_context(mock.patch("time.time", since_epoch))
        stack.enter_context(mock.patch("secrets.token_hex", token_hex))
        stack.enter_context(mock.patch("secrets.token_bytes", rng.randbytes))
        stack.enter_context(mock.patch("random.uniform", rng.uniform))
        stack.enter_context(mock.patch("random.random", rng.random))
        for module in _modules_with_wall_now():
            stack.enter_context(mock.patch.object(module, "wall_now", wall_now))
        yield


def _modules_with_wall_now() -> list[Any]:
    names = sorted(name for name in sys.modules if name.startswith("services."))
    return [sys.modules[name] for name in names if hasattr(sys.modules[name], "wall_now")]
