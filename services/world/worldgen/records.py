"""Two actors record the same dispenses, each with its own small errors.

What one of them never records, the other has: a dispense that nobody wrote
down is not in the world. About half of the errors concern patients of faulty
lots, for there they matter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from datetime import timedelta

from services.world.entities import Dispense, Feed, Late

#: How many dispenses suffer each kind of error.
NEVER_AT_PHARMACY, NEVER_AT_HOSPITAL = 8, 8
TWICE_AT_PHARMACY, TWICE_AT_HOSPITAL = 8, 6
LATE_AT_PHARMACY, LATE_AT_BOTH = 6, 4
EARLIEST, LATEST = timedelta(minutes=30), timedelta(hours=6)


def make_feeds(dispenses: Sequence[Dispense], harmful: Set[str], seed: int) -> tuple[Feed, Feed]:
    """The pharmacy's feed and the hospital's; `harmful` are the dispenses of faulty lots."""
    draw = random.Random(f"{seed}/records")
    matters = [dispense for dispense in dispenses if dispense.dispense in harmful]
    others = [dispense for dispense in dispenses if dispense.dispense not in harmful]
    draw.shuffle(matters)
    draw.shuffle(others)

    def take(count: int) -> list[Dispense]:
        half = [matters.pop() for _ in range(min(count // 2, len(matters)))]
        return half + [others.pop() for _ in range(count - len(half))]

    not_at_pharmacy, not_at_hospital = take(NEVER_AT_PHARMACY), take(NEVER_AT_HOSPITAL)
    late_at_pharmacy, late_at_both = take(LATE_AT_PHARMACY), take(LATE_AT_BOTH)
    pharmacy = _feed(
        dispenses, not_at_pharmacy, late_at_pharmacy + late_at_both, take(TWICE_AT_PHARMACY), draw
    )
    return pharmacy, _feed(dispenses, not_at_hospital, late_at_both, take(TWICE_AT_HOSPITAL), draw)


def _feed(
    dispenses: Sequence[Dispense],
    never: Sequence[Dispense],
    late: Sequence[Dispense],
    twice: Sequence[Dispense],
    draw: random.Random,
) -> Feed:
    missing = {dispense.dispense for dispense in (*never, *late)}
    arrivals = [
        Late(EARLIEST + timedelta(seconds=draw.randrange(int((LATEST - EARLIEST).total_seconds()))), dispense)
        for dispense in late
    ]
    return Feed(
        on_time=tuple(dispense for dispense in dispenses if dispense.dispense not in missing),
        sent_twice=tuple(twice),
        never=tuple(never),
        late=tuple(sorted(arrivals, key=lambda arrival: (arrival.after, arrival.dispense.dispense))),
    )
