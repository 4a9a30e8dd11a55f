"""Steps: work that is due at a moment of platform time.

A row is claimed under a lease; the step may read positions and the clock, and
ends by submitting a command to the decider, so its effect is guarded there.
A step that is interrupted is claimed again when its lease has run out, and
must be written so that doing it twice has one effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.kit import points
from services.kit.clock import Clock
from services.kit.errors import PharmaLoopError
from services.kit.log import get_logger
from services.kit.metrics import STEP_OVERDUE, Metrics
from services.kit.store.kinds import Get, Plan, Stored, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction, Conflict
from services.kit.work import STEPS, Step, moment_text

_log = get_logger("kit.step")
_POLL_SECONDS = 0.05
_LEASE_SECONDS = 30.0
_MANY = 64


@dataclass(frozen=True)
class Again:
    """The step is not done: run it again after so many wall seconds."""

    wall_seconds: float
    payload: dict[str, str] | None = None


#: Does the work; None when done, Again when it has to wait.
StepFunction = Callable[[Step], Awaitable[Again | None]]


class StepRunner:
    """Runs a service's due steps."""

    def __init__(
        self, store: AsyncStore, clock: Clock, metrics: Metrics, steps: Mapping[str, StepFunction]
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._steps = steps

    async def run(self) -> None:
        """Run what is due, again and again, until cancelled."""
        while True:
            try:
                await self.run_due()
            except PharmaLoopError as error:
                _log.warning("steps not run, trying again", error=str(error))
            await asyncio.sleep(_POLL_SECONDS)

    async def run_due(self) -> int:
        """Run every step that is due and not leased; answers how many."""
        ran = await asyncio.gather(*(self._claim_and_run(row) for row in await self._free()))
        return sum(ran)

    async def _free(self) -> list[Stored[Step]]:
        """Due steps that nobody holds, the oldest first. Those that wait do not hide those behind them."""
        limit = _MANY
        while True:
            due = await self._store.not_after(STEPS, "due", moment_text(self._clock.now()), limit)
            wall = moment_text(self._clock.wall())
            free = [row for row in due if row.state.lease <= wall]
            if len(free) >= _MANY or len(due) < limit:
                self._tell(due)
                return free[:_MANY]
            limit *= 4

    def _tell(self, due: list[Stored[Step]]) -> None:
        overdue = -self._clock.until(datetime.fromisoformat(due[0].state.due)) if due else timedelta()
        self._metrics.set(STEP_OVERDUE, overdue.total_seconds())

    async def _claim_and_run(self, row: Stored[Step]) -> bool:
        until = self._clock.wall() + timedelta(seconds=_LEASE_SECONDS)
        claimed = replace(row.state, lease=moment_text(until), attempts=row.state.attempts + 1)
        if not await self._write(row, claimed):
            return False
        mine = Stored(row.id, row.version + 1, claimed)
        points.reached("step.claimed")
        try:
            again = await self._steps[claimed.step](claimed)
        except Exception as error:  # noqa: BLE001 -- one step's failure must not end the others
            bug = None if isinstance(error, PharmaLoopError) else error
            _log.warning(
                "step failed, trying again",
                step=claimed.step,
                key=claimed.key,
                error=repr(error),
                exc_info=bug,
            )
            again = Again(min(10.0, 0.2 * 2 ** min(claimed.attempts, 6)))
        points.reached("step.ran")
        await self._finish(mine, again)
        points.reached("step.finished")
        return True

    async def _finish(self, mine: Stored[Step], again: Again | None) -> None:
        if again is None:
            await self._write(mine, None)
            return
        wait = moment_text(self._clock.wall() + timedelta(seconds=again.wall_seconds))
        payload = mine.state.payload if again.payload is None else again.payload
        await self._write(mine, replace(mine.state, lease=wait, payload=payload))

    async def _write(self, row: Stored[Step], state: Step | None) -> bool:
        """Change the row if it is still as it was: a row made anew counts its versions anew."""

        async def work(txn: AsyncTransaction) -> bool:
            read = Get(STEPS, row.id)
            found = (await txn.load([read]))[read]
            if not found or found[0] != row:
                return False
            await txn.write(Plan((Write(STEPS, row.id, row.version, row.version + 1, state),), ()))
            return True

        try:
            return await self._store.transact(work)
        except Conflict:
            return False


def due_of(step: Step) -> datetime:
    """The moment of platform time at which the step became due."""
    return datetime.fromisoformat(step.due).astimezone(UTC)
