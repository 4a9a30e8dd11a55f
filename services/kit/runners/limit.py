"""The dead-letter limit: a bad deploy must stop a runner, not drain a topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from services.kit.errors import Integrity

#: Why a record behind a dead letter follows it; it says nothing about the deploy.
PARKED_REASON = "PARKED"


class DeadLetterLimit:
    """Counts records that could not be processed, in a row and among the latest.

    What is parked behind a dead letter does not count: it was not tried.
    """

    def __init__(self, consecutive: int = 100, ratio: float = 0.5, window: int = 400) -> None:
        self._consecutive = consecutive
        self._ratio = ratio
        self._recent: deque[bool] = deque(maxlen=window)

    def check(self, reasons: Iterable[str | None]) -> None:
        """Would these records break the limit? Integrity says so; nothing is noted."""
        recent = deque(self._recent, maxlen=self._recent.maxlen)
        recent.extend(_tried(reasons))
        run = _longest_run(recent)
        full = len(recent) == recent.maxlen
        if run > self._consecutive or (full and sum(recent) > self._ratio * len(recent)):
            raise Integrity(
                f"{sum(recent)} of the last {len(recent)} records could not be processed, {run} in a row: "
                "stopped before more are dead-lettered; pharmaloop dlq list says why the others failed: "
                "look at the newest deploy, then restart"
            )

    def note(self, reasons: Iterable[str | None]) -> None:
        """These records are through: dead-lettered with a reason, or processed."""
        self._recent.extend(_tried(reasons))


def _longest_run(recent: Iterable[bool]) -> int:
    """The most failures in a row, wherever they stand: a good record at the end of a batch excuses none."""
    longest = run = 0
    for bad in recent:
        run = run + 1 if bad else 0
        longest = max(longest, run)
    return longest


def _tried(reasons: Iterable[str | None]) -> Iterable[bool]:
    return (reason is not None for reason in reasons if reason != PARKED_REASON)
