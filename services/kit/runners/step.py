"""Steps: work that is due at a moment of platform time.

A row is claimed under a lease, which is renewed while the step runs; the step
may read positions and the clock, and ends by submitting a command to the
decider, so its effect is guarded there. A step that is interrupted is claimed
again when its lease has run out, and must be written so that doing it twice
has one effect. A slow step must never hold the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.kit import points, tracing
from services.kit.clock import Clock
from services.kit.errors import PharmaLoopError, Retryable
from services.kit.log import get_logger
from services.kit.metrics import FENCED, STEP_OVERDUE, STEP_RUNNING, Metrics
from services.kit.store.kinds import Get, Plan, Stored, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction
from services.kit.work import STEPS, Step, moment_text

_log = get_logger("kit.step")
#: For what becomes due by the clock, and for what another process has committed: while there is work, and
#: when there was none for a while.
_POLL_SECONDS, _QUIET_POLL_SECONDS, _QUIET_SECONDS = 0.2, 0.5, 5.0
#: Commits wake the runner; however many there are, it looks no oftener than this.
_LEAST_SECONDS = 0.004
_TELL_SECONDS = 2.0
_LEASE_SECONDS = 30.0
_RENEW_SECONDS = _LEASE_SECONDS / 3
#: Steps that run in one process at a time; the others wait for their turn, the oldest first.
_AT_ONCE = 64
#: Due rows that are looked at to tell the oldest of each name.
_TOLD = 2000


@dataclass(frozen=True)
class Again:
    """The step is not done: run it again after so many wall seconds."""

    wall_seconds: float
    payload: dict[str, str] | None = None


#: Does the work; None when done, Again when it has to wait.
StepFunction = Callable[[Step], Awaitable[Again | None]]


class StepLost(Retryable):
    """The row is no longer this run's: it was moved, cancelled, or claimed by another process."""


async def progress(payload: dict[str, str]) -> None:
    """Called by a step while it runs: store how far it is, so that a restart goes on from there.

    StepLost when the row is no longer this run's; the step should let it end it.
    """
    await _RUN.get().store_progress(payload)


class _Run:
    """One run of a claimed step."""

    def __init__(self, store: AsyncStore, clock: Clock, mine: Stored[Step]) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self.mine = mine
        self.lost = False

    async def store_progress(self, payload: dict[str, str]) -> None:
        async with self._lock:
            if self.lost or not await self._change(self._leased(replace(self.mine.state, payload=payload))):
                raise StepLost(f"the step {self.mine.id} is no longer this run's")

    async def renew(self) -> bool:
        async with self._lock:
            return await self._change(self._leased(self.mine.state))

    async def finish(self, again: Again | None) -> None:
        async with self._lock:
            if self.lost:
                return
            if again is None:
                await self._change(None)
                return
            wait = moment_text(self._clock.wall() + timedelta(seconds=again.wall_seconds))
            payload = self.mine.state.payload if again.payload is None else again.payload
            await self._change(replace(self.mine.state, lease=wait, payload=payload))

    def _leased(self, state: Step) -> Step:
        return replace(state, lease=_lease_end(self._clock))

    async def _change(self, state: Step | None) -> bool:
        """Change the row if it is still ours."""
        changed = await change(self._store, self.mine, state)
        self.lost = not changed
        if changed and state is not None:
            self.mine = Stored(self.mine.id, self.mine.version + 1, state)
        return changed


_RUN: ContextVar[_Run] = ContextVar("step run")


def _lease_end(clock: Clock) -> str:
    return moment_text(clock.wall() + timedelta(seconds=_LEASE_SECONDS))


async def change(store: AsyncStore, row: Stored[Step], state: Step | None) -> bool:
    """Change a row if it is still as it was: a row made anew counts its versions anew."""

    async def work(txn: AsyncTransaction) -> bool:
        read = Get(STEPS, row.id)
        found = (await txn.load([read]))[read]
        if not found or found[0] != row:
            return False
        await txn.write(Plan((Write(STEPS, row.id, row.version, row.version + 1, state),), ()))
        return True

    return await store.transact(work)


