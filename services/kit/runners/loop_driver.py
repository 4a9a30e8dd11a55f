"""Drives a loop over a table and a log: the order of steps that loses no effect.

For each record of a partition, each step awaited before the next:

    dead letter, if it is one -> log
    case                      -> table, here
    case                      -> changelog
    each effect               -> log
    next record

A crash, a rebalance or a cancelled handler may fall between any two of them,
so at most the latest record of a partition is in doubt. Therefore a partition
is *settled* before its first record after a start, a rebalance or an
interruption: the case that holds the partition's latest record is written to
the changelog again (the table here may be ahead of it), and its effects due
are sent again, with the same ids. All other cases were confirmed before that
record was taken; only what a former owner wrote late over one of them is
written once more.

Acknowledgements of the stream library are hints. It acknowledges a record
whose handler was cancelled, and one that it skipped during a rebalance; its
committed offset may then be past a record that nobody took. The table knows
better: the next record of a partition is the one after the latest that any
case holds. A record beyond it shows a gap; the driver asks for the missing
ones again, and takes none before them. Where nothing comes any more that
could show a gap, the log's end does.

The driver knows neither faust nor Kafka: `Port` is what it asks of them, and
the tests let a process die between any two calls of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from services.kit import points, tracing
from services.kit.bus.protocol import Outgoing, Record
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.errors import Integrity, PharmaLoopError
from services.kit.log import get_logger
from services.kit.runners.limit import DeadLetterLimit
from services.kit.runners.loop import Loop, Turn, offset_of, parked_of

_log = get_logger("kit.loop")
S = TypeVar("S")


class Lost(PharmaLoopError):
    """The partition is no longer ours: whoever has it now takes its records."""


class Port(Protocol):
    """What a driver asks of the stream library. Calls that wait raise Lost when
    the partition has gone; they do not give up otherwise."""

    def mine(self, partition: int) -> bool:
        """Is the partition assigned to this worker, now?"""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A case of the table."""

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        """Write a case to the table of this worker; nobody else sees it yet."""

    def cases(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """All cases of a partition."""

    def undone(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Cases that the changelog does not end with: a former owner wrote an older one late."""

    async def end(self, partition: int) -> int:
        """The offset after the last record of a partition of the case topic."""

    async def first(self, partition: int, offset: int) -> int:
        """The offset of the first record of a partition of the case topic at or after this one, as the log
        itself tells it: not through the consumer that takes records. The end, where there is none."""

    async def confirm(self, partition: int, key: bytes, value: bytes) -> None:
        """Write a case to the changelog and wait until the log has it."""

    async def send(self, partition: int, record: Outgoing) -> None:
        """Publish and wait until the log has it."""

    async def seek(self, partition: int, offset: int) -> None:
        """Deliver the partition's records from this offset on."""


@dataclass
class Track:
    """How far a partition is: `next` is the record to take, `sought` one that
    came too early and made us ask again, `skipped` the last that came too
    early since, `waited` that a look round found us still asking, `due` the
    record that it found due. `known` means settled once since it was assigned;
    `parked` counts sources by case."""

    next: int = 0
    settled: bool = False
    known: bool = False
    parked: dict[bytes, int] = field(default_factory=dict)
    sought: int | None = None
    skipped: int = -1
    waited: bool = False
    due: int | None = None

    def verdict(self, offset: int) -> Literal["take", "seek", "skip", "look"]:
        """What to do with a record at this offset.

        After a seek, records that were already on their way arrive first, all
        beyond the one that was too early; they are skipped. A first one up to
        it was read again. If it still is beyond `next`, either the log has a
        hole there, or the consumer was sent elsewhere at the same moment, as
        while partitions are handed over: only a look into the log can tell.
        """
        if offset <= self.next:
            self.begin()
            return "take"
        if self.sought is None:
            self.sought = self.skipped = offset
            return "seek"
        if offset <= self.sought:
            self.sought = self.skipped = offset
            return "look"
        self.skipped = offset
        return "skip"

    def begin(self) -> None:
        """Nothing is asked for any more."""
        self.sought, self.waited = None, False

    def passed_over(self, acknowledged: int) -> bool:
        """Must the missing records be asked for, though none has shown the gap? Called now and then."""
        if self.sought is None:
            if acknowledged <= self.next:
                return False
            self.sought = self.skipped = acknowledged - 1
            return True
        again, self.waited = self.waited, not self.waited
        if again:  # nothing came of the last time
            self.sought = max(self.sought, self.skipped)
        return again

    def overdue(self, end: int) -> bool:
        """Did the next record not come since the last look, though the log has it? Called now and then,
        with 0 for the end while other records come: then it waits its turn."""
        due, self.due = self.due, self.next if self.next < end else None
        return due is not None and due == self.due


class LoopDriver(Generic[S]):
    """Takes the records of one loop, one at a time."""

    def __init__(
        self,
        loop: Loop[S],
        runner: str,
        port: Port,
        told: Callable[[Record, Turn[S]], None] = lambda record, turn: None,
        limit: DeadLetterLimit | None = None,
    ) -> None:
        self._loop = loop
        self._runner = runner
        self._port = port
        self._told = told
        self._limit = limit or DeadLetterLimit()
        self._tracks: dict[int, Track] = {}
        self._one_at_a_time = asyncio.Lock()

    def assigned(self, partitions: Iterable[int]) -> None:
        """The partitions are ours and their table is recovered; all of them are in doubt."""
        self._tracks = {partition: Track() for partition in partitions}

    def revoked(self) -> None:
        """No partition is ours until `assigned` is called."""
        self._tracks = {}

    @property
    def tracks(self) -> dict[int, Track]:
        """How far each partition is."""
        return dict(self._tracks)

    @property
    def parked(self) -> int:
        """Sources parked behind a dead letter, over all cases."""
        return sum(sum(track.parked.values()) for track in self._tracks.values())

    async def settle(self, partition: int) -> None:
        """Say again what may not have been heard. Does nothing for a settled partition."""
        async with self._one_at_a_time:
            track = self._tracks.get(partition)
            if track is None:
                return
            try:
                await self._settle(partition, track)
            except Lost:
                _log.info("partition lost before it was settled", partition=partition)

    async def mend(self, partition: int, acknowledged: int, end: int) -> bool:
        """Ask again for records that were acknowledged and not taken, or do not come.

        `end` is the offset after the partition's last record, 0 while other records come.
        """
        async with self._one_at_a_time:
            track = self._tracks.get(partition)
            if track is None or not track.settled:
                return False
            overdue = track.overdue(end)
            if not (track.passed_over(acknowledged) or overdue):
                return False
            await self._ask_again(partition, track, max(acknowledged, end))
            return True

    async def take(self, record: Record) -> None:
        """One record of the case topic. Integrity: nothing more may be taken."""
        async with self._one_at_a_time:
            track = self._tracks.get(record.partition)
            if track is None:
                return  # between two assignments: it will be delivered again
            try:
                await self._settle(record.partition, track)
                match track.verdict(record.offset):
                    case "take":
                        await self._process(track, record)
                    case "seek":
                        await self._ask_again(record.partition, track, record.offset)
                    case "look":
                        await self._look_into_the_log(track, record)
            except Lost:
                _log.info("partition lost in the middle of a record", partition=record.partition)

    async def _look_into_the_log(self, track: Track, record: Record) -> None:
        first = await self._port.first(record.partition, track.next)
        if first < record.offset:
            await self._ask_again(record.partition, track, record.offset)
            return
        _log.warning("the log has a hole", partition=record.partition, after=track.next, until=first)
        track.begin()
        await self._process(track, record)

    async def _ask_again(self, partition: int, track: Track, came: int) -> None:
        place = {"partition": partition, "want": track.next, "came": came}
        _log.warning("records were passed over or do not come, asking again", **place)
        await self._port.seek(partition, track.next)

    async def _settle(self, partition: int, track: Track) -> None:
        if track.settled:
            return
        latest = self._look(partition, track)
        if latest is not None:
            key, value = latest
            case = self._loop.load(value)
            await self._check_end(partition, case.at)
            for undone, held in self._port.undone(partition):
                await self._port.confirm(partition, undone, held)
            await self._port.confirm(partition, key, value)
            await self._send(partition, self._loop.due(case))
            track.next = max(track.next, case.at + 1)
        track.settled = track.known = True

    async def _check_end(self, partition: int, at: int) -> None:
        end = await self._port.end(partition)
        if at >= end:
            raise Integrity(
                f"partition {partition} of the case topic ends at {end}, and the table of {self._runner} has "
                f"taken its record {at}: the topic lost records or was made anew; restore it, or delete the "
                "table too, so that it is made anew: its changelog topic (*-cases-changelog) and the loops' "
                "folder in PHARMALOOP_STATE_DIR"
            )

    def _look(self, partition: int, track: Track) -> tuple[bytes, bytes] | None:
        """The case that holds the partition's latest record; counts what is parked on the way."""
        latest, track.parked = None, {}
        for key, value in self._port.cases(partition):
            if latest is None or offset_of(value) > offset_of(latest[1]):
                latest = (key, value)
            if count := parked_of(value):
                track.parked[key] = count
        return latest

    async def _process(self, track: Track, record: Record) -> None:
        partition, key = record.partition, record.key or b""
        held = self._port.get(partition, key)
        before = self._loop.load(held) if held else None
        span = tracing.process_record(self._runner, record)
        turn = self._loop.take(self._runner, before, record, span.trace)
        if turn.letter is not None:
            self._limit.check([turn.reason], [record])
            await self._port.send(partition, turn.letter)
        self._limit.note([turn.reason or None])
        if not self._port.mine(partition):
            raise Lost(f"partition {partition} went to another worker")
        if turn.case is not before:
            await self._store(track, partition, key, turn)
        else:
            await self._send(partition, turn.effects)
        track.next = max(track.next, record.offset + 1)
        if turn.letter is not None:
            span.fail(turn.reason)
        if turn.fresh or turn.letter is not None:  # a repeat is the work of its first time
            span.end()
        self._told(record, turn)

    async def _store(self, track: Track, partition: int, key: bytes, turn: Turn[S]) -> None:
        value = self._loop.dump(turn.case)
        track.settled = False
        self._port.put(partition, key, value)
        track.parked[key] = len(turn.case.parked)
        points.reached("loop.stored")
        await self._port.confirm(partition, key, value)
        await self._send(partition, turn.effects)
        points.reached("loop.sent")
        track.settled = True

    async def _send(self, partition: int, effects: Iterable[Event]) -> None:
        # One after the other: receivers drop what is not newer than the last they saw.
        for effect in effects:
            topic, _ = contract().route(effect.message)
            await self._port.send(partition, to_record(effect, topic))
