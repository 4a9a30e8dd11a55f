"""What the platform asks of a log: publish, consume from a position, ask for ends.

Two implementations stand behind these protocols and pass one shared suite:
`kafka` (the real one) and `memory` (unit tests and simulation only).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Literal, NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]
#: What every topic takes (twice the largest request), and its dead letters: the record with its reasons.
LARGEST_RECORD_BYTES = 8_000_000
LARGEST_LETTER_BYTES = 9_000_000
#: What the log adds to a record: lengths, checksums, the frame of its batch.
_FRAME_BYTES = 4_096


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Position(NamedTuple):
    """Where one record stands."""

    topic: str
    partition: int
    offset: int


class Outgoing(NamedTuple):
    """A record to publish; its partition follows from the key (murmur2)."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers


def size_of(record: Outgoing) -> int:
    """Bytes that the record takes in the log, at most."""
    headers = sum(len(name) + len(value) + 10 for name, value in record.headers)
    return len(record.key) + len(record.value or b"") + headers + _FRAME_BYTES


class Failure(NamedTuple):
    """Why a record is not in the log.

    `about` says whom to blame: this "record", its whole "topic", or "nothing":
    it was not tried, because an earlier one failed or the client was stopped.
    """

    about: Literal["record", "topic", "nothing"]
    reason: str


Outcome = Position | Failure


class Record(NamedTuple):
    """A record as it stands in the log; `timestamp_ms` is its CreateTime (wall)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class Producer(Protocol):
    """Publishes records durably (acks of all in-sync replicas, idempotent)."""

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        """Publish in order; the future has every position, or Retryable if any record failed.

        The time to publish is limited. Records that have no order among them go
        this way: after a failure, later ones may be in the log and earlier ones not.
        """

    def publish_ends(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        """The same, with the last position of each partition only: for who publishes much."""

    def close(self) -> None:
        """Wait for what is in flight, then release the client."""


class OrderedProducer(Protocol):
    """Publishes records whose order counts, one burst at a time, as long as it takes."""

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        """Publish in order; the future has each record's outcome.

        Once a record fails, no later one of its topic and key enters the log
        before the next burst. Only what will not mend by itself is a failure:
        a log that is away is waited for, without limit.
        """

    def abandon(self) -> None:
        """Give up the burst that waits: what is not sent never will be."""

    def close(self) -> None:
        """Abandon what waits and release the client."""


class Consumer(Protocol):
    """Takes records of its assigned partitions, in order within each."""

    def subscribe(
        self,
        topics: Iterable[str],
        start: Callable[[Iterable[Partition]], dict[Partition, int]],
        lost: Callable[[Iterable[Partition]], None],
    ) -> None:
        """Join the group. `start` gives the offset to begin at for newly assigned
        partitions; `lost` hears of partitions taken away, before anybody else gets them.

        Both are called from within this consumer's calls, on their thread. `start` waits until it
        knows: after what it raises the consumer is of no use, for a client begins somewhere all the same."""

    def take(self, limit: int, timeout: float) -> list[Record]:
        """At most `limit` records; waits up to `timeout` seconds for the first only."""

    def hold(self, seconds: float) -> None:
        """Stay in the group for so long and take nothing: no record is lost, none is passed over."""

    def rewind(self, positions: dict[Partition, int]) -> None:
        """Take again from these offsets."""

    def commit(self, positions: dict[Partition, int]) -> None:
        """Tell the log how far the group is: for lag tools only, never for starting."""

    def close(self) -> None:
        """Leave the group."""


class Reader(Consumer, Protocol):
    """A consumer in no group, which takes what it is told to."""

    def assign(self, starts: dict[Partition, int]) -> None:
        """Take these partitions from these offsets, and no others any more."""


class Log(Protocol):
    """Questions about the log as a whole."""

    def starts(self, topics: Iterable[str]) -> dict[Partition, int]:
        """Offset of the oldest record that is still there; Retryable when unreachable."""

    def ends(self, topics: Iterable[str]) -> dict[Partition, int]:
        """End offset (last + 1) of every partition of the topics; Retryable when unreachable."""


class Bus(Protocol):
    """Makes producers, consumers and the log of one installation."""

    def producer(self) -> Producer: ...

    def ordered_producer(self) -> OrderedProducer: ...

    def consumer(self, group: str, instance: str) -> Consumer: ...

    def reader(self, starts: dict[Partition, int]) -> Reader:
        """A consumer of these partitions from these offsets, in no group."""

    def log(self) -> Log: ...
