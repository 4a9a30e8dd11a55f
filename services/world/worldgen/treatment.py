"""Makes the medicine's lots and the people who take it, with the planted effects."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

from services.world.names import Names
from services.world.sizes import TreatmentSize
from services.world.treatment import CARRIER, DAYS, USUAL, CampaignLot, Effects, Taker, Treatment

_DAY = timedelta(days=1)
#: Temperatures in K: of usual and of warm lots, and how far lots of a kind differ.
_USUAL, _WARM, _SPREAD = 298.0, 300.0, 0.25
_CARRIERS, _CONSENT = 0.2, 0.92


def treatment(size: TreatmentSize, sites: Iterable[str], names: Names, anchor: datetime) -> Treatment:
    """Every second lot is warm; a person's lot is drawn apart from age, sex and genotype."""
    draw = Random(names.draw("treatment"))
    effects = Effects()
    lots = tuple(_lot(number, size.lots, names, anchor, draw) for number in range(size.lots))
    differs = {lot.lot: draw.gauss(0, effects.between_lots) for lot in lots}
    takers = [
        _taker(site, number, draw.choice(lots), differs, effects, names, anchor, draw)
        for site in sites
        for number in range(size.people)
    ]
    plant, owner, product = names.treatment()
    return Treatment(product, owner, plant, lots, tuple(takers), effects)


def _lot(number: int, count: int, names: Names, anchor: datetime, draw: Random) -> CampaignLot:
    started = anchor - (60 + 2 * (count - number)) * _DAY
    middle = _WARM if number % 2 else _USUAL
    return CampaignLot(
        lot=names.treatment_lot(number),
        equipment=names.treatment_equipment(),
        mean=round(draw.gauss(middle, _SPREAD), 3),
        started=started,
        completed=started + timedelta(hours=40),
    )


def _taker(
    site: str,
    number: int,
    lot: CampaignLot,
    differs: dict[str, float],
    effects: Effects,
    names: Names,
    anchor: datetime,
    draw: Random,
) -> Taker:
    person = f"{site}/treatment/{number}"
    begun = anchor - timedelta(minutes=draw.uniform((DAYS + 2) * 1440, 55 * 1440))
    carrier = draw.random() < _CARRIERS
    risk = _moved(effects.bleeding_warm if lot.warm else effects.bleeding, differs[lot.lot])
    bled = begun + draw.uniform(0.5, DAYS - 0.5) * _DAY if draw.random() < risk else None
    before = max(0.8, draw.gauss(1.05, 0.1))
    mean = effects.response_carrier if carrier else effects.response
    return Taker(
        site=site,
        pseudonym=names.pseudonym(site, person),
        order=names.order(person, 1),
        age=min(95, max(18, round(draw.gauss(58, 14)))),
        sex=draw.choice("FM"),
        genotype=CARRIER if carrier else USUAL,
        research=draw.random() < _CONSENT,
        enrolled=begun - timedelta(days=2),
        lot=lot.lot,
        begun=begun,
        bled=bled,
        inr_before=round(before, 2),
        inr_after=round(max(0.8, before + draw.gauss(mean, effects.response_spread)), 2),
    )


def _moved(risk: float, shift: float) -> float:
    """The risk, moved on the log-odds."""
    return 1 / (1 + math.exp(-(math.log(risk / (1 - risk)) + shift)))
