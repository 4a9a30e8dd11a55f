"""What is found of patients and of lots without anybody being asked: values, symptoms, results of tests.

Hospital A's findings are the pilot study's own, moved in time; the others are
made, and faulty material moves them as `effects` says.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.world.entities import Dispense, LotTest, Material, Observation
from services.world.names import Names
from services.world.records import Harm
from services.world.sizes import Size
from services.world.worldgen.cdisc import Pilot
from services.world.worldgen.effects import EFFECTS
from services.world.worldgen.people import PILOT_SITE
from services.world.worldgen.vocabulary import ALT, CREATININE, CRP, LEUKOCYTES, OTHER_SYMPTOM, VOCABULARY

#: Middle and spread (of the logarithm) of what sound people have, and the unit.
USUAL = {
    ALT: (22.0, 0.35, "U/L"),
    CREATININE: (80.0, 0.20, "umol/L"),
    CRP: (2.5, 0.60, "mg/L"),
    LEUKOCYTES: (6.8, 0.20, "10*9/L"),
}
#: Symptoms told at a visit: by anybody, and more of those whom something harmed.
_SYMPTOM, _SYMPTOM_IF_HARMED = 0.06, 0.5


@dataclass(frozen=True)
class _Tested:
    """A test of a kind of lot: middle, spread, unit, limits; and by effect what it shifts by."""

    name: str
    middle: float
    spread: float
    unit: str
    low: float
    high: float
    shifts: Mapping[str, float]


_TESTS = (
    _Tested(
        "assay",
        *(100.0, 0.8, "%", 95.0, 105.0),
        {"feed-loss": -9.0, "temperature-drift": -4.0, "DryerTemp": -3.0},
    ),
    _Tested(
        "impurities",
        *(0.3, 0.05, "%", 0.0, 1.0),
        {"temperature-drift": 1.2, "contamination": 0.6, "DryerTemp": 0.9},
    ),
    _Tested(
        "loss-on-drying",
        *(1.5, 0.15, "%", 0.5, 3.0),
        {"DryerPressure": 1.9, "JacketTemperature": 1.6, "AgitatorPower": 1.0},
    ),
    _Tested("bioburden", *(10.0, 3.0, "{CFU}/g", 0.0, 100.0), {"contamination": 400.0}),
)


def pilot_observations(pilot: Pilot, shift: timedelta, names: Names, now: datetime) -> Iterator[Observation]:
    """The study's own findings, as far as they lie in the past."""
    for item in pilot.findings:
        at = item.at.replace(tzinfo=UTC) + shift
        if at < now:
            person = names.pseudonym(PILOT_SITE, item.usubjid)
            yield Observation(PILOT_SITE, person, item.kind, item.code, item.value, item.unit, at)


def made_observations(
    dispenses: Iterable[Dispense], harms: Iterable[Harm], size: Size, names: Names, now: datetime
) -> Iterator[Observation]:
    """At some visits after a pack was taken, at every hospital but the study's."""
    harmed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for harm in harms:
        harmed[harm.site, harm.pseudonym].append(harm.kind)
    taken: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for dispense in dispenses:
        if dispense.pseudonym and dispense.site != PILOT_SITE:
            taken[dispense.site, dispense.pseudonym].append(dispense.at)
    for (site, person), times in sorted(taken.items()):
        draw = random.Random(names.draw("observations", person))
        for at in sorted(draw.choices(times, k=size.visits)):
            visit = at + timedelta(days=draw.randint(3, 21))
            if visit < now:
                yield from _visit(site, person, visit, harmed.get((site, person), ()), draw)


def _visit(
    site: str, person: str, at: datetime, kinds: Sequence[str], draw: random.Random
) -> Iterator[Observation]:
    for code, (middle, spread, unit) in sorted(USUAL.items()):
        factor = max((EFFECTS[kind].labs.get(code, 1.0) for kind in kinds), default=1.0)
        value = round(middle * draw.lognormvariate(0.0, spread) * factor, 2)
        yield Observation(site, person, "lab", code, value, unit, at)
    named = [EFFECTS[kind].symptom for kind in kinds if EFFECTS[kind].symptom]
    if named and draw.random() < _SYMPTOM_IF_HARMED:
        yield Observation(site, person, "symptom", draw.choice(named), float(draw.choice((1, 2, 3))), "1", at)
    elif draw.random() < _SYMPTOM:
        word = draw.choice([word for word in VOCABULARY if word != OTHER_SYMPTOM])
        yield Observation(site, person, "symptom", word, float(draw.choice((1, 1, 2))), "1", at)


def lot_tests(
    materials: Iterable[Material],
    inside: Mapping[str, Sequence[str]],
    faulty: Mapping[str, str],
    names: Names,
    live: Collection[str] = (),
    misread: float = 0.0,
) -> tuple[LotTest, ...]:
    """Every lot that was made is tested, but kits; of a faulty one among several inside, its part shows.

    Of `live` lots the laboratory misreads so large a share of what is within specification.
    """
    parts: dict[str, int] = {}
    made: dict[str, datetime] = {}
    for item in materials:
        if item.kind not in ("received", "reworked", "kit"):
            parts[item.lot], made[item.lot] = len(item.inputs), item.at
    found = []
    for lot, at in sorted(made.items()):
        draw = random.Random(names.draw("tests", lot))
        slips = random.Random(names.draw("misread", lot))
        for test in _TESTS:
            share = 1.0 if lot in faulty else 1.0 / max(1, parts[lot])
            shift = sum(test.shifts.get(faulty[bad], 0.0) for bad in inside.get(lot, ()))
            value = max(0.0, test.middle + test.spread * draw.gauss(0, 1) + share * shift)
            when = at + timedelta(hours=draw.randint(4, 40))
            tested = LotTest(lot, test.name, round(value, 3), test.unit, test.low, test.high, when)
            if lot in live and not tested.suspect and slips.random() < misread:
                tested = replace(tested, misread=_misread(test, slips))
            found.append(tested)
    return tuple(found)


def _misread(test: _Tested, draw: random.Random) -> float:
    """Beyond the upper limit by a few spreads, as of a sample that was weighed or diluted wrongly."""
    return round(test.high + test.spread * draw.uniform(2, 6), 3)
