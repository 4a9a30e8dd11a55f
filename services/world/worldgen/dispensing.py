"""Every exposure of the pilot study becomes one dispense of one finished lot.

The study's dates are moved so that the last exposure lies shortly before the
platform's now. Lots are used up by date within their product; a pharmacy
still hands out some packs of the lot before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from services.kit.ids import dispense_id
from services.world.entities import Dispense
from services.world.worldgen import names
from services.world.worldgen.cdisc import Pilot, PilotExposure

#: Finished lots of each product: about ten dispenses a lot.
LOTS = {names.PLACEBO: 20, names.LOW: 26, names.HIGH: 8}
_LAST_EXPOSURE = timedelta(days=3)
_OLDER_STOCK = 0.15


@dataclass(frozen=True)
class FinishedLot:
    """A finished lot and when it was made."""

    lot: str
    dose: int
    made: datetime


def rebase(pilot: Pilot, anchor: datetime) -> timedelta:
    """How far the study's dates are moved."""
    return anchor.date() - _LAST_EXPOSURE - max(exposure.start for exposure in pilot.exposures)


def dispense_all(
    pilot: Pilot, seed: int, anchor: datetime
) -> tuple[tuple[FinishedLot, ...], tuple[Dispense, ...]]:
    """The finished lots in the order in which they were made, and all dispenses by time."""
    lots: list[FinishedLot] = []
    dispenses: list[Dispense] = []
    for dose in LOTS:
        made, given = _product(pilot, seed, anchor, dose)
        lots += made
        dispenses += given
    return (
        tuple(sorted(lots, key=lambda lot: (lot.made, lot.lot))),
        tuple(sorted(dispenses, key=lambda dispense: (dispense.at, dispense.dispense))),
    )


def _product(
    pilot: Pilot, seed: int, anchor: datetime, dose: int
) -> tuple[list[FinishedLot], list[Dispense]]:
    draw = random.Random(f"{seed}/dispensing/{dose}")
    shift = rebase(pilot, anchor)
    exposures = sorted(
        (exposure for exposure in pilot.exposures if exposure.dose == dose),
        key=lambda exposure: (exposure.start, exposure.usubjid, exposure.sequence),
    )
    moments = [_opening_hours(exposure.start + shift, draw) for exposure in exposures]
    numbers = [place * LOTS[dose] // len(exposures) for place in range(len(exposures))]
    first = {number: moments[numbers.index(number)] for number in range(LOTS[dose])}
    lots = [
        FinishedLot(names.finished_lot(dose, number + 1), dose, _made_before(first[number], draw))
        for number in range(LOTS[dose])
    ]
    given = [
        _dispense(exposure, at, lots[_on_the_shelf(number, draw)].lot, seed)
        for exposure, at, number in zip(exposures, moments, numbers, strict=True)
    ]
    return lots, given


def _opening_hours(day: date, draw: random.Random) -> datetime:
    """A moment between 8 and 17 o'clock in Shanghai."""
    return datetime.combine(day, time(0), UTC) + timedelta(minutes=draw.randrange(9 * 60))


def _made_before(first: datetime, draw: random.Random) -> datetime:
    return first - timedelta(days=draw.randint(10, 20), hours=draw.randrange(12))


def _on_the_shelf(number: int, draw: random.Random) -> int:
    """Mostly the current lot, sometimes the one before."""
    return number - 1 if number and draw.random() < _OLDER_STOCK else number


def _dispense(exposure: PilotExposure, at: datetime, lot: str, seed: int) -> Dispense:
    order = names.order_number(seed, exposure.usubjid, exposure.sequence)
    person = names.pseudonym(seed, exposure.usubjid)
    return Dispense(dispense_id(names.SITE, order, lot), order, lot, person, at, exposure.days)
