"""The relay: publishes the outbox, at least once, in order of (aggregate, version).

One relay of a service works at a time, under a fenced lease. It is woken by
every commit of its own process, and by the database of those of others
(`store/elsewhere.py`); a slow poll is the safety net. After a crash it may publish a
row again, at a new offset: receivers drop what is not newer. So it must never
publish a version while an earlier one of its aggregate is not in the log: a
row that the log refuses holds back its aggregate, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence

from services.kit import points, tracing
from services.kit.blocked import Blocked
from services.kit.bus.protocol import OrderedProducer, Outcome, Outgoing, Position
from services.kit.clock import Clock
from services.kit.contracts import short_name
from services.kit.errors import Retryable
from services.kit.lease import LEASE_SECONDS, LEASES, FencedLease, Lease, LeaseLost
from services.kit.log import get_logger
from services.kit.metrics import EVENTS, FENCED, OUTBOX_AGE, OUTBOX_BLOCKED, OUTBOX_WAITING, Metrics
from services.kit.stands import Stands
from services.kit.store.kinds import OutboxRow
from services.kit.store.protocol import AsyncStore

__all__ = ["LEASES", "Lease", "Relay"]
_log = get_logger("kit.relay")
_BATCH = 2000
_POLL_SECONDS = 0.5
_TELL_SECONDS = 1.0
_RELEASE_SECONDS = 2.0
#: A relay that the log does not answer for so long makes room: another may reach it.
_PATIENCE_SECONDS = 60.0
#: How often the database is asked for positions, where another process publishes.
_ELSEWHERE_SECONDS = 0.02
#: The same where this process publishes: only rows of an earlier process are not told.
_EARLIER_SECONDS = 0.1


class Relay:
    """Publishes one service's outbox, and tells where its events stand."""

    def __init__(
        self, store: AsyncStore, producer: OrderedProducer, clock: Clock, metrics: Metrics, holder: str
    ) -> None:
        self._store = store
        self._producer = producer
        self._clock = clock
        self._metrics = metrics
        metrics.add(FENCED, 0, part="relay")
        self._lease = FencedLease(store, "relay", holder, clock)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._blocked = Blocked()
        self._stands = Stands()
        self._asked: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        #: The aggregate at which the last reading ended, and what went out since the first.
        self._after = ""
        self._went_out = 0

    def wake(self) -> None:
        """There is something to publish. May be called from any thread."""
        # Who is awake already looks after whatever was committed before this.
        if not self._wake.is_set():
            self._loop.call_soon_threadsafe(self._wake.set)

    # -- running --------------------------------------------------------

    async def run(self) -> None:
        """Publish until cancelled."""
        telling = asyncio.ensure_future(self.keep_telling())
        try:
            await self._publish_on()
        finally:
            telling.cancel()
            with contextlib.suppress(TimeoutError, Retryable):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._lease.release()

    async def _publish_on(self) -> None:
        while True:
            try:
                more = await self.publish_once()
            except Retryable as error:
                if isinstance(error, LeaseLost):
                    self._metrics.add(FENCED, part="relay")
                _log.warning("outbox not published, trying again", error=str(error))
                await asyncio.sleep(_POLL_SECONDS)
                continue
            if not more:
                await self._wait()

    async def _wait(self) -> None:
        if not self._lease.valid():
            # Who leads hears of this process's commits as well.
            await asyncio.sleep(_POLL_SECONDS)
            return
        # Not wait_for: before Python 3.12 it may swallow a cancellation, and the stop would hang.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    async def drain(self, seconds: float) -> int:
        """Publish until the outbox is empty or the time is over, and leave; answers how many rows are left.

        It ends sooner where somebody else leads, or only refused events are left.
        What is left is not lost: the next relay publishes it.
        """
        with contextlib.suppress(TimeoutError, Retryable):
            async with asyncio.timeout(seconds):
                while await self._lease.hold() and await self._store.outbox_waiting():
                    if not await self.publish_once():
                        if self._blocked:
                            break
                        await asyncio.sleep(_ELSEWHERE_SECONDS)
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._lease.release()
                return await self._store.outbox_waiting()
        except (TimeoutError, Retryable):
            return -1

    def close(self) -> None:
        """Release the client; blocks for a moment."""
        self._producer.close()

    # -- publishing -----------------------------------------------------

    async def publish_once(self) -> bool:
        """Publish one batch, if this relay leads; True when there may be more."""
        async with self._turn:
            if not await self._lease.hold():
                self._blocked.forget()
                return False
            rows = await self._read()
            if rows:
                if not await self._lease.check():
                    raise LeaseLost("another relay has taken over")
                points.reached("relay.read")
            clear, probes = self._blocked.sort_out(rows, self._loop.time())
            if clear:
                await self._hand_over(clear)
            freed = await self._try_alone(probes)
            self._metrics.set(OUTBOX_BLOCKED, len(self._blocked))
            return self._more(rows) or freed

    async def _read(self) -> list[OutboxRow]:
        """The next rows. Aggregates have their turn one after the other, so that none starves the others."""
        return await self._store.unpublished(_BATCH, self._after)

    def _more(self, rows: list[OutboxRow]) -> bool:
        if len(rows) == _BATCH:
            self._after = rows[-1].aggregate
            return True
        # The round is over: another follows at once if this one was of use.
        first, useful = not self._after, bool(self._went_out)
        self._after, self._went_out = "", 0
        if first:
            self._blocked.keep_only({row.aggregate for row in rows})
        return useful and not first

    async def _try_alone(self, probes: list[OutboxRow]) -> bool:
        """Rows that were refused, one by one; a topic that refuses again has had its turn.

        True when any of them got through, so that what waits behind it may follow.
        """
        refused: set[str] = set()
        freed = False
        for row in probes:
            if row.topic in refused:
                continue
            if await self._hand_over([row]):
                freed = True
            else:
                refused.add(row.topic)
        return freed

    async def _hand_over(self, rows: list[OutboxRow]) -> bool:
        """Publish rows, tell, and mark them; True when all of them are in the log."""
        began = tracing.now()
        outcomes = await self._offer(rows)
        tracing.sent(rows, outcomes, began)
        points.reached("relay.published")
        stand = {
            row.id: outcome
            for row, outcome in zip(rows, outcomes, strict=True)
            if isinstance(outcome, Position)
        }
        # They stand there, whatever becomes of the mark.
        self._stands.tell(stand)
        self._blocked.note(rows, outcomes, self._loop.time())
        self._went_out += len(stand)
        self._count(row for row in rows if row.id in stand)
        if stand:
            if not await self._lease.check():
                raise LeaseLost("the lease ran out before the rows were marked")
            await self._store.mark_published(stand)
            points.reached("relay.marked")
        return len(stand) == len(rows)

    def _count(self, rows: Iterable[OutboxRow]) -> None:
        """By type; not dead letters, whose headers are whatever somebody sent."""
        own = (row for row in rows if not row.topic.endswith(".dlq"))
        for type, count in Counter(dict(row.headers).get("ce_type", b"") for row in own).items():
            self._metrics.add(EVENTS, count, type=short_name(type.decode()))

    async def _offer(self, rows: Sequence[OutboxRow]) -> list[Outcome]:
        """The log's outcomes; the lease is renewed while they are waited for."""
        if not self._lease.valid():
            raise LeaseLost("the lease ran out before the rows were handed over")
        began = self._loop.time()
        future = asyncio.wrap_future(self._producer.offer([_outgoing(row) for row in rows]))
        try:
            while True:
                done, _ = await asyncio.wait({future}, timeout=LEASE_SECONDS / 3)
                if done:
                    return future.result()
                await self._wait_on(len(rows), self._loop.time() - began)
        except BaseException:
            # What is not sent yet must not go out later, behind what a successor sends.
            self._producer.abandon()
            raise

    async def _wait_on(self, count: int, seconds: float) -> None:
        _log.warning("the log has not taken the outbox's rows yet", rows=count, seconds=round(seconds))
        if seconds > _PATIENCE_SECONDS:
            await self._lease.release()
            raise Retryable("the log does not answer; another relay may try")
        if not await self._lease.hold(renew=True):
            raise LeaseLost("another relay has taken over while the log did not answer")

    # -- telling --------------------------------------------------------

    async def keep_telling(self) -> None:
        """Measure again and again, until cancelled; `run` does it too."""
        while True:
            with contextlib.suppress(Retryable):
                await self.tell_backlog()
            await asyncio.sleep(_TELL_SECONDS)

    async def tell_backlog(self) -> None:
        """Measure what waits, whoever leads."""
        backlog = await self._store.backlog()
        age = (self._clock.wall() - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        self._metrics.set(OUTBOX_WAITING, backlog.waiting)
        self._metrics.set(OUTBOX_AGE, max(0.0, age))

    async def positions(self, ids: Iterable[str], seconds: float) -> dict[str, Position]:
        """Where the events stand; waits for their publication up to `seconds`."""
        wanted, end = list(ids), self._loop.time() + seconds
        wait = self._stands.wait_for(wanted)
        try:
            while not wait.complete.is_set() and self._loop.time() < end:
                pause = _EARLIER_SECONDS if self._lease.valid() else _ELSEWHERE_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(end, self._loop.time() + pause)):
                        await wait.complete.wait()
                        break
                await self._ask_elsewhere(pause)
        finally:
            self._stands.leave(wait)
        return self._stands.known(wanted)

    async def _ask_elsewhere(self, pause: float) -> None:
        """Another process of the service, or an earlier one, may have published what is
        waited for. One question serves all who wait."""
        if self._asked is None or (self._asked.done() and self._loop.time() - self._asked_at >= pause / 2):
            self._asked_at = self._loop.time()
            self._asked = asyncio.ensure_future(self._ask())
        await asyncio.shield(self._asked)

    async def _ask(self) -> None:
        missing = self._stands.missing()
        # A database that does not answer now is asked again; who waits has its own end.
        with contextlib.suppress(Retryable):
            if missing:
                self._stands.tell(await self._store.positions_of(missing))


def _outgoing(row: OutboxRow) -> Outgoing:
    return Outgoing(row.topic, row.key, row.value, row.headers)
