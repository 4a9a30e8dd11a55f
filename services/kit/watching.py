"""Subscriptions that resume: whoever watches gets the records after a place, and then those that come.

One reader a process follows the ends of the watched topics into rings of recent
records, one for each partition. A subscriber is nothing but a cursor: it takes
from the rings what follows its place, and reads the log itself, in bounded
batches, where a ring does not reach back so far. So who reads slowly holds no
queue and delays nobody, and nobody loses a record.

A record is told once every runner of the service that folds its topic has
folded it: who asks then, sees it. A place is the offset that is taken next;
to a client it is told as the offset before it, as in a receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.bus.protocol import Bus, Partition, Position, Reader, Record
from services.kit.contracts import Contract, Topic
from services.kit.errors import Exhausted, Invalid, OutOfRange, PharmaLoopError, Retryable
from services.kit.facts import vector
from services.kit.log import get_logger
from services.kit.metrics import SUBSCRIPTIONS, Metrics
from services.kit.positions import Positions

_log = get_logger("kit.watching")
#: How often a subscriber hears that its subscription stands.
HEARTBEAT_SECONDS = 5.0
#: What a ring holds at most, by number and by bytes of values.
_RING_RECORDS, _RING_BYTES = 1024, 512 * 1024
#: Records that a subscriber is given at once, by number and by bytes of values (a client takes 4 MB unless
#: told otherwise), and that the reader takes at once.
_BATCH, _BATCH_BYTES = 500, 1_000_000
_TAKE_SECONDS, _READ_SECONDS, _DRAIN_SECONDS = 0.2, 1.0, 0.02
_FOLD_SECONDS, _AGAIN_SECONDS = 0.05, 0.5
#: Subscribers that read the log themselves share so many clients, each for a batch at a time.
_LOG_READERS = 2

Places = dict[Partition, int]


@dataclass(frozen=True)
class Limits:
    """Most subscriptions that stand at once: of the process, and of one actor."""

    process: int = 1000
    actor: int = 100


class Batch(NamedTuple):
    """Records that a subscriber asked for, in order for each partition; none: the subscription stands.

    `lag` is the number of records between the position and the ends.
    """

    records: list[Record]
    position: common.PositionVector
    lag: int


def _bounded(records: list[Record]) -> list[Record]:
    """As many of the records as one batch may hold, and one at least: the others are taken again."""
    size = 0
    for count, record in enumerate(records[:_BATCH]):
        size += len(record.value or b"")
        if count and size > _BATCH_BYTES:
            return records[:count]
    return records[:_BATCH]


class Ring:
    """The recent records of one partition: all from the offset `base` on, up to before `next`."""

    def __init__(self, start: int) -> None:
        self.base = self.next = start
        self._records: deque[Record] = deque()
        self._bytes = 0

    def add(self, record: Record) -> None:
        if record.offset < self.next:
            return  # taken a second time, after a failure
        self._records.append(record)
        self._bytes += len(record.value or b"")
        self.next = record.offset + 1
        while len(self._records) > _RING_RECORDS or self._bytes > _RING_BYTES:
            oldest = self._records.popleft()
            self._bytes -= len(oldest.value or b"")
            self.base = oldest.offset + 1

    def between(self, place: int, until: int) -> list[Record]:
        """Its records from `place`, which is not before `base`, to before `until`; a batch at most."""
        found: list[Record] = []
        for record in reversed(self._records):
            if record.offset < place:
                break
            if record.offset < until:
                found.append(record)
        return found[::-1][:_BATCH]


def owned(contract: Contract, service: str, at_site: bool) -> list[Topic]:
    """Topics that a process of a service tells of; those of sites where it stands at one."""
    return [
        topic
        for topic in contract.topics
        if topic.owner == service and not topic.copies and (at_site or topic.scope != "site")
    ]


class Watching:
    """The subscriptions of one process of a service."""

    def __init__(
        self,
        bus: Bus,
        positions: Positions,
        contract: Contract,
        service: str,
        site: str = "",
        limits: Limits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._bus, self._positions = bus, positions
        self._limits = limits or Limits()
        self._metrics = metrics or Metrics(service)
        #: What the service tells of: topics that it owns, at its own site. Copies are told by their owners.
        self._owned = {
            topic.at(site): frozenset(topic.events) for topic in owned(contract, service, bool(site))
        }
        self._rings: dict[Partition, Ring] = {}
        self._watched: Counter[str] = Counter()
        self._actors: Counter[str] = Counter()
        self._folded: Places = {}
        self._news: asyncio.Future[None] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False
        self._tail_thread = ThreadPoolExecutor(1, "watching-tail")
        self._read_threads = ThreadPoolExecutor(_LOG_READERS, "watching-read")
        self._idle: list[Reader] = []

    @property
    def subscriptions(self) -> int:
        """How many stand."""
        return self._actors.total()

    @property
    def types(self) -> tuple[str, ...]:
        """Every event type that the service tells of."""
        return tuple(sorted({event for events in self._owned.values() for event in events}))

    def topics(self, types: Iterable[str] = (), field: str = "types") -> tuple[str, ...]:
        """The topics of these event types, or all that the service tells of; Invalid for another type."""
        home = {event: topic for topic, events in self._owned.items() for event in events}
        for index, event in enumerate(types := list(types)):
            if event not in home:
                raise Invalid(
                    "UNKNOWN_TYPE",
                    f"this service does not tell of {event!r}; it tells of {', '.join(sorted(home))}",
                    f"{field}[{index}]",
                )
        return tuple(sorted({home[event] for event in types} if types else self._owned))

    async def follow(
        self,
        topics: Iterable[str],
        after: common.PositionVector,
        wanted: Callable[[Record], bool] = lambda record: True,
        *,
        actor: str = "",
        from_start: bool = False,
    ) -> AsyncGenerator[Batch]:
        """The records of the topics after the places, as far as they are wanted, without end.

        A partition that `after` does not name begins with what queries do not show yet, or, with
        `from_start`, at its start. The first batch comes at once and is empty. Raises Invalid for
        a place that cannot be, OutOfRange for one that is not there any more, Exhausted for one
        subscription too many, and Retryable when the service stops.
        """
        topics = tuple(topics)
        self._check_topics(after)
        with self._seat(actor, topics):
            await self._ring(topics)
            places = await self._begin(topics, after, from_start)
            yield self._batch([], places)
            async for batch in self._batches(places, wanted):
                yield batch

    async def _batches(self, places: Places, wanted: Callable[[Record], bool]) -> AsyncIterator[Batch]:
        clock = asyncio.get_running_loop().time
        told = clock()
        while True:
            self._check_open()
            news = self._coming()
            found = _bounded(self._from_rings(places))
            found += _bounded(await self._from_log(places))
            for record in found:
                at = Partition(record.topic, record.partition)
                # Put to the end: next time the others come first, so that none starves.
                places[at] = max(places.pop(at), record.offset + 1)
            chosen = [record for record in found if wanted(record)]
            if chosen or clock() - told >= HEARTBEAT_SECONDS:
                yield self._batch(chosen, places)
                told = clock()
            elif not found:
                behind = any(place < self._rings[at].base for at, place in self._untold(places))
                rest = told + HEARTBEAT_SECONDS - clock()
                await asyncio.wait({news}, timeout=min(rest, _AGAIN_SECONDS) if behind else rest)
            else:
                await asyncio.sleep(0)  # much that is not wanted: others have their turn

    def _batch(self, records: list[Record], places: Places) -> Batch:
        position = vector(Position(*at, place - 1) for at, place in places.items())
        lag = sum(max(0, self._rings[at].next - place) for at, place in places.items())
        return Batch(records, position, lag)

    # -- where a subscriber stands -----------------------------------------

    def _check_topics(self, after: common.PositionVector) -> None:
        for index, given in enumerate(after.positions):
            if given.topic not in self._owned:
                known = ", ".join(sorted(self._owned))
                said = f"this service does not tell of the topic {given.topic!r}; it tells of {known}"
                raise Invalid("UNKNOWN_TOPIC", said, f"after.positions[{index}].topic")
            if given.offset < -1:
                said = "an offset is 0 or more, or -1 before the first record; give back what you were told"
                raise Invalid("NO_OFFSET", said, f"after.positions[{index}].offset")

    async def _begin(self, topics: tuple[str, ...], after: common.PositionVector, from_start: bool) -> Places:
        # Now is what queries show: a record that is in the log and not folded is still to come.
        places = {at: self._until(at) for at in self._rings if at.topic in topics}
        if from_start or any(place < self._rings[at].base for at, place in places.items()):
            starts = await asyncio.to_thread(self._bus.log().starts, topics)
            places = starts if from_start else {at: max(places[at], starts[at]) for at in places}
        given: Places = {}
        for index, place in enumerate(after.positions):
            at = Partition(place.topic, place.partition)
            if place.topic not in topics:
                continue  # of a wider choice: what is not watched has no place
            if at not in places:
                count = sum(1 for known in places if known.topic == place.topic)
                said = f"{place.topic} has no partition {place.partition}; it has {count}, from 0"
                raise Invalid("UNKNOWN_PARTITION", said, f"after.positions[{index}].partition")
            given[at] = place.offset + 1
        await self._check_there(given)
        return places | given

    async def _check_there(self, given: Places) -> None:
        """OutOfRange where the log does not reach to a place, or back to it."""
        if ahead := {at: place for at, place in given.items() if place > self._rings[at].next}:
            ends = await asyncio.to_thread(self._bus.log().ends, {at.topic for at in ahead})
            for at, place in ahead.items():
                if place > ends[at]:
                    said = (
                        f"the position {place - 1} of partition {at.number} of {at.topic} is beyond the end "
                        f"of the log, {ends[at] - 1}: the log was restored; begin anew, without a position"
                    )
                    raise OutOfRange("BEYOND_END", said, "after")
        if old := {at: place for at, place in given.items() if place < self._rings[at].base}:
            await self._check_kept(old)

    async def _check_kept(self, places: Places) -> None:
        starts = await asyncio.to_thread(self._bus.log().starts, {at.topic for at in places})
        for at, place in places.items():
            if place < starts[at]:
                said = (
                    f"the log of partition {at.number} of {at.topic} begins at {starts[at]}, and what came "
                    f"after {place - 1} is not kept any more; begin anew, without a position"
                )
                raise OutOfRange("NOT_KEPT", said, "after")

    # -- what a subscriber is given ----------------------------------------

    def _until(self, at: Partition) -> int:
        """The offset before which a partition may be told."""
        end = self._rings[at].next
        return min(end, self._folded.get(at, 0)) if self._positions.folds(at.topic) else end

    def _untold(self, places: Places) -> list[tuple[Partition, int]]:
        return [(at, place) for at, place in places.items() if place < self._until(at)]

    def _from_rings(self, places: Places) -> list[Record]:
        found: list[Record] = []
        for at, place in self._untold(places):
            if place >= self._rings[at].base and len(found) < _BATCH:
                found += self._rings[at].between(place, self._until(at))
        return found

    async def _from_log(self, places: Places) -> list[Record]:
        """What is older than the rings; a batch at most."""
        behind = {at: place for at, place in self._untold(places) if place < self._rings[at].base}
        if not behind:
            return []
        until = {at: self._until(at) for at in behind}
        loop = asyncio.get_running_loop()
        try:
            records = await loop.run_in_executor(self._read_threads, self._read, behind)
            first: Places = {}
            for record in records:
                first.setdefault(Partition(record.topic, record.partition), record.offset)
            if doubtful := {at: place for at, place in behind.items() if first.get(at) != place}:
                await self._check_kept(doubtful)
        except Retryable as error:
            _log.warning("the log is read again", reason=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
            return []
        return [r for r in records if r.offset < until[Partition(r.topic, r.partition)]]

    def _read(self, places: Places) -> list[Record]:
        """A batch of records from the places on; runs in a thread."""
        try:  # two threads read: between a look and a pop the other may have taken it
            reader = self._idle.pop()
        except IndexError:
            reader = self._bus.reader({})
        try:
            reader.assign(places)
            records = reader.take(_BATCH, _READ_SECONDS)
            with contextlib.suppress(Retryable):  # what came before is good
                while len(records) < _BATCH and (more := reader.take(_BATCH - len(records), _DRAIN_SECONDS)):
                    records += more
        except BaseException:
            reader.close()
            raise
        self._idle.append(reader)
        return records

    # -- who is there ------------------------------------------------------

    @contextlib.contextmanager
    def _seat(self, actor: str, topics: tuple[str, ...]) -> Iterator[None]:
        self._check_open()
        limits = self._limits
        if self._actors[actor] >= limits.actor:
            said = (
                f"{actor!r} has {limits.actor} subscriptions here, which is the most; end one, "
                "or let one subscription serve several readers"
            )
            raise Exhausted("TOO_MANY_OF_ACTOR", said)
        if self.subscriptions >= limits.process:
            said = (
                f"this process has {limits.process} subscriptions, which is the most; ask another process "
                "of the service, or try again later"
            )
            raise Exhausted("TOO_MANY", said)
        self._actors[actor] += 1
        self._watched.update(topics)
        self._metrics.set(SUBSCRIPTIONS, self.subscriptions)
        try:
            yield
        finally:
            self._actors[actor] -= 1
            self._watched.subtract(topics)
            self._actors, self._watched = +self._actors, +self._watched
            for at in [at for at in self._rings if at.topic not in self._watched]:
                del self._rings[at]
            self._metrics.set(SUBSCRIPTIONS, self.subscriptions)
            self._tell()  # who follows may end

    def _check_open(self) -> None:
        if self._closing:
            raise Retryable("this process stops; go on after your last position, here or elsewhere")

    async def _ring(self, topics: tuple[str, ...]) -> None:
        """Have the topics followed: from their ends, where nobody watches them yet."""
        ringed = {at.topic for at in self._rings}
        if fresh := [topic for topic in topics if topic not in ringed]:
            ends = await asyncio.to_thread(self._bus.log().ends, fresh)
            for at, end in ends.items():
                self._rings.setdefault(at, Ring(end))
        if gated := [topic for topic in topics if self._positions.folds(topic)]:
            self._folded |= await self._positions.folded(gated)
        for name, work in (("tail", self._tail), ("folds", self._follow_folds)):
            if name not in self._tasks:
                self._tasks[name] = asyncio.ensure_future(self._until_empty(name, work))

    # -- who follows the log -----------------------------------------------

    def _coming(self) -> asyncio.Future[None]:
        """Done with the next news: records, folds, or the end."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    @property
    def _needed(self) -> bool:
        return bool(self._actors) and not self._closing

    async def _until_empty(self, name: str, work: Callable[[], object]) -> None:
        """Work while somebody watches; what fails is begun again."""
        while self._needed:
            try:
                await work()  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 -- subscribers wait meanwhile, and lose nothing
                known = isinstance(error, PharmaLoopError)
                _log.warning(
                    "following the log failed",
                    work=name,
                    exc_info=None if known else error,
                    reason=str(error),
                )
                await asyncio.sleep(_AGAIN_SECONDS)
        del self._tasks[name]

    async def _tail(self) -> None:
        """Take what comes into the rings."""
        loop = asyncio.get_running_loop()
        reader = await loop.run_in_executor(self._tail_thread, self._bus.reader, {})
        taken: dict[Partition, Ring] = {}
        try:
            while self._needed:
                if taken != self._rings:  # rings are compared by identity: one made anew is another
                    taken = dict(self._rings)
                    starts = {at: ring.next for at, ring in taken.items()}
                    await loop.run_in_executor(self._tail_thread, reader.assign, starts)
                records = await loop.run_in_executor(self._tail_thread, reader.take, _BATCH, _TAKE_SECONDS)
                for record in records:
                    taken[Partition(record.topic, record.partition)].add(record)
                if records:
                    self._tell()
        finally:
            await loop.run_in_executor(self._tail_thread, reader.close)

    async def _follow_folds(self) -> None:
        """Ask how far the runners are while something is not folded."""
        while self._needed:
            news = self._coming()
            open_ = {at.topic for at, ring in self._rings.items() if self._until(at) < ring.next}
            if not open_:
                await news
                continue
            folded = await self._positions.folded(open_)
            if any(self._folded.get(at) != place for at, place in folded.items()):
                self._folded |= folded
                self._tell()
            await asyncio.sleep(_FOLD_SECONDS)

    # -- the end -----------------------------------------------------------

    def close(self) -> None:
        """Take no more subscriptions and end those that stand, so that they go on elsewhere."""
        self._closing = True
        self._tell()

    async def leave(self) -> None:
        """Release the clients; after `close`."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for pool in (self._tail_thread, self._read_threads):
            await asyncio.to_thread(pool.shutdown)
        while self._idle:
            await asyncio.to_thread(self._idle.pop().close)
