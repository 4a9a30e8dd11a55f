"""Single incidents, each in a small world of its own: one line, some lots, sixty patients.

Exactly one thing goes wrong in it. What the platform should answer is known,
and asked for at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.world.entities import DRYER, FERMENTER
from services.world.names import LOW, PEN_250, RARE, Product
from services.world.sizes import LineSize, ProductSize, Rates, Size

PATIENTS = 60
_DISPENSES = 130
_RUNS = {DRYER: 12, FERMENTER: 20}
#: Nothing but the incident goes wrong.
_QUIET = Rates(
    returned_unopened=0.0,
    returned_opened=0.0,
    opened_packs=0.0,
    found_out=0.0,
    stranger=0.0,
    late_at_pharmacy=0.0,
    late_at_both=0.0,
    never_at_pharmacy=0.0,
    never_at_hospital=0.0,
    twice_at_pharmacy=0.0,
    twice_at_hospital=0.0,
    wrong_lot_at_pharmacy=0.0,
    wrong_lot_at_hospital=0.0,
    transferred=0.0,
    late_materials=0,
    refused=0.0,
    withdrawn=0.0,
    deceased=0.0,
    moved=0.0,
    silent=0.0,
    reminded_once=0.0,
    reminded_twice=0.0,
    misread=0.0,
)


@dataclass(frozen=True)
class Incident:
    """One thing that goes wrong: `story` is told at the beginning, `fault` is what is planted in the
    one live run (none: `harmless`), and the rates are those of its troubles. Patients take the `product`
    (none: the usual one of the process) and are followed up for `hours`; it is given up after `minutes`."""

    name: str
    story: str
    process: str
    fault: str
    rates: Rates = _QUIET
    repacked: int = 0
    harmless: bool = False
    hours: int = 8
    minutes: float = 10.0
    product: Product | None = None

    def size(self, sites: Sequence[str]) -> Size:
        """Its world, at some hospitals. Patients of the other product have nothing to do with it."""
        mine, other = (LOW, PEN_250) if self.process == DRYER else (PEN_250, LOW)
        mine = self.product or mine
        patients = tuple(
            (site, PATIENTS * (place + 1) // len(sites) - PATIENTS * place // len(sites))
            for place, site in enumerate(sites)
        )
        return Size(
            self.name,
            lines=(
                LineSize(self.process, history=_RUNS[self.process], used=1, stock=0, faults=(self.fault,)),
            ),
            products=(
                ProductSize(mine, packed=2, repacked=self.repacked, share=0.6, follow_up=self.hours),
                ProductSize(other, packed=2, share=0.4),
            ),
            raw=(("xanomeline", 1), ("lactose", 1), ("glucose", 1), ("phenylacetic-acid", 1)),
            patients=patients,
            dispenses=_DISPENSES,
            pilot=False,
            pharmacies=len(sites),
            wholesalers=1,
            rates=self.rates,
            shared_number=1,
        )


INCIDENTS = {
    incident.name: incident
    for incident in (
        Incident(
            "drift",
            "The heating of a dryer begins to drift in the middle of a run. The granulate has long been "
            "packed and handed out. Everybody who received some of it is to be found and asked.",
            DRYER,
            "drift",
        ),
        Incident(
            "contamination",
            "A foreign organism grows in a fermenter: it breathes, and the oxygen falls. Six in ten of "
            "those who took the penicillin will have a complaint.",
            FERMENTER,
            "contamination",
        ),
        Incident(
            "mix-up",
            "Two makers have a lot of the same number. A pharmacy writes down the wrong maker's for some "
            "packs of a lot that turns out to be bad; the hospitals' own records show the right one, and "
            "later the pharmacy corrects what it wrote.",
            DRYER,
            "step",
            replace(_QUIET, wrong_lot_at_pharmacy=0.06, same_number_only=True),
        ),
        Incident(
            "late-data",
            "A dryer's temperature jumps. While the patients are being found, records still come in: "
            "dispenses that a pharmacy had not sent, some that the hospital had not either, and a lot "
            "that was packed again.",
            DRYER,
            "step",
            replace(_QUIET, late_at_pharmacy=0.10, late_at_both=0.06, late_materials=1),
            repacked=1,
        ),
        Incident(
            "silence",
            "A dryer's temperature jumps, and many of those who took the granulate do not answer. They are "
            "reminded after a day, and who has not answered then after three days; some never answer. It "
            "takes as long as the follow-up: more than three days of the platform's clock.",
            DRYER,
            "step",
            replace(_QUIET, silent=0.10, reminded_once=0.30, reminded_twice=0.20),
            hours=74,
            product=RARE,
            minutes=20.0,
        ),
        Incident(
            "false-alarm",
            "The contact of a pH probe is loose: its reading swings to both sides, the broth is sound. "
            "The alarm is to be seen through, and nobody is to be asked anything.",
            FERMENTER,
            "flutter",
            harmless=True,
        ),
    )
}
