"""Runs the machines of the loops on faust and says how they fare.

One case topic, one table, effects with fixed ids. The domain machines and the
kit's loop protocol are pure, the order of writes is the kit's loop driver,
faust itself is in `engine`; here they are put together, watched and measured.
A machine that cannot go on stops taking records, acknowledges nothing, and
says why in its status; it must never look alive when it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Partition, Record
from services.kit.clock import wall_now
from services.kit.contracts import OTHER, contract, event_type, short_type
from services.kit.envelope import Event, type_of
from services.kit.errors import PharmaLoopError, Poison, Retryable
from services.kit.ids import derived_id, loop_of
from services.kit.log import get_logger
from services.kit.metrics import (
    DEAD_LETTERS,
    GROUP_LAG,
    HANDLED,
    LOOP_COMMIT_STALLED,
    LOOP_COMMITTED,
    LOOP_RUNS,
    RUNNER_AGE,
    RUNNER_LAG,
    RUNNER_RECORDS,
    RUNNER_UP,
    STAGE_SECONDS,
    STAGE_STALLS,
    WATERMARK_AGE,
    Metrics,
)
from services.kit.runners.batch import RunnerState
from services.kit.runners.behind import Behind
from services.kit.runners.limit import DeadLetterLimit
from services.kit.runners.loop import Effect, Loop, Turn
from services.kit.runners.loop_driver import LoopDriver
from services.kit.settings import KafkaSettings
from services.loops.checks import Needs, check
from services.loops.domain import cases
from services.loops.domain.cases import STAGES
from services.loops.domain.runs import outcome_word, stage_seconds
from services.loops.domain.stages import Happened
from services.loops.engine import APP_ID, Engine
from services.loops.handlers import CASE_TOPIC, DEADLINE_EVENTS, RUN_EVENTS

_log = get_logger("loops.machine")
_LOOK_SECONDS = 0.1
_TELL_SECONDS = 2.0
_SILENT_SECONDS = 5.0


class MachineFailed(PharmaLoopError):
    """faust stopped on its own; the process ends, so that it is started again."""


def _react(case: cases.Case | None, event: Event) -> tuple[cases.Case, list[Effect]]:
    loop = loop_of(event.case)
    happened = Happened(event.id, event.case, event.message, event.time, event.created, event.run)
    state, effects = cases.react(case, loop, happened, lambda trigger: derived_id(f"{loop}-run", trigger))
    return state, [Effect(message, run, seq) for message, run, seq in effects]


#: All loops: they share the case topic, and so one table.
CASES: Loop[cases.Case] = Loop("cases", cases.Case, _react)


@dataclass
class CommitWatch:
    """Sees commits that hang: the committed offset is flat behind what was taken."""

    _committed: int = -1
    _since: float | None = field(default=None)

    def stalled(self, now: float, committed: int, taken: int) -> float:
        """Seconds since the commit last advanced, if more was taken; else 0. Both are offsets, summed."""
        if committed != self._committed or taken <= committed:
            self._committed, self._since = committed, None
        elif self._since is None:
            self._since = now
        return 0.0 if self._since is None else now - self._since


class Machine:
    """Runs a loop in the service's own event loop, on a case topic."""

    #: A loop's table is never made anew beside the live one.
    generation = 1

    def __init__(
        self,
        kafka: KafkaSettings,
        data_dir: Path,
        instance: str,
        prefix: str,
        metrics: Metrics,
        *,
        loop: Loop[Any] = CASES,
        source: str = CASE_TOPIC,
        limit: DeadLetterLimit | None = None,
    ) -> None:
        self.name = f"loops.{loop.name}"
        self.status = RunnerState(self.name)
        self._source = source
        self._kafka = kafka
        self._metrics = metrics
        self._log = KafkaBus(kafka, self.name).log()
        self._partitions = next(t.partitions for t in contract().topics if t.name == CASE_TOPIC)
        self._group = prefix + APP_ID
        self._failure = ""
        self._trouble = ""
        self._commits = CommitWatch()
        self._behind = Behind()
        for name, stages in STAGES.items():
            for stage in stages:
                # A first time that makes the series itself would be no increase of it.
                metrics.add(STAGE_STALLS, 0, loop=name, stage=stage)
        #: Where each partition's commits and its table were at the last look.
        self._looked: dict[int, tuple[int, int]] = {}
        #: The commit of the table's places that is under way.
        self._committing: asyncio.Task[None] | None = None
        #: How many records had been taken at the last look.
        self._counted = 0
        self._engine = Engine(
            kafka,
            data_dir,
            instance,
            prefix,
            source=source,
            table=loop.name,
            partitions=self._partitions,
            on_trouble=self._has_trouble,
        )
        self.app = self._engine.app
        self._driver: LoopDriver[Any] = LoopDriver(loop, self.name, self._engine, self._taken, limit)
        self._engine.consume(loop.name, self._take)
        self._engine.on_assignment(self._driver.revoked, self._driver.assigned)

    @property
    def needs(self) -> Needs:
        """What it needs of Kafka."""
        events = [event_type(cls) for cls in {*RUN_EVENTS, *DEADLINE_EVENTS}]
        outputs = tuple(contract().names_for(events))
        letters = f"{self._source}.dlq"
        return Needs(
            self._source, self._engine.changelog, self._partitions, outputs, self._group, letters=letters
        )

    def positions(self) -> dict[Partition, int]:
        """The offset it takes next, by partition."""
        tracks = self._driver.tracks.items()
        return {Partition(self._source, number): track.next for number, track in tracks if track.known}

    # -- records ----------------------------------------------------------

    async def _take(self, record: Record) -> None:
        """One record. What must not be passed over blocks here, for what returns is acknowledged."""
        try:
            await self._driver.take(record)
        except Exception as error:  # noqa: BLE001 -- faust acknowledges what raises
            await self._block(f"{record.topic}/{record.partition}/{record.offset}: {error}", error)

    async def _block(self, reason: str, error: Exception) -> None:
        self._failure = self._failure or reason
        self._tell_state()
        _log.error("loop stopped", runner=self.name, reason=reason, exc_info=error)
        await asyncio.Event().wait()

    def _taken(self, record: Record, turn: Turn[Any]) -> None:
        """Counts and stage times, once for what really changed."""
        self.status.records += 1
        self._metrics.add(RUNNER_RECORDS, runner=self.name)
        outcome = "done" if turn.letter is None else "dead"
        self._metrics.add(HANDLED, runner=self.name, type=_type(record), outcome=outcome)
        now = wall_now().timestamp()
        self._behind.done((record,), now)
        age = now - record.timestamp_ms / 1000
        self._metrics.observe(RUNNER_AGE, max(0.0, age), runner=self.name)
        if turn.letter is not None:
            self.status.dead_letters += 1
            self._metrics.add(DEAD_LETTERS, runner=self.name, reason=turn.reason)
            where = {"partition": record.partition, "offset": record.offset}
            _log.error("case record dead-lettered", reason=turn.reason, **where)
        if turn.fresh:
            self._measure(turn.effects)

    def _measure(self, effects: tuple[Event, ...]) -> None:
        for effect in effects:
            message: Any = effect.message
            if effect.type.endswith(".StageCompleted"):
                seconds = stage_seconds(message)
                self._metrics.observe(STAGE_SECONDS, seconds, loop=message.loop, stage=message.stage)
            elif effect.type.endswith(".LoopStalled"):
                self._metrics.add(STAGE_STALLS, loop=loop_of(message.case), stage=message.stage)
            elif effect.type.endswith(".LoopClosed"):
                self._metrics.add(LOOP_RUNS, loop=message.loop, outcome=outcome_word(message))

    # -- running ----------------------------------------------------------

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Run until cancelled; `on_ready` is called once the first records can be taken.

        Raises when Kafka is not as it must be, and MachineFailed when faust stops on its own.
        """
        await asyncio.to_thread(check, self._kafka, self.needs)
        watching = asyncio.create_task(self._watch(on_ready))
        try:
            await self.app.start()
            stopped = asyncio.ensure_future(self.app.wait_until_stopped())
            await asyncio.wait({stopped, watching}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if watching.done():
                watching.result()
            raise MachineFailed("the stream worker stopped on its own") from self._engine.crash_reason()
        except Exception as error:
            self._failure = self._failure or repr(error.__cause__ or error)
            raise
        finally:
            for task in filter(None, (watching, self._committing)):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
            self._tell_state(stopped=True)
            await self.app.stop()

    async def _watch(self, on_ready: Callable[[], None]) -> None:
        """Settles what came, mends what was passed over, tells how it fares."""
        told, ready = 0.0, False
        while True:
            self.status.beat = time.monotonic()
            if self._engine.turning() and not self._failure:
                await self._settle()
                if not ready and self.status.state == "running":
                    ready = True
                    on_ready()
            self._tell_state()
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                ends = await self._ask_ends()
                await self._mend(ends)
                self._tell_lag(ends)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _settle(self) -> None:
        for partition, track in self._driver.tracks.items():
            if not track.known:
                try:
                    await self._driver.settle(partition)
                except PharmaLoopError as error:
                    self._failure = self._failure or str(error)
                    _log.error("loop stopped", runner=self.name, reason=self._failure)

    async def _ask_ends(self) -> dict[Partition, int]:
        """The ends of the case topic's partitions; none while Kafka does not tell."""
        try:
            return await asyncio.to_thread(self._log.ends, [self._source])
        except Retryable:
            return {}

    async def _mend(self, ends: dict[Partition, int]) -> None:
        if not self._engine.turning():
            return
        quiet, self._counted = self._counted == self.status.records, self.status.records
        acknowledged = self._engine.acknowledged()
        for partition in self._engine.partitions():
            end = ends.get(Partition(self._source, partition), 0) if quiet else 0
            with contextlib.suppress(Retryable):
                await self._driver.mend(partition, acknowledged.get(partition, 0), end)
        self._catch_up_commits(acknowledged)

    def _catch_up_commits(self, acknowledged: dict[int, int]) -> None:
        """Where commits stood still behind the table since the last look, the table's place is committed."""
        settled = {number: track.next for number, track in self._driver.tracks.items() if track.settled}
        before, self._looked = self._looked, {p: (acknowledged.get(p, 0), at) for p, at in settled.items()}
        stuck = {
            number: settled[number]
            for number, (committed, taken) in before.items()
            if number in settled and committed < taken and acknowledged.get(number, 0) == committed
        }
        if stuck and (self._committing is None or self._committing.done()):
            self._committing = asyncio.create_task(self._commit(stuck))

    async def _commit(self, places: dict[int, int]) -> None:
        """Beside the watch, which must go on: a log that refuses commits may do so for hours."""
        committing = asyncio.ensure_future(self._engine.acknowledge(places))
        try:
            done, _ = await asyncio.wait({committing}, timeout=_SILENT_SECONDS)
            if not done:
                _log.warning("Kafka does not take commits", group=self._group, places=places)
            if await committing:
                _log.info("commits stood still, the table's places are committed", places=places)
        except Exception as error:  # noqa: BLE001 -- tried again at the next look; only lag tools need it
            _log.warning("not committed", error=repr(error))
        finally:
            committing.cancel()

    # -- telling ----------------------------------------------------------

    def _has_trouble(self, trouble: str) -> None:
        self.status.beat = time.monotonic()  # it waits, and is not hung
        if trouble != self._trouble:
            self._trouble = trouble
            self._tell_state()

    def _tell_state(self, stopped: bool = False) -> None:
        if self._failure:
            state, detail = "failed", self._failure
        elif stopped:
            state, detail = "stopped", ""
        elif self._trouble:
            state, detail = "waiting", self._trouble
        elif self._engine.turning() and all(track.known for track in self._driver.tracks.values()):
            state, detail = "running", ""
        else:
            state, detail = "recovering", "reading its table, or between two assignments"
        self.status.state, self.status.detail = state, detail
        self._metrics.set(RUNNER_UP, float(state == "running"), runner=self.name)

    def _tell_lag(self, ends: dict[Partition, int]) -> None:
        acknowledged = self._engine.acknowledged()
        committed = sum(acknowledged.values())
        places = {number: track.next for number, track in self._driver.tracks.items() if track.known}
        behind = sum(max(0, at - acknowledged.get(number, 0)) for number, at in places.items())
        stalled = self._commits.stalled(time.monotonic(), committed, committed + behind)
        self._metrics.set(LOOP_COMMITTED, committed, runner=self.name)
        self._metrics.set(LOOP_COMMIT_STALLED, stalled, runner=self.name)
        self.status.parked = self._driver.parked
        mine, now = self.positions(), wall_now().timestamp()
        if ends:
            self._behind.saw(ends, now)
        lags, stuck = self._behind.look(mine, now)
        lag = lags.get(self._source, 0.0)
        self._metrics.set(GROUP_LAG, lag, group=APP_ID, topic=self._source)
        self._metrics.set(WATERMARK_AGE, stuck, runner=self.name)
        if not ends:
            return
        self.status.lag = sum(max(0, ends[p] - mine[p]) for p in mine if p in ends)
        self._metrics.set(RUNNER_LAG, self.status.lag, runner=self.name)


def _type(record: Record) -> str:
    """The record's event type in short, as far as the contract knows it."""
    try:
        return short_type(contract().class_of(type_of(record)))
    except Poison:
        return OTHER
