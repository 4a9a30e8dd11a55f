"""A fenced lease: what only one process may do, one process does.

Whoever takes the lease gets a token of its own. Time alone proves nothing (a
process may be paused for any time between two statements), so the holder asks
its clocks before and after each act, and the database whether the token still
stands. It must never act on a lease that has run out, even if nobody has taken
it since.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

from services.kit.clock import Clock
from services.kit.errors import Retryable
from services.kit.store.kinds import Get, Kind, Plan, Stored, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction
from services.kit.work import moment_text

LEASE_SECONDS = 10.0
#: The holder stops so much sooner than others may begin.
_MARGIN = 0.2
#: Clocks of two machines may differ by more than the margin: the database is asked so often.
_FRESH_SECONDS = 0.25


@dataclass(frozen=True)
class Lease:
    """Who may do the thing; `until` is wall time, ISO; `token` rises with every holder."""

    holder: str
    until: str
    token: int = 0


LEASES: Kind[Lease] = Kind("_lease", Lease)


class LeaseLost(Retryable):
    """The lease ran out or is somebody else's: what was begun under it ends here."""


class FencedLease:
    """One process's side of one lease."""

    def __init__(
        self, store: AsyncStore, name: str, holder: str, clock: Clock, seconds: float = LEASE_SECONDS
    ) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        self._clock = clock
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._mine: Stored[Lease] | None = None
        self._asked = 0.0
        self._seen = 0.0

    @property
    def token(self) -> int:
        """The token of the lease that is held; 0 while none is."""
        return self._mine.state.token if self._mine else 0

    def valid(self) -> bool:
        """Does it still run, by this process's clocks?"""
        if self._mine is None:
            return False
        # The wall may be set back, and the other clock may stand still while the machine sleeps.
        runs = self._loop.time() - self._asked < self._seconds * (1 - _MARGIN)
        return runs and moment_text(self._clock.wall()) < self._mine.state.until

    async def hold(self, renew: bool = False) -> bool:
        """Take it, or renew it when a third of its time is gone; False while somebody else has it."""
        fresh = self._loop.time() - self._asked < self._seconds / 3
        if self.valid() and fresh and not renew:
            return True
        asked = self._loop.time()
        self._mine = await self._store.transact(self._take)
        self._asked = self._seen = asked
        return self._mine is not None

    async def check(self) -> bool:
        """Is it still ours? By our clocks, and by the database, asked a moment ago at most."""
        if not self.valid():
            return False
        if self._loop.time() - self._seen > _FRESH_SECONDS:
            asked = self._loop.time()
            found = await self._store.get(LEASES, self._name)
            if found is None or not self._is_mine(found):
                self._mine = None
                return False
            self._seen = asked
        return self.valid()

    async def release(self) -> None:
        """Give it up, so that a successor need not wait for its end."""

        async def work(txn: AsyncTransaction) -> None:
            read = Get(LEASES, self._name)
            found = (await txn.load([read]))[read]
            if found and self._is_mine(found[0]):
                # The row stays: its token must go on rising.
                free = replace(found[0].state, holder="", until="")
                base = found[0].version
                await txn.write(Plan((Write(LEASES, self._name, base, base + 1, free),), ()))

        if self._mine is not None:
            await self._store.transact(work)
        self._mine = None

    async def _take(self, txn: AsyncTransaction) -> Stored[Lease] | None:
        read = Get(LEASES, self._name)
        found = (await txn.load([read]))[read]
        held = found[0] if found else None
        runs = held is not None and held.state.until > moment_text(self._clock.wall())
        mine = held is not None and self._is_mine(held)
        if runs and not mine:
            return None
        base = held.version if held else 0
        token = held.state.token if held else 0
        state = self._renewed(Lease(self._holder, "", token if runs else token + 1))
        await txn.write(Plan((Write(LEASES, self._name, base, base + 1, state),), ()))
        return Stored(self._name, base + 1, state)

    def _renewed(self, lease: Lease) -> Lease:
        until = self._clock.wall() + timedelta(seconds=self._seconds)
        return replace(lease, until=moment_text(until))

    def _is_mine(self, found: Stored[Lease]) -> bool:
        """By holder and token: two processes may have been given one name."""
        mine = self._mine
        return mine is not None and (found.state.holder, found.state.token) == (
            self._holder,
            mine.state.token,
        )
