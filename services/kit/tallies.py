"""What stands in a service's rows, told as numbers: read now and then, never when somebody scrapes.

A service says in its `ServiceSpec` how its own rows are counted (`Tally`);
dead letters that wait are counted for every one. Each count is one indexed
query, or a few, every fifteen seconds. Every instance of a service counts the
same rows, so that whoever reads takes the largest, not the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from services.kit.clock import Clock
from services.kit.errors import PharmaLoopError
from services.kit.log import get_logger
from services.kit.metrics import DEAD_LETTERS_OPEN, Metrics
from services.kit.runners.letters import LETTERS
from services.kit.store.protocol import AsyncStore

_log = get_logger("kit.tallies")
_SECONDS = 15.0

#: Counts a service's rows and sets its gauges. It is given the clock because ages are wall time, and
#: rows may hold platform time.
Tally = Callable[[AsyncStore, Clock, Metrics], Awaitable[None]]


async def tally_letters(store: AsyncStore, metrics: Metrics, runners: Iterable[str]) -> None:
    """Count the dead letters of each runner that nobody has settled."""
    for runner in runners:
        waiting = await store.count(LETTERS, {"runner": runner, "waits": True})
        metrics.set(DEAD_LETTERS_OPEN, waiting, runner=runner)


async def keep_telling(
    store: AsyncStore,
    clock: Clock,
    metrics: Metrics,
    runners: Callable[[], Iterable[str]],
    tally: Tally | None,
) -> None:
    """Count until cancelled. While the database does not answer, the numbers stay as they were:
    that it does not is told by readiness."""
    while True:
        try:
            await tally_letters(store, metrics, runners())
            if tally is not None:
                await tally(store, clock, metrics)
        except PharmaLoopError as error:
            _log.warning("rows not counted, trying again", error=str(error))
        except Exception as error:  # noqa: BLE001 -- a count must not end what it counts
            _log.error("rows not counted", exc_info=error)
        await asyncio.sleep(_SECONDS)
