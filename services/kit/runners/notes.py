"""What a batch runner keeps for itself, beside the states that it folds.

Every note is written in the transaction of the batch that it is about, and
names the making (generation) that it belongs to, so that a rebuild begins
without any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.kit.bus.protocol import Headers, Partition, Record
from services.kit.errors import PharmaLoopError
from services.kit.store.kinds import Kind


class Fenced(PharmaLoopError):
    """Another instance has moved the watermark: take again from where it stands."""


@dataclass(frozen=True)
class Mark:
    """How far a runner has folded one partition: the offset it takes next.

    A sealed mark belongs to a making that a newer one has replaced.
    """

    runner: str
    generation: int
    topic: str
    partition: int
    next: int
    sealed: bool = False


@dataclass(frozen=True)
class Seen:
    """The newest version of an aggregate that a runner has folded."""

    seq: int


@dataclass(frozen=True)
class Parked:
    """A key behind a dead letter: what follows it goes the same way, in order."""

    runner: str
    generation: int
    topic: str
    key: str
    behind: str

    def before(self, record: Record) -> bool:
        """Does the record stand behind the one that parked the key?"""
        return record.offset > int(self.behind.rpartition("/")[2])


@dataclass(frozen=True)
class Kept:
    """A record as it was taken."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    @classmethod
    def of(cls, record: Record) -> Kept:
        return cls(
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.value,
            tuple((name, bytes(value)) for name, value in record.headers),
            record.timestamp_ms,
        )

    @property
    def record(self) -> Record:
        headers: Headers = tuple((name, value) for name, value in self.headers)
        return Record(
            self.topic, self.partition, self.offset, self.key, self.value, headers, self.timestamp_ms
        )


@dataclass(frozen=True)
class Waiting:
    """Records of one source, in order, that wait for a state which has not arrived."""

    runner: str
    generation: int
    kind: str
    id: str
    records: tuple[Kept, ...]


@dataclass(frozen=True)
class Rebuild:
    """What a runner must know of its rebuild: the live making, and the one being made (0: none).

    Read only; `makings` owns the document, which says more.
    """

    live: int = 1
    building: int = 0


REBUILDS: Kind[Rebuild] = Kind("_generation", Rebuild)
MARKS: Kind[Mark] = Kind("_mark", Mark, ("runner",))
SEEN: Kind[Seen] = Kind("_seen", Seen)
PARKED: Kind[Parked] = Kind("_parked", Parked, ("runner",))
WAITING: Kind[Waiting] = Kind("_waiting", Waiting, ("runner",))
#: Kinds whose indexes every service needs.
NOTES: tuple[Kind[Any], ...] = (MARKS, PARKED, WAITING)


@dataclass(frozen=True)
class Making:
    """A runner in one making of its views; gives the ids of its notes."""

    runner: str
    generation: int = 1

    def mark(self, partition: Partition) -> str:
        return f"{self.runner}|{self.generation}|{partition.topic}|{partition.number}"

    def seen(self, topic: str, source: str) -> str:
        return f"{self.runner}|{self.generation}|{topic}|{source}"

    def parked(self, record: Record) -> str:
        return f"{self.runner}|{self.generation}|{record.topic}|{(record.key or b'').hex()}"

    def waiting(self, record: Record, source: str) -> str:
        """One for all versions of an aggregate, so that they keep their order; one for each fact."""
        return f"{self.runner}|{self.generation}|{record.topic}|{source}"

    def owns(self, note: Any) -> bool:
        return bool(note.runner == self.runner and note.generation == self.generation)
