"""A Kafka of the simulated world: partitions, groups, and a producer that may fail.

It keeps what a broker promises (order within a partition, one owner of a
partition in a group who is alive) and breaks what it does not: how much a
consumer is given and from where, when a producer is answered, who owns what.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random

from services.kit.bus.memory import murmur2
from services.kit.bus.protocol import Failure, Outcome, Outgoing, Partition, Position, Reader, Record
from services.kit.errors import Retryable
from tests.reliability.sim.clockwork import Time
from tests.reliability.sim.stores import Weather

_PARTITIONS = 2
Start = Callable[[Iterable[Partition]], dict[Partition, int]]
Lost = Callable[[Iterable[Partition]], None]


class Log:
    """All topics."""

    def __init__(self, time: Time, rng: Random) -> None:
        self.records: dict[Partition, list[Record]] = defaultdict(list)
        self.groups: dict[str, Group] = {}
        self.sending: list[Sending] = []
        self.rng = rng
        self._time = time

    def append(self, record: Outgoing) -> Position:
        number = (murmur2(record.key) & 0x7FFFFFFF) % _PARTITIONS
        log = self.records[Partition(record.topic, number)]
        at = self._time.milliseconds()
        log.append(Record(record.topic, number, len(log), record.key, record.value, record.headers, at))
        return Position(record.topic, number, len(log) - 1)

    def repeat(self, record: Record) -> None:
        """The same record once more, at a new offset, as a relay may publish a row again."""
        self.append(Outgoing(record.topic, record.key or b"", record.value, record.headers))

    def partitions_of(self, topic: str) -> list[Partition]:
        return [Partition(topic, n) for n in range(_PARTITIONS)]

    def starts(self, topics: Iterable[str]) -> dict[Partition, int]:
        return {p: 0 for topic in topics for p in self.partitions_of(topic)}

    def ends(self, topics: Iterable[str]) -> dict[Partition, int]:
        return {p: len(self.records[p]) for topic in topics for p in self.partitions_of(topic)}

    def all(self) -> list[Record]:
        """Every record, by topic, partition and offset."""
        return [record for partition in sorted(self.records) for record in self.records[partition]]

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(self.rng))


@dataclass
class Sending:
    """Records that a producer has in flight, and what becomes of them."""

    log: Log
    records: Sequence[Outgoing]
    process: str
    answer: Future[list[Outcome]] = field(default_factory=Future)

    def arrive(self) -> None:
        self.log.sending.remove(self)
        self._tell([self.log.append(record) for record in self.records])

    def fail(self, rng: Random) -> None:
        """Of every partition, a part from the front arrives; the client hears which."""
        self._tell(self.drop(rng))

    def drop(self, rng: Random) -> list[Outcome]:
        """The same, and nobody hears of it: the client died, or gave it up."""
        self.log.sending.remove(self)
        cut: set[tuple[str, int]] = set()
        outcomes: list[Outcome] = []
        for record in self.records:
            place = (record.topic, (murmur2(record.key) & 0x7FFFFFFF) % _PARTITIONS)
            if place not in cut and rng.random() < 0.5:
                cut.add(place)
            lost = Failure("nothing", "the broker did not take it")
            outcomes.append(lost if place in cut else self.log.append(record))
        return outcomes

    def _tell(self, outcomes: list[Outcome]) -> None:
        if not self.answer.done():
            self.answer.set_result(outcomes)


class SimBus:
    """The log as one process sees it."""

    def __init__(self, log: Log, process: str, weather: Weather) -> None:
        self._log = log
        self._process = process
        self._weather = weather

    def producer(self) -> SimProducer:
        return SimProducer(self._log, self._process, self._weather)

    def ordered_producer(self) -> SimProducer:
        return SimProducer(self._log, self._process, self._weather)

    def consumer(self, group: str, instance: str) -> SimConsumer:
        return SimConsumer(self._log, self._log.group(group), self._weather)

    def reader(self, starts: dict[Partition, int]) -> Reader:
        raise NotImplementedError("nobody reads outside a group in a simulated world")

    def log(self) -> Log:
        return self._log


class SimProducer:
    """Both producers in one: it answers at once, later, or never."""

    def __init__(self, log: Log, process: str, weather: Weather) -> None:
        self._log = log
        self._process = process
        self._weather = weather

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        answer: Future[list[Position]] = Future()

        def told(done: Future[list[Outcome]]) -> None:
            outcomes = done.result()
            stands = [one for one in outcomes if isinstance(one, Position)]
            if answer.done():
                return
            if len(stands) < len(outcomes):
                answer.set_exception(Retryable("the broker did not take all of it"))
            else:
                answer.set_result(stands)

        self.offer(records).add_done_callback(told)
        return answer

    def publish_ends(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        """Every position: its caller keeps the last of each partition."""
        return self.publish(records)

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        self._weather.alive()
        sending = Sending(self._log, list(records), self._process)
        earlier = any(other.process == self._process for other in self._log.sending)
        self._log.sending.append(sending)
        if earlier or self._weather.strikes("slow broker"):
            return sending.answer
        if self._weather.strikes("publish fails"):
            sending.fail(self._log.rng)
        else:
            sending.arrive()
        return sending.answer

    def abandon(self) -> None:
        """What is on its way may arrive, in part; the rest never will."""
        for sending in [one for one in self._log.sending if one.process == self._process]:
            sending.drop(self._log.rng)

    def close(self) -> None:
        pass


class Group:
    """Who of a group's members reads which partition."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.members: list[SimConsumer] = []
        self.wanted: dict[Partition, SimConsumer] = {}
        self.balanced = False

    def join(self, member: SimConsumer) -> None:
        self.members.append(member)
        self.balance()

    def leave(self, member: SimConsumer) -> None:
        if member in self.members:
            self.members.remove(member)
        member.owned = {}
        self.balance()

    def balance(self) -> None:
        """Give every partition to some member; nobody may own it while another does."""
        partitions = sorted({p for member in self.members for p in member.partitions})
        self.wanted = {p: self._rng.choice(self.members) for p in partitions}
        self.balanced = False

    def settle(self) -> None:
        """Note whether everybody owns what they shall."""
        self.balanced = all(p in member.owned for p, member in self.wanted.items()) and not any(
            member.owned.keys() - self.wanted.keys() for member in self.members
        )

    def evict(self, member: SimConsumer) -> None:
        """The broker has not heard of a member for a session: others get what it had."""
        others = [other for other in self.members if other is not member]
        if others:
            member.evicted = True
            member.ghost, member.owned = member.owned, {}
            self.members = others
            self.balance()

    def owner(self, partition: Partition) -> SimConsumer | None:
        return next((member for member in self.members if partition in member.owned), None)


