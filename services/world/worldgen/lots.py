"""From raw lots over dryer runs to finished lots.

Finished lots take the granulate lots in the order of time, one to three each;
some granulate lots go into two finished lots. The older runs are the plant's
history, the younger ones are replayed live, a few of them with a fault.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from services.world.entities import DryerLot, Material, PlantedFault
from services.world.worldgen import names
from services.world.worldgen.dispensing import FinishedLot

HISTORY_RUNS = 40
#: Places of the planted faults among the live runs: the first comes at once,
#: the last leaves time for its loop.
FAULT_PLACES = (0, 6, 11, 16, 21, 27)
SAMPLE = timedelta(minutes=1)
_FAULTY_TAGS = ("DryerTemp", "JacketTemperature", "DryerPressure", "AgitatorPower")
_LARGEST_MERGE = 3
_SHARED = 0.3
_GRANULATES_A_RAW_LOT = 10
_BLENDS_A_RAW_LOT = 10
_KG_GRANULATE, _KG_RAW = 40.0, 500.0
_PACKS = 5_000.0


@dataclass(frozen=True)
class Floor:
    """What the plant made: its dryer runs, and every lot with what went into it."""

    dryer_lots: tuple[DryerLot, ...]
    materials: tuple[Material, ...]


def make_lots(finished: Sequence[FinishedLot], runs: Mapping[int, int], seed: int) -> Floor:
    """`runs` gives the number of samples of each real dryer run."""
    draw = random.Random(f"{seed}/lots")
    active = [lot for lot in finished if lot.dose != names.PLACEBO]
    placebo = [lot for lot in finished if lot.dose == names.PLACEBO]
    schedule = _schedule(sorted(runs), draw)
    recipes = _recipes(len(schedule), len(active), draw)
    ends = _run_ends(recipes, active, len(schedule))
    lots = tuple(
        _dryer_lot(place, run, fault, runs[run], end)
        for place, ((run, fault), end) in enumerate(zip(schedule, ends, strict=True))
    )
    materials = [*_granulates(lots), *_packed(active, recipes, lots), *_blends(placebo)]
    return Floor(lots, tuple(sorted(materials, key=lambda material: (material.at, material.lot))))


def _schedule(runs: Sequence[int], draw: random.Random) -> list[tuple[int, PlantedFault | None]]:
    """Which real run each granulate lot repeats, in order of time, and what is planted in it."""
    shuffled = draw.sample(runs, len(runs))
    history, live = shuffled[:HISTORY_RUNS], shuffled[HISTORY_RUNS:]
    copied = draw.sample(live, len(FAULT_PLACES))
    rest = iter(live)
    played: list[tuple[int, PlantedFault | None]] = []
    for place in range(len(live) + len(FAULT_PLACES)):
        if place in FAULT_PLACES:
            number = FAULT_PLACES.index(place)
            played.append((copied[number], _fault(number, draw)))
        else:
            played.append((next(rest), None))
    return [(run, None) for run in history] + played


def _fault(number: int, draw: random.Random) -> PlantedFault:
    """Steps and drifts take turns; at least 8 residual standard deviations."""
    return PlantedFault(
        tag=_FAULTY_TAGS[number % len(_FAULTY_TAGS)],
        kind="step" if number % 2 == 0 else "drift",
        onset=round(draw.uniform(0.3, 0.5), 3),
        magnitude=round(draw.uniform(10.0, 14.0) if number == 0 else draw.uniform(8.0, 14.0), 2),
    )


def _recipes(granulates: int, finished: int, draw: random.Random) -> list[list[int]]:
    """For each finished lot, the granulate lots inside: every one is used, some twice."""
    bounds = [place * granulates // finished for place in range(finished + 1)]
    recipes = [list(range(start, end)) for start, end in pairwise(bounds)]
    _vary(recipes, draw)
    faulty = {HISTORY_RUNS + place for place in FAULT_PLACES}
    split: set[int] = set()
    for before, after in pairwise(recipes):
        whole = [lot for lot in before if lot not in split]
        wanted = [lot for lot in whole if lot in faulty] or [draw.choice(whole)] * (draw.random() < _SHARED)
        if wanted and len(after) < _LARGEST_MERGE:
            after.insert(0, wanted[0])
            split.add(wanted[0])
    return recipes


def _vary(recipes: list[list[int]], draw: random.Random) -> None:
    """Some finished lots are made of a single granulate lot, their neighbours of three."""
    for before, after in pairwise(recipes):
        if len(before) == 2 and len(after) == 2 and draw.random() < 0.25:
            after.insert(0, before.pop())


def _run_ends(recipes: list[list[int]], finished: Sequence[FinishedLot], count: int) -> list[datetime]:
    """When each dryer run ended: before its first finished lot, one run every eight hours at most."""
    first: dict[int, datetime] = {}
    for recipe, lot in zip(recipes, finished, strict=True):
        for place in recipe:
            first[place] = min(first.get(place, lot.made), lot.made)
    ends: list[datetime] = []
    for place in reversed(range(count)):
        latest = first[place] - timedelta(days=2)
        ends.append(min(latest, ends[-1] - timedelta(hours=8)) if ends else latest)
    return ends[::-1]


def _dryer_lot(place: int, run: int, fault: PlantedFault | None, samples: int, end: datetime) -> DryerLot:
    return DryerLot(
        lot=names.granulate_lot(place + 1),
        product=names.GRANULATE,
        equipment=names.EQUIPMENT[place % len(names.EQUIPMENT)],
        run=run,
        samples=samples,
        started=end - (samples - 1) * SAMPLE,
        completed=end,
        live=place >= HISTORY_RUNS,
        fault=fault,
    )


def _granulates(lots: Sequence[DryerLot]) -> Iterable[Material]:
    """Each granulate lot is made of a lot of active substance and one of excipient."""
    received: dict[str, Material] = {}
    for place, lot in enumerate(lots):
        number = place // _GRANULATES_A_RAW_LOT + 1
        inputs = (names.raw_lot("xanomeline", number), names.raw_lot("lactose", number))
        for raw in inputs:
            received.setdefault(raw, _received(raw, lot.started))
        yield Material(lot.lot, inputs, lot.completed, _KG_GRANULATE, "kg")
    yield from received.values()


def _packed(
    finished: Sequence[FinishedLot], recipes: list[list[int]], lots: Sequence[DryerLot]
) -> Iterable[Material]:
    for lot, recipe in zip(finished, recipes, strict=True):
        yield Material(lot.lot, tuple(lots[place].lot for place in recipe), lot.made, _PACKS, "{pack}")


def _blends(placebo: Sequence[FinishedLot]) -> Iterable[Material]:
    """Placebo never sees a dryer: excipient of its own, blended and packed."""
    received: dict[str, Material] = {}
    for place, lot in enumerate(placebo):
        raw = names.raw_lot("starch", place // _BLENDS_A_RAW_LOT + 1)
        blend, mixed = names.blend_lot(place + 1), lot.made - timedelta(days=2)
        received.setdefault(raw, _received(raw, mixed))
        yield Material(blend, (raw,), mixed, _KG_GRANULATE, "kg")
        yield Material(lot.lot, (blend,), lot.made, _PACKS, "{pack}")
    yield from received.values()


def _received(lot: str, first_use: datetime) -> Material:
    return Material(lot, (), first_use - timedelta(days=30), _KG_RAW, "kg")
