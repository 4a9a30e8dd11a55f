"""Where published events stand in the log, for those who wait to hear it.

Who waits is woken by the event that completes what it asked for, so the cost
of telling does not grow with how many wait.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

from services.kit.bus.protocol import Position

_REMEMBERED = 20_000


class Wait:
    """One caller's wait for a set of events."""

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.complete = asyncio.Event()


class Stands:
    """The newest positions, and who waits for which."""

    def __init__(self) -> None:
        self._known: dict[str, Position] = {}
        self._waits: dict[str, list[Wait]] = defaultdict(list)

    def known(self, ids: Iterable[str]) -> dict[str, Position]:
        return {id: self._known[id] for id in ids if id in self._known}

    def missing(self) -> list[str]:
        """Every event that somebody waits for."""
        return list(self._waits)

    def tell(self, stand: Mapping[str, Position]) -> None:
        """These events stand there."""
        self._known.update(stand)
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        for id in stand:
            for wait in self._waits.pop(id, ()):
                wait.missing.discard(id)
                if not wait.missing:
                    wait.complete.set()

    def wait_for(self, ids: Iterable[str]) -> Wait:
        """Begin to wait; end it with `leave`."""
        wait = Wait({id for id in ids if id not in self._known})
        for id in wait.missing:
            self._waits[id].append(wait)
        if not wait.missing:
            wait.complete.set()
        return wait

    def leave(self, wait: Wait) -> None:
        for id in wait.missing:
            self._waits[id].remove(wait)
            if not self._waits[id]:
                del self._waits[id]
