"""The observed time of one patient, split by the lot being taken.

Rules, for the packs of one product:

- A pack is taken from the moment it is begun. Its supply falls only while it
  is the one being taken.
- A pack begun early interrupts the one before it. What was left over is not
  lost: it is taken when the newer supply is used up, and is then time of its
  own lot again (carry-over). The total is that of CMA7 of AdhereR, which
  carries left-over supply forward as well. Of two packs begun at the same
  moment the one whose lot sorts last is taken first.
- After a supply ends, its lot keeps the time for the risk window, or until
  another pack is begun. The rest of a gap belongs to no lot.
- An outcome belongs to the lot whose time it falls in, so numerator and
  denominator follow the same rule and nothing is counted twice.

Moments are aware datetimes and lengths are whole microseconds, so the spans
add up to the observed time exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from services.refusals import Malformed

_DAY = timedelta(days=1)
_LONGEST_SUPPLY_DAYS = 3650.0


@dataclass(frozen=True)
class Pack:
    """What one dispense gave the patient: a lot of a product, begun at `start`, for `days` of supply."""

    product: str
    lot: str
    start: datetime
    days: float


@dataclass(frozen=True)
class Observation:
    """When a patient is observed: from `start` to the planned end, or to what ends it before."""

    start: datetime
    follow_up_end: datetime
    withdrawn: datetime | None = None
    died: datetime | None = None
    moved: datetime | None = None

    @property
    def end(self) -> datetime:
        ends = (self.follow_up_end, self.withdrawn, self.died, self.moved)
        return min(end for end in ends if end is not None)


@dataclass(frozen=True)
class Span:
    """Time from `start` up to `end` that belongs to one lot; to none where `lot` is None."""

    lot: str | None
    start: datetime
    end: datetime


def spans(packs: Sequence[Pack], observation: Observation, window: timedelta) -> tuple[Span, ...]:
    """The observed time in order, without gap or overlap; empty where the observation ends as it starts.

    `packs` are those of one product, in any order. Raises Malformed for a
    supply that is not above 0 and at most 3650 days, or a negative window.
    """
    _check(packs, window)
    pieces: list[Span] = []
    now, end = observation.start, observation.end
    for span in _with_window(_taken(packs), window):
        first, last = max(span.start, now), min(span.end, end)
        if first >= last:
            continue
        if now < first:
            pieces.append(Span(None, now, first))
        pieces.append(Span(span.lot, first, last))
        now = last
    if now < end:
        pieces.append(Span(None, now, end))
    return tuple(_joined(pieces))


def until(parts: Sequence[Span], moment: datetime) -> tuple[Span, ...]:
    """The spans up to a moment."""
    return tuple(replace(part, end=min(part.end, moment)) for part in parts if part.start < moment)


def days_of(parts: Sequence[Span]) -> dict[str | None, float]:
    """Person-time in days by lot; under None what belongs to no lot."""
    total: dict[str | None, timedelta] = {}
    for part in parts:
        total[part.lot] = total.get(part.lot, timedelta()) + (part.end - part.start)
    return {lot: length / _DAY for lot, length in total.items()}


def span_at(parts: Sequence[Span], moment: datetime) -> Span | None:
    """The span in which a moment falls; None where the patient was not observed.

    The moment at which one span ends is the next one's; the end of the
    observation, at which a patient may have died, is still the last one's.
    """
    if parts and moment == parts[-1].end:
        return parts[-1]
    return next((part for part in parts if part.start <= moment < part.end), None)


def _check(packs: Sequence[Pack], window: timedelta) -> None:
    if window < timedelta():
        raise Malformed("OUT_OF_RANGE", "a risk window is not negative; write 0 for none", "window")
    for index, pack in enumerate(packs):
        if not 0 < pack.days <= _LONGEST_SUPPLY_DAYS:
            said = f"a supply lasts more than 0 and at most {_LONGEST_SUPPLY_DAYS:.0f} days, not {pack.days}"
            raise Malformed("OUT_OF_RANGE", said, f"packs[{index}].days")


def _taken(packs: Sequence[Pack]) -> list[Span]:
    """When each lot is taken: always the latest pack begun whose supply lasts."""
    if not packs:
        return []
    ordered = sorted(packs, key=lambda pack: (pack.start, pack.lot))
    used_up = ordered[-1].start + sum((_DAY * pack.days for pack in ordered), timedelta())
    result: list[Span] = []
    begun: list[tuple[str, timedelta]] = []  # lot and what is left of its supply; the latest last
    for pack, following in zip(ordered, [*(pack.start for pack in ordered[1:]), used_up], strict=True):
        begun.append((pack.lot, _DAY * pack.days))
        now = pack.start
        while begun and now < following:
            lot, left = begun.pop()
            end = min(now + left, following)
            result.append(Span(lot, now, end))
            if now + left > end:
                begun.append((lot, now + left - end))
            now = end
    return result


def _with_window(taken: Sequence[Span], window: timedelta) -> Iterator[Span]:
    """Each span prolonged by the risk window, but not into the next one."""
    for span, following in pairwise(taken):
        yield replace(span, end=min(span.end + window, following.start))
    for span in taken[-1:]:
        yield replace(span, end=span.end + window)


def _joined(pieces: Sequence[Span]) -> list[Span]:
    """Neighbours of one lot as one span."""
    result: list[Span] = []
    for piece in pieces:
        if result and result[-1].lot == piece.lot:
            result[-1] = replace(result[-1], end=piece.end)
        else:
            result.append(piece)
    return result
