"""How far a runner is behind its topics, in seconds, without a question to the log beyond its ends.

The age of the oldest record that is not taken is not known before it is
taken. It is bounded from what is: at which moment the log's end was first
seen beyond the runner's place; how old the last record was that the runner
has done since; how old those are that it has in hand. So it is right within
the time between two looks, also after a start far behind, and it grows while
the runner hangs, for another thread looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.kit.bus.protocol import Partition, Record

#: So many ends of a partition are remembered; then every other one is forgotten, and they are noted half
#: as often: what is told is too young by a hundredth of itself at most.
_MOST_ENDS = 256


@dataclass
class _Place:
    """What is remembered of a partition: ends of the log with the moments at which they were first seen,
    and since when the runner has not got on although something waits."""

    ends: deque[tuple[float, int]] = field(default_factory=deque)
    every: float = 0.0
    at: int = -1
    since: float | None = None


class Behind:
    """One runner's. `took`, `done`, `saw` and `lost` are called by the runner's thread, `look` by another.

    All moments are wall seconds.
    """

    def __init__(self) -> None:
        self._ends: tuple[float, Mapping[Partition, int]] = (0.0, {})
        self._hand: Sequence[Record] = ()
        self._done: dict[Partition, tuple[float, float]] = {}
        self._places: dict[Partition, _Place] = {}

    # -- told by the runner ---------------------------------------------

    def took(self, records: Sequence[Record]) -> None:
        """These are in hand, and nothing else is."""
        self._hand = records

    def done(self, records: Iterable[Record], now: float) -> None:
        """These are folded, or passed over."""
        latest = {(r.topic, r.partition): r.timestamp_ms for r in records}
        self._done |= {Partition(*place): (ms / 1000, now) for place, ms in latest.items()}

    def saw(self, ends: Mapping[Partition, int], now: float) -> None:
        """The log ends here now."""
        self._ends = now, ends

    # -- asked by another thread ----------------------------------------

    def look(self, positions: Mapping[Partition, int], now: float) -> tuple[dict[str, float], float]:
        """For each topic the age of the oldest record that waits, 0 where none does; and for how long the
        runner has not got on in a partition where something waits."""
        seen, ends = self._ends
        hand = _oldest(self._hand)
        lags: dict[str, float] = {}
        stuck = 0.0
        for gone in self._places.keys() - positions.keys():
            del self._places[gone]
        for place, at in positions.items():
            kept = self._places.setdefault(place, _Place())
            came = self._came(kept, place, at, ends.get(place, 0), seen)
            if place in hand:
                came = min(hand[place], came or hand[place])
            lag = 0.0 if came is None else max(0.0, now - came)
            lags[place.topic] = max(lags.get(place.topic, 0.0), lag)
            stuck = max(stuck, _stuck(kept, at, came is not None, now))
        return lags, stuck

    def _came(self, kept: _Place, place: Partition, at: int, end: int, seen: float) -> float | None:
        """When the first record that waits came, as far as is known; None where none waits."""
        ends = kept.ends
        while ends and ends[0][1] <= at:
            ends.popleft()
        if not ends:
            kept.every = 0.0
            if end <= at:
                return None
        if not ends or (end > ends[-1][1] and seen - ends[-1][0] >= kept.every):
            ends.append((seen, end))
        if len(ends) > _MOST_ENDS:
            kept.ends = ends = deque(list(ends)[::2])
            kept.every = ends[-1][0] - ends[-2][0]
        first = ends[0][0]
        created, when = self._done.get(place, (first, 0.0))
        # What was done since then stood before what waits, and was no younger.
        return min(created, first) if when > first else first


def _stuck(kept: _Place, at: int, waits: bool, now: float) -> float:
    if not waits:
        kept.since = None
    elif kept.since is None or kept.at != at:
        kept.since = now
    kept.at = at
    return 0.0 if kept.since is None else now - kept.since


def _oldest(records: Sequence[Record]) -> dict[Partition, float]:
    """When the first record of each partition came."""
    first = {(r.topic, r.partition): r.timestamp_ms for r in reversed(records)}
    return {Partition(*place): ms / 1000 for place, ms in first.items()}
