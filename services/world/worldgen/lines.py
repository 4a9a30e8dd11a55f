"""The lines of the plants: which run made which lot, when, on which equipment, and what was planted.

The older runs are the plant's history, their goods are used up. Of the
younger ones, replayed live, some went into finished lots, all faulty ones
among them; the others are still in stock.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from services.world import fermentations
from services.world.entities import DRYER, FERMENTER, Conditions, Line, PlantedFault, ProcessLot
from services.world.names import OWNERS, PLANTS, Names
from services.world.processes import SAMPLE
from services.world.sizes import LineSize

#: Between the ends of two runs of a line, so that no equipment has two at once.
_SPACING = {DRYER: timedelta(hours=8), FERMENTER: timedelta(hours=140)}
_BEFORE_USE = timedelta(days=2)
_FAULTY_TAGS = ("DryerTemp", "JacketTemperature", "DryerPressure", "AgitatorPower")


FAULTY, USED, STOCK, FLUTTERING = "faulty", "used", "stock", "fluttering"


def used_lots(size: LineSize, names: Names) -> list[str]:
    """The lots that finished lots may be made of, in order of time."""
    return [
        names.intermediate(size.process, size.history + place + 1)
        for place, role in enumerate(_roles(size, names))
        if role in (FAULTY, USED)
    ]


def make_line(
    size: LineSize, names: Names, runs: Mapping[int, int], first_use: Mapping[str, datetime], now: datetime
) -> Line:
    """`runs`: samples of each real dryer run; `first_use`: when each used lot was first worked on."""
    roles = [*[STOCK] * size.history, *_roles(size, names)]
    lots = [names.intermediate(size.process, place + 1) for place in range(len(roles))]
    ends = _ends([first_use.get(lot, now) - _BEFORE_USE for lot in lots], _SPACING[size.process])
    equipment = names.equipment(size.process)
    return Line(
        process=size.process,
        owner=OWNERS[size.process],
        plant=PLANTS[size.process],
        product=names.product(size.process),
        equipment=equipment,
        lots=_lots(size, names, runs, roles, lots, ends),
    )


def _lots(
    size: LineSize,
    names: Names,
    runs: Mapping[int, int],
    roles: Sequence[str],
    lots: Sequence[str],
    ends: Sequence[datetime],
) -> tuple[ProcessLot, ...]:
    equipment = names.equipment(size.process)
    dryer = size.process == DRYER
    numbers = _real_runs(size, names, sorted(runs), roles) if dryer else range(1, len(lots) + 1)
    faults = _faults(size, names, roles)
    made = []
    for place, (lot, role, end) in enumerate(zip(lots, roles, ends, strict=True)):
        samples = runs[numbers[place]] if dryer else fermentations.SAMPLES
        made.append(
            ProcessLot(
                lot=lot,
                equipment=equipment[place % len(equipment)],
                run=numbers[place],
                samples=samples,
                started=end - (samples - 1) * SAMPLE[size.process],
                completed=end,
                live=place >= size.history,
                used=role in (FAULTY, USED),
                fault=faults.get(place),
                conditions=None if dryer else conditions(names, place),
            )
        )
    return tuple(made)


def _ends(latest: Sequence[datetime], spacing: timedelta) -> list[datetime]:
    """When each run ended: before its lot was used, and before the next one."""
    ends: list[datetime] = []
    for limit in reversed(latest):
        ends.append(min(limit, ends[-1] - spacing) if ends else limit)
    return ends[::-1]


# -- what is planted where ------------------------------------------------------


def _roles(size: LineSize, names: Names) -> list[str]:
    """What each live run is to be: the first is a faulty one, and the last leaves time for its loop."""
    draw = random.Random(names.draw("roles", size.process))
    live = size.used + size.stock
    roles = [STOCK] * live
    for number in range(len(size.faults)):
        roles[number * live // len(size.faults)] = FAULTY
    others = [place for place, role in enumerate(roles) if role == STOCK]
    for place in draw.sample(others, size.used - len(size.faults)):
        roles[place] = USED
    others = [place for place in others if roles[place] == STOCK]
    for place in draw.sample(others, size.nuisances):
        roles[place] = FLUTTERING
    return roles


def _real_runs(size: LineSize, names: Names, runs: Sequence[int], roles: Sequence[str]) -> list[int]:
    """The real run of each place; a faulty one is a copy of a run that is replayed as it is, too."""
    draw = random.Random(names.draw("runs", size.process))
    shuffled = draw.sample(runs, len(runs))
    rest = shuffled[size.history :]
    copies, originals = iter(draw.sample(rest, len(size.faults))), iter(rest)
    live = [next(copies if role == FAULTY else originals) for role in roles[size.history :]]
    return [*shuffled[: size.history], *live]


def _faults(size: LineSize, names: Names, roles: Sequence[str]) -> dict[int, PlantedFault]:
    """What is planted, by place."""
    draw = random.Random(names.draw("faults", size.process))
    found: dict[int, PlantedFault] = {}
    kinds = iter(range(len(size.faults)))
    for place, role in enumerate(roles):
        if role == FAULTY:
            found[place] = _fault(size, next(kinds), draw)
        elif role == FLUTTERING:
            found[place] = _fermentation_fault("flutter", draw, nuisance=True)
    return found


def _fault(size: LineSize, number: int, draw: random.Random) -> PlantedFault:
    kind = size.faults[number]
    if size.process == FERMENTER:
        return _fermentation_fault(kind, draw, nuisance=kind == "flutter")
    return PlantedFault(
        tag=_FAULTY_TAGS[number % len(_FAULTY_TAGS)],
        kind=kind,
        onset=round(draw.uniform(0.3, 0.5), 3),
        magnitude=round(draw.uniform(10.0, 14.0) if number == 0 else draw.uniform(8.0, 14.0), 2),
    )


def _fermentation_fault(kind: str, draw: random.Random, *, nuisance: bool = False) -> PlantedFault:
    """In the fed phase; its size within a tenth of what its kind usually has."""
    usual = fermentations.FAULTS[kind]
    return PlantedFault(
        tag=usual.tags[0],
        kind=kind,
        onset=round(draw.uniform(0.3, 0.5), 3),
        magnitude=round(usual.size * draw.uniform(0.9, 1.1), 4),
        tags=usual.tags,
        nuisance=nuisance,
    )


def conditions(names: Names, place: int) -> Conditions:
    draw = random.Random(names.draw("fermentation", place))
    return Conditions(
        biomass=draw.gauss(0.1, 0.006),
        substrate=draw.gauss(15, 0.2),
        growth=draw.gauss(1, 0.008),
        feed=draw.gauss(1, 0.01),
        aeration=draw.gauss(8, 0.08),
        power=draw.gauss(29.9, 0.3),
        temperature=draw.gauss(298, 0.1),
        ph=draw.gauss(5, 0.02),
        water=draw.gauss(10, 0.5),
        noise=draw.getrandbits(32),
    )
