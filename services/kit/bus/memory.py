"""The bus in memory, for unit tests and simulation only.

It keeps what the protocols promise (order within a partition, positions,
murmur2 by key) and nothing of a broker's timing, groups or recovery.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

from services.kit.bus.protocol import (
    LARGEST_LETTER_BYTES,
    Failure,
    Outcome,
    Outgoing,
    Partition,
    Position,
    Record,
    size_of,
)
from services.kit.errors import Retryable


def too_large(record: Outgoing) -> Failure | None:
    """What the log refuses for good, as far as this module knows."""
    return Failure("record", "too large") if size_of(record) > LARGEST_LETTER_BYTES else None


def murmur2(data: bytes) -> int:
    """32-bit MurmurHash2 as Kafka's default partitioner uses it (seed 0x9747b28c)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) - len(data) % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


class MemoryBus:
    """Topics as lists. Topics it was not told of have `partitions` partitions."""

    def __init__(self, partitions: int = 2) -> None:
        self._count = partitions
        self.records: dict[Partition, list[Record]] = defaultdict(list)
        self._topics: set[str] = set()
        #: Says why a record is refused; a test may set its own.
        self.refuse: Callable[[Outgoing], Failure | None] = too_large
        self.grown = threading.Condition()
        #: Offset of the oldest record that is kept, where retention removed some; a test sets it.
        self.kept: dict[Partition, int] = defaultdict(int)

    def append(self, record: Outgoing) -> Position:
        number = (murmur2(record.key) & 0x7FFFFFFF) % self._count
        log = self.records[Partition(record.topic, number)]
        self._topics.add(record.topic)
        topic, key, value, headers = record.topic, record.key, record.value, record.headers
        with self.grown:
            log.append(Record(topic, number, len(log), key, value, headers, int(time.time() * 1000)))
            self.grown.notify_all()
            return Position(record.topic, number, len(log) - 1)

    def all(self, topic: str) -> list[Record]:
        """Every record of a topic, by partition and offset."""
        return [r for n in range(self._count) for r in self.records[Partition(topic, n)]]

    def partitions_of(self, topic: str) -> list[Partition]:
        return [Partition(topic, n) for n in range(self._count)]

    def producer(self) -> MemoryProducer:
        return MemoryProducer(self)

    def ordered_producer(self) -> MemoryProducer:
        return MemoryProducer(self)

    def consumer(self, group: str, instance: str) -> MemoryConsumer:
        return MemoryConsumer(self)

    def reader(self, starts: dict[Partition, int]) -> MemoryConsumer:
        reader = MemoryConsumer(self)
        reader.rewind(starts)
        return reader

    def log(self) -> MemoryLog:
        return MemoryLog(self)


class MemoryProducer:
    """Both producers in one: nothing waits here."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        future: Future[list[Position]] = Future()
        outcomes = self.offer(records).result()
        failed = [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]
        if failed:
            future.set_exception(Retryable(f"the log did not take every record: {failed[0]}"))
        else:
            future.set_result([outcome for outcome in outcomes if isinstance(outcome, Position)])
        return future

    def publish_ends(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        published = self.publish(records)
        ends: Future[list[Position]] = Future()

        def reduce(done: Future[list[Position]]) -> None:
            if (error := done.exception()) is not None:
                ends.set_exception(error)
            else:
                ends.set_result(list({at[:2]: at for at in sorted(done.result())}.values()))

        published.add_done_callback(reduce)
        return ends

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        behind: set[tuple[str, bytes]] = set()
        outcomes: list[Outcome] = []
        for record in records:
            place = (record.topic, record.key)
            failure = self._bus.refuse(record)
            if place in behind:
                failure = Failure("nothing", "an earlier record of its key failed")
            if failure is not None:
                behind.add(place)
            outcomes.append(failure or self._bus.append(record))
        future.set_result(outcomes)
        return future

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryConsumer:
    """Is given every partition of its topics at once."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._next: dict[Partition, int] = {}

    def subscribe(
        self,
        topics: Iterable[str],
        start: Callable[[Iterable[Partition]], dict[Partition, int]],
        lost: Callable[[Iterable[Partition]], None],
    ) -> None:
        partitions = [p for topic in topics for p in self._bus.partitions_of(topic)]
        offsets = start(partitions)
        self._next = {p: offsets.get(p, 0) for p in partitions}

    def assign(self, starts: dict[Partition, int]) -> None:
        self._next = dict(starts)

    def take(self, limit: int, timeout: float) -> list[Record]:
        with self._bus.grown:
            self._bus.grown.wait_for(self._any, timeout)
            return self._take(limit)

    def _any(self) -> bool:
        return any(len(self._bus.records[partition]) > offset for partition, offset in self._next.items())

    def _take(self, limit: int) -> list[Record]:
        taken: list[Record] = []
        for partition, offset in self._next.items():
            begin = max(offset, self._bus.kept[partition])  # as "earliest" has it
            fresh = self._bus.records[partition][begin : begin + limit - len(taken)]
            taken += fresh
            self._next[partition] = begin + len(fresh)
        return taken

    def hold(self, seconds: float) -> None:
        time.sleep(seconds)

    def rewind(self, positions: dict[Partition, int]) -> None:
        self._next.update(positions)

    def commit(self, positions: dict[Partition, int]) -> None:
        pass

    def close(self) -> None:
        self._next = {}


class MemoryLog:
    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def starts(self, topics: Iterable[str]) -> dict[Partition, int]:
        return {p: self._bus.kept[p] for topic in topics for p in self._bus.partitions_of(topic)}

    def ends(self, topics: Iterable[str]) -> dict[Partition, int]:
        return {p: len(self._bus.records[p]) for topic in topics for p in self._bus.partitions_of(topic)}
