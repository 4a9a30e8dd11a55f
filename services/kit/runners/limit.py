"""The dead-letter limit: a bad deploy must stop a runner, not drain a topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from services.kit.bus.protocol import Record
from services.kit.errors import Integrity

#: Why a record behind a dead letter follows it; it says nothing about the deploy.
PARKED_REASON = "PARKED"
#: So many records are named when a runner stops.
_NAMED = 3


class TooManyLetters(Integrity):
    """One more dead letter would break the limit; so many records before it do not (`fits`)."""

    def __init__(self, message: str, fits: int) -> None:
        super().__init__(message)
        self.fits = fits


class DeadLetterLimit:
    """Counts records that could not be processed, in a row and among the latest.

    What is parked behind a dead letter does not count: it was not tried.
    """

    def __init__(self, consecutive: int = 100, ratio: float = 0.5, window: int = 400) -> None:
        self._consecutive = consecutive
        self._ratio = ratio
        self._recent: deque[bool] = deque(maxlen=window)
        #: Has it heard what an earlier process left?
        self.begun = False

    def begin(self, waiting: int) -> None:
        """So many letters wait that an earlier process made: they count as failures before all else.

        Else whoever restarts a runner that stopped would have it make as many again, each time.
        """
        earlier = [True] * min(waiting, self._consecutive)
        self._recent = deque([*earlier, *self._recent], maxlen=self._recent.maxlen)
        self.begun = True

    def check(self, reasons: Sequence[str | None], records: Sequence[Record] = ()) -> None:
        """Would these records break the limit? TooManyLetters says where; nothing is noted.

        Of the records it names the first that would be dead letters from there on.
        """
        recent, row, failed = deque(self._recent, maxlen=self._recent.maxlen), self._row(), sum(self._recent)
        for place, reason in enumerate(reasons):
            if reason == PARKED_REASON:
                continue
            full = len(recent) == recent.maxlen
            failed += (reason is not None) - (full and recent[0])
            recent.append(reason is not None)
            row = row + 1 if reason is not None else 0
            share = self._ratio * len(recent) if len(recent) == recent.maxlen else len(recent)
            if reason is not None and (row > self._consecutive or failed > share):
                raise TooManyLetters(
                    f"{failed} of the last {len(recent)} records could not be processed, {row} in a row: "
                    f"stopped before more are dead-lettered{_named(reasons, records, place)}; "
                    "pharmaloop dlq list shows the others: look at the newest deploy and mend it, "
                    "or discard them, then restart",
                    place,
                )

    def _row(self) -> int:
        """How many failures in a row the latest are."""
        row = 0
        for failed in reversed(self._recent):
            if not failed:
                break
            row += 1
        return row

    def note(self, reasons: Iterable[str | None]) -> None:
        """These records are through: dead-lettered with a reason, or processed."""
        self._recent.extend(reason is not None for reason in reasons if reason != PARKED_REASON)


def _named(reasons: Sequence[str | None], records: Sequence[Record], first: int) -> str:
    """The records in hand that are not dead-lettered, by reason and place; some, and how many more."""
    left = zip(reasons[first:], records[first:], strict=False)
    bad = [f"{why} at {r.topic}/{r.partition}/{r.offset}" for why, r in left if why and why != PARKED_REASON]
    if not bad:
        return ""
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return f" ({', '.join(bad[:_NAMED])}{more})"
