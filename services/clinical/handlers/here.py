"""Which site a handler works for, and what it needs from outside the database.

The handlers are part of the service's specification, which exists before the
process has read its settings; so they hold this one object, which is
connected before any of them is called. It decides nothing: the site's name and a
digest's key are the same on every delivery, and the clock only says by when
a patient is expected to answer.
"""

from __future__ import annotations

import threading
from datetime import datetime

from services.clinical.domain import holdings
from services.clinical.domain.going import Going, begun
from services.clinical.domain.holdings import Holding
from services.clinical.keys import OpenKey
from services.clinical.views import ALL_RUNS, GOING, HOLDINGS, STATEMENTS
from services.kit.clock import Clock
from services.kit.envelope import Event
from services.kit.errors import Retryable
from services.kit.store.kinds import Get, Read
from services.kit.work import Work

_WAIT_SECONDS = 10.0


class Here:
    """The site, once connected."""

    def __init__(self) -> None:
        self._connected = threading.Event()
        self._site: str
        self._open_key: OpenKey
        self._clock: Clock

    def connect(self, site: str, open_key: OpenKey, clock: Clock) -> None:
        self._site, self._open_key, self._clock = site, open_key, clock
        self._connected.set()

    def _wait(self) -> None:
        if not (self._connected.is_set() or self._connected.wait(_WAIT_SECONDS)):
            raise Retryable("the service is still starting")

    @property
    def site(self) -> str:
        self._wait()
        return self._site

    def open_key(self, sealed: bytes) -> bytes | None:
        self._wait()
        return self._open_key(sealed)

    def now(self) -> datetime:
        """Platform time: a plan that opens late must still leave its patient time to answer."""
        self._wait()
        return self._clock.now()

    def id_of(self, what: str) -> str:
        """Id of what the site holds, and says, of a run or a template."""
        return f"{what}|{self.site}"


def holding_of(here: Here, work: Work, run: str) -> Holding:
    # Whoever asks for it settles it next: what was said is loaded now, not after the numbers are made.
    work.load_all(holding_reads(here, run))
    found = work.get(HOLDINGS, here.id_of(run))
    if found is None:
        work.put(GOING, ALL_RUNS, begun(work.get(GOING, ALL_RUNS) or Going(), run))
    return found or Holding(run)


def holding_reads(here: Here, run: str) -> list[Read]:
    """What is read of a run by whoever asks for its holding."""
    id = here.id_of(run)
    return [Get(STATEMENTS, id), Get(HOLDINGS, id), Get(GOING, ALL_RUNS)]


def noted(holding: Holding, event: Event, root: str = "") -> Holding:
    """The run's holding as one of the run's own events finds it."""
    return holdings.noted(holding, event.case or root)
