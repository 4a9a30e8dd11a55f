"""The relay: publishes the outbox, at least once, in order of (aggregate, version).

One relay of a service works at a time, under a fenced lease. It is woken by
every commit; a slow poll is the safety net. After a crash it may publish a
row again, at a new offset: receivers drop what is not newer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from services.kit import points
from services.kit.bus.protocol import Outgoing, Position, Producer
from services.kit.clock import Clock
from services.kit.errors import Retryable
from services.kit.log import get_logger
from services.kit.metrics import OUTBOX_WAITING, Metrics
from services.kit.store.kinds import Get, Kind, OutboxRow, Plan, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction, Conflict
from services.kit.work import moment_text

_log = get_logger("kit.relay")
_BATCH = 2000
_POLL_SECONDS = 0.5
_LEASE_SECONDS = 10.0
_REMEMBERED = 20_000
_RELEASE_SECONDS = 2.0
#: How often who waits for a position asks the database, where another process publishes.
_ELSEWHERE_SECONDS = 0.02
#: The same where this process publishes: only rows of an earlier process are not told.
_EARLIER_SECONDS = 0.1


@dataclass(frozen=True)
class Lease:
    """Who may do a thing that only one process may do; `until` is wall time, ISO."""

    holder: str
    until: str


LEASES: Kind[Lease] = Kind("_lease", Lease)


async def take_lease(store: AsyncStore, name: str, holder: str, clock: Clock) -> bool:
    """Take or renew a lease; False while somebody else holds it."""
    now = clock.wall()

    async def work(txn: AsyncTransaction) -> bool:
        read = Get(LEASES, name)
        found = (await txn.load([read]))[read]
        held = found[0] if found else None
        if held and held.state.holder != holder and held.state.until > moment_text(now):
            return False
        base = held.version if held else 0
        lease = Lease(holder, moment_text(now + timedelta(seconds=_LEASE_SECONDS)))
        await txn.write(Plan((Write(LEASES, name, base, base + 1, lease),), ()))
        return True

    try:
        return await store.transact(work)
    except Conflict:
        return False


async def release_lease(store: AsyncStore, name: str, holder: str) -> None:
    """Give a lease up, so that a successor need not wait for its end."""

    async def work(txn: AsyncTransaction) -> None:
        read = Get(LEASES, name)
        found = (await txn.load([read]))[read]
        if found and found[0].state.holder == holder:
            await txn.write(Plan((Write(LEASES, name, found[0].version, 0, None),), ()))

    await store.transact(work)


class Relay:
    """Publishes one service's outbox, and tells where its events stand."""

    def __init__(
        self, store: AsyncStore, producer: Producer, clock: Clock, metrics: Metrics, holder: str
    ) -> None:
        self._store = store
        self._producer = producer
        self._clock = clock
        self._metrics = metrics
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._known: dict[str, Position] = {}
        self._published = asyncio.Condition()
        self._leads = False

    def wake(self) -> None:
        """There is something to publish. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Publish until cancelled."""
        try:
            await self._publish_on()
        finally:
            with contextlib.suppress(TimeoutError, Retryable):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await release_lease(self._store, "relay", self._holder)

    async def _publish_on(self) -> None:
        leased_until = 0.0
        while True:
            try:
                if self._loop.time() > leased_until:
                    self._leads = await take_lease(self._store, "relay", self._holder, self._clock)
                    if not self._leads:
                        await asyncio.sleep(_POLL_SECONDS)
                        continue
                    leased_until = self._loop.time() + _LEASE_SECONDS / 3
                more = await self.publish_once()
            except Retryable as error:
                _log.warning("outbox not published, trying again", error=str(error))
                await asyncio.sleep(_POLL_SECONDS)
                continue
            if not more:
                await self._wait()

    async def _wait(self) -> None:
        # Not wait_for: before Python 3.12 it may swallow a cancellation, and the stop would hang.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    async def publish_once(self) -> bool:
        """Publish one batch; True when there may be more."""
        rows = await self._store.unpublished(_BATCH)
        self._metrics.set(OUTBOX_WAITING, len(rows))
        if rows:
            points.reached("relay.read")
            positions = await asyncio.wrap_future(self._producer.publish([_outgoing(row) for row in rows]))
            points.reached("relay.published")
            stand = {row.id: position for row, position in zip(rows, positions, strict=True)}
            await self._store.mark_published(stand)
            points.reached("relay.marked")
            await self._tell(stand)
        return len(rows) == _BATCH

    async def _tell(self, stand: dict[str, Position]) -> None:
        async with self._published:
            self._known.update(stand)
            for old in list(self._known)[: max(0, len(self._known) - _REMEMBERED)]:
                del self._known[old]
            self._published.notify_all()

    async def positions(self, ids: Iterable[str], seconds: float) -> dict[str, Position]:
        """Where the events stand; waits for their publication up to `seconds`."""
        wanted, end = list(ids), self._loop.time() + seconds
        while True:
            pause = _EARLIER_SECONDS if self._leads else _ELSEWHERE_SECONDS
            await self._told(wanted, min(end, self._loop.time() + pause))
            found = {id: self._known[id] for id in wanted if id in self._known}
            if len(found) < len(wanted):
                # Another process of the service, or an earlier one, may have published them.
                found |= await self._store.positions_of(id for id in wanted if id not in found)
            if len(found) == len(set(wanted)) or self._loop.time() >= end:
                return {id: found[id] for id in wanted if id in found}

    async def _told(self, wanted: list[str], end: float) -> None:
        """Return when this process has published all of them, or at the time `end`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end), self._published:
                await self._published.wait_for(lambda: all(id in self._known for id in wanted))


def _outgoing(row: OutboxRow) -> Outgoing:
    return Outgoing(row.topic, row.key, row.value, row.headers)
