"""A producer that says whether the log takes what it is given.

A full disk or a broker that answers and does not write shows nowhere else: a
query of the cluster succeeds, and a record waits for its delivery for minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from services.kit.bus.protocol import OrderedProducer, Outcome, Outgoing, Position, Producer

#: A record that waits longer than this is not on its way any more.
SLOW_SECONDS = 10.0
#: A failure is news for so long, unless something succeeds before.
NEWS_SECONDS = 15.0


class WatchedProducer:
    """The producer it stands for, with `trouble()`."""

    def __init__(self, inner: Producer) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._open: dict[int, float] = {}
        self._failed: tuple[float, str] | None = None
        self._count = 0

    def publish(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        future = self._inner.publish(records)
        self.watch(future)
        return future

    def publish_ends(self, records: Sequence[Outgoing]) -> Future[list[Position]]:
        future = self._inner.publish_ends(records)
        self.watch(future)
        return future

    def watch(self, future: Future[Any]) -> None:
        """Count a burst among those that are on their way."""
        with self._lock:
            self._count += 1
            number = self._count
            self._open[number] = time.monotonic()
        future.add_done_callback(lambda done: self._ended(number, done))

    def _ended(self, number: int, done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        with self._lock:
            self._open.pop(number, None)
            if error is not None:
                self._failed = time.monotonic(), str(error)
            elif not done.cancelled():
                self._failed = None

    def trouble(self) -> str:
        """Why records do not get through; empty when they do."""
        now = time.monotonic()
        with self._lock:
            waits = now - min(self._open.values(), default=now)
            failed = self._failed
        if failed and now - failed[0] < NEWS_SECONDS:
            return f"{failed[1]}; they are kept and sent again"
        if waits > SLOW_SECONDS:
            return (
                f"Kafka has not confirmed records for {waits:.0f} s: see its log and its disk; they are kept "
                "and sent again"
            )
        return ""

    def close(self) -> None:
        self._inner.close()


class WatchedOrderedProducer:
    """The relay's producer, whose bursts are watched with the others.

    A record that the log refuses is no trouble of the process: the relay tells it.
    """

    def __init__(self, inner: OrderedProducer, watch: WatchedProducer) -> None:
        self._inner = inner
        self._watch = watch

    def offer(self, records: Sequence[Outgoing]) -> Future[list[Outcome]]:
        future = self._inner.offer(records)
        self._watch.watch(future)
        return future

    def abandon(self) -> None:
        self._inner.abandon()

    def close(self) -> None:
        self._inner.close()
