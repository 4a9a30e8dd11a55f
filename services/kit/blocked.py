"""Aggregates whose next event the log refuses: their later events wait behind it.

A row that the log refuses for good must never be skipped: receivers drop what
is not newer, so the event would be lost to them. It is tried again alone, less
and less often, while the other aggregates go on. What is known here is known
to one relay while it leads; its successor learns it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.kit.bus.protocol import Failure, Outcome
from services.kit.log import get_logger
from services.kit.store.kinds import OutboxRow

_log = get_logger("kit.relay")
_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 60.0
#: So many are tried alone in one turn: the rows that are not blocked come first.
_PROBES = 50


@dataclass
class _Hold:
    """Why an aggregate or a topic waits, and when it is tried again."""

    until: float
    attempts: int = 0


class Blocked:
    """What waits behind a refused row."""

    def __init__(self) -> None:
        self._aggregates: dict[str, _Hold] = {}
        self._topics: dict[str, _Hold] = {}

    def __len__(self) -> int:
        """Aggregates that were refused more than in company: those that shared a batch
        with a bad row are refused with it, and go through alone."""
        return sum(hold.attempts > 0 for hold in self._aggregates.values())

    def sort_out(self, rows: Iterable[OutboxRow], now: float) -> tuple[list[OutboxRow], list[OutboxRow]]:
        """Rows (in order of aggregate and version) that may go together, and those to try alone."""
        clear: list[OutboxRow] = []
        probes: list[tuple[int, OutboxRow]] = []
        stopped: set[str] = set()
        for row in rows:
            if row.aggregate in stopped:
                continue
            holds = [h for h in (self._aggregates.get(row.aggregate), self._topics.get(row.topic)) if h]
            if not holds:
                clear.append(row)
                continue
            stopped.add(row.aggregate)
            if all(hold.until <= now for hold in holds):
                probes.append((max(hold.attempts for hold in holds), row))
        # Those that were only in bad company come before the bad.
        probes.sort(key=lambda probe: probe[0])
        return clear, [row for _, row in probes[:_PROBES]]

    def note(self, rows: Sequence[OutboxRow], outcomes: Sequence[Outcome], now: float) -> None:
        """Remember who is refused, forget who got through."""
        alone = len(rows) == 1
        for row, outcome in zip(rows, outcomes, strict=True):
            if not isinstance(outcome, Failure):
                self._aggregates.pop(row.aggregate, None)
                self._topics.pop(row.topic, None)
            elif outcome.about != "nothing":
                self._hold(row, outcome, now, alone)

    def _hold(self, row: OutboxRow, failure: Failure, now: float, alone: bool) -> None:
        hold = self._aggregates.setdefault(row.aggregate, _Hold(now))
        holds = [hold]
        if failure.about == "topic":
            holds.append(self._topics.setdefault(row.topic, _Hold(now)))
        if not alone:
            return
        for one in holds:
            one.attempts += 1
            one.until = now + min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** min(one.attempts, 10))
        _log.error(
            "an event cannot be published; the later ones of its aggregate wait behind it",
            id=row.id,
            aggregate=row.aggregate,
            version=row.seq,
            topic=row.topic,
            reason=failure.reason,
            attempts=hold.attempts,
            remedy="mend the topic (size, rights, existence); it is tried again by itself",
        )

    def keep_only(self, aggregates: set[str]) -> None:
        """Forget aggregates of which nothing waits any more."""
        self._aggregates = {name: hold for name, hold in self._aggregates.items() if name in aggregates}

    def forget(self) -> None:
        """Another relay has led meanwhile."""
        self._aggregates.clear()
        self._topics.clear()