class StepRunner:
    """Runs a service's due steps, each by itself."""

    def __init__(
        self, store: AsyncStore, clock: Clock, metrics: Metrics, steps: Mapping[str, StepFunction]
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._steps = steps
        self._running: dict[asyncio.Task[bool], str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._told = -_TELL_SECONDS
        self._worked = 0.0
        metrics.add(FENCED, 0, part="steps")

    def wake(self) -> None:
        """A commit may have made a step due. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Run what is due, again and again, until cancelled."""
        loop = self._loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await self._start_due()
                    if loop.time() - self._told >= _TELL_SECONDS:
                        self._told = loop.time()
                        await self.tell()
                except PharmaLoopError as error:
                    _log.warning("steps not run, trying again", error=str(error))
                await self._wait()
        finally:
            await self._stop()

    async def _wait(self) -> None:
        await asyncio.sleep(_LEAST_SECONDS)
        quiet = asyncio.get_running_loop().time() - self._worked > _QUIET_SECONDS
        pause = _QUIET_POLL_SECONDS if quiet else _POLL_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause - _LEAST_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    async def _stop(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def run_due(self) -> int:
        """Run every step that is due and not leased, and wait for them; answers how many."""
        await self.tell()
        return sum(await asyncio.gather(*await self._start_due()))

    async def _start_due(self) -> list[asyncio.Task[bool]]:
        """Start what is due, as far as there is room."""
        room = _AT_ONCE - len(self._running)
        rows = await self._free(room) if room > 0 else []
        if rows:
            self._worked = asyncio.get_running_loop().time()
        started = []
        for row in rows:
            task = asyncio.ensure_future(self._claim_and_run(row))
            self._running[task] = row.id
            task.add_done_callback(self._ended)
            started.append(task)
        self._metrics.set(STEP_RUNNING, len(self._running))
        return started

    async def _free(self, room: int) -> list[Stored[Step]]:
        """Due steps that nobody holds, the oldest first."""
        now, wall = moment_text(self._clock.now()), moment_text(self._clock.wall())
        held = set(self._running.values())
        # Those that this process has just begun to claim may still look free.
        rows = await self._store.not_after(STEPS, "due", now, room + len(held), {"lease": wall})
        return [row for row in rows if row.id not in held][:room]

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, StepLost):
                self._metrics.add(FENCED, part="steps")
            # Its row stands, and is claimed again when its lease has run out.
            _log.warning("step not ended, it will run again", error=repr(error))

    async def keep_telling(self) -> None:
        """Measure again and again, until cancelled, in a process that runs no steps; `run` does it too."""
        while True:
            with contextlib.suppress(Retryable):
                await self.tell()
            await asyncio.sleep(_TELL_SECONDS)

    async def tell(self) -> None:
        """Measure the age of the oldest due step of each name."""
        due = await self._store.not_after(STEPS, "due", moment_text(self._clock.now()), _TOLD)
        oldest = {name: 0.0 for name in self._steps}
        for row in reversed(due):
            age = -self._clock.until(datetime.fromisoformat(row.state.due))
            oldest[row.state.step] = age.total_seconds()
        for name, seconds in oldest.items():
            self._metrics.set(STEP_OVERDUE, seconds, step=name)

    async def _claim_and_run(self, row: Stored[Step]) -> bool:
        claimed = replace(row.state, lease=_lease_end(self._clock), attempts=row.state.attempts + 1)
        if not await change(self._store, row, claimed):
            return False
        run = _Run(self._store, self._clock, Stored(row.id, row.version + 1, claimed))
        _RUN.set(run)
        points.reached("step.claimed")
        span = tracing.step(row.state.step, row.state.trace, row.state.after)
        with tracing.inside(span):
            again = await self._attempt(run)
        points.reached("step.ran")
        await run.finish(again)
        points.reached("step.finished")
        if again is not None:
            span.note("pharmaloop.outcome", "again")
        span.end()
        return True

    async def _attempt(self, run: _Run) -> Again | None:
        """Run the function to its end, renewing the lease; what it raises is tried again later."""
        step = run.mine.state
        function = asyncio.ensure_future(self._call(step))
        try:
            await self._keep_leased(run, function)
            return await function
        except asyncio.CancelledError:
            function.cancel()
            await asyncio.gather(function, return_exceptions=True)
            raise
        except Exception as error:  # noqa: BLE001 -- one step's failure must not end the others
            bug = None if isinstance(error, PharmaLoopError) else error
            _log.warning(
                "step failed, trying again", step=step.step, key=step.key, error=repr(error), exc_info=bug
            )
            return Again(min(10.0, 0.2 * 2 ** min(step.attempts, 6)))

    async def _call(self, step: Step) -> Again | None:
        function = self._steps.get(step.step)
        if function is None:
            raise PharmaLoopError(f"nothing runs step {step.step!r}: add it to `steps` of the ServiceSpec")
        return await function(step)

    async def _keep_leased(self, run: _Run, function: asyncio.Future[Again | None]) -> None:
        """Renew the lease until the function is done. One whose row is another run's by now is ended."""
        while not (await asyncio.wait({function}, timeout=_RENEW_SECONDS))[0]:
            try:
                if run.lost or await run.renew():
                    continue
            except Retryable as error:
                _log.warning("lease of a step not renewed", step=run.mine.state.step, error=str(error))
                continue
            if await self._claimed_again(run.mine):
                function.cancel()
                await asyncio.gather(function, return_exceptions=True)
                raise StepLost(f"the step {run.mine.id} was claimed again: this process was paused too long")

    async def _claimed_again(self, mine: Stored[Step]) -> bool:
        """Does another process run it? A row that was moved by the step's own command is none of that."""
        found = await self._store.get(STEPS, mine.id)
        return found is not None and found.state.attempts > mine.state.attempts


def due_of(step: Step) -> datetime:
    """The moment of platform time at which the step became due."""
    return datetime.fromisoformat(step.due).astimezone(UTC)