class SimConsumer:
    """One member. Takes what its seed gives it, in order within each partition."""

    def __init__(self, log: Log, group: Group, weather: Weather) -> None:
        self._log = log
        self.group = group
        self._weather = weather
        self._start: Start
        self._lost: Lost
        self.partitions: list[Partition] = []
        #: The next offset of each partition that it owns; what it still believes to own.
        self.owned: dict[Partition, int] = {}
        self.ghost: dict[Partition, int] = {}
        self.evicted = False

    def subscribe(self, topics: Iterable[str], start: Start, lost: Lost) -> None:
        self._start, self._lost = start, lost
        self.partitions = [p for topic in topics for p in self._log.partitions_of(topic)]
        self.group.join(self)

    @property
    def unbalanced(self) -> bool:
        """Has it partitions to give away or to get?"""
        if self.group.balanced and not self.evicted:
            return False
        mine = {p for p, member in self.group.wanted.items() if member is self}
        free = {p for p in mine if self.group.owner(p) is None}
        return self.evicted or bool(self.owned.keys() - mine) or bool(free)

    @property
    def lag(self) -> int:
        records = self._log.records
        return sum(len(records[p]) - offset for p, offset in self.owned.items())

    def take(self, limit: int, timeout: float) -> list[Record]:
        self._rebalance()
        if self._weather.strikes("broker not reached"):
            raise Retryable("the broker is not reached")
        waiting = [p for p in sorted(self.owned) if self.owned[p] < len(self._log.records[p])]
        if self._weather.strikes("part of it"):
            self._log.rng.shuffle(waiting)
            waiting = waiting[: self._log.rng.randint(1, len(waiting))] if waiting else []
            return self._mixed({p: self._log.rng.randint(1, 4) for p in waiting})
        return self._mixed(dict.fromkeys(waiting, limit))

    def _mixed(self, wanted: dict[Partition, int]) -> list[Record]:
        """So many of each; partitions mixed, where the weather mixes."""
        parts = []
        for partition, count in wanted.items():
            offset = self.owned[partition]
            part = self._log.records[partition][offset : offset + count]
            self.owned[partition] = offset + len(part)
            parts.append(part)
        if not self._weather.strikes("mixed"):
            return [record for part in parts for record in part]
        queues = [list(part) for part in parts if part]
        taken = []
        while queues:
            queue = self._log.rng.choice(queues)
            taken.append(queue.pop(0))
            queues = [left for left in queues if left]
        return taken

    def _rebalance(self) -> None:
        if self.group.balanced and not self.evicted:
            return
        if self.evicted:
            gone, self.ghost, self.evicted = list(self.ghost), {}, False
            self._lost(gone)
            self.group.join(self)
        mine = [p for p, member in self.group.wanted.items() if member is self]
        taken = sorted(self.owned.keys() - set(mine))
        if taken:
            self._lost(taken)
            for partition in taken:
                del self.owned[partition]
        free = [p for p in sorted(mine) if p not in self.owned and self.group.owner(p) is None]
        if free:
            offsets = self._start(free)
            self.owned |= {p: offsets.get(p, 0) for p in free}
        self.group.settle()

    def hold(self, seconds: float) -> None:
        """It polls meanwhile: it may lose partitions, and get others."""
        self._rebalance()
        time.sleep(seconds)

    def evict(self) -> None:
        self.group.evict(self)

    def rewind(self, positions: dict[Partition, int]) -> None:
        self.owned.update({p: offset for p, offset in positions.items() if p in self.owned})

    def commit(self, positions: dict[Partition, int]) -> None:
        pass

    def close(self) -> None:
        self.group.leave(self)
