"""A medicine whose lots differ in one process parameter, and the people who take it: what studies find out.

The truth is planted here: lots of the warm band make an adverse event more
likely, and carriers of a genotype respond half as much. Nobody who acts sees
it: a hospital is given its own patients, the plant its own lots.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

#: The process parameter, UCUM unit, and the lower end of the band.
TAG, UNIT, WARM = "Temperature", "K", 299.0
#: What the plant's fermenters measure, with UCUM units: the parameter of the studies, and what a live twin
#: follows a lot by.
TAGS = {
    TAG: UNIT,
    "FeedRate": "L/h",
    "AerationRate": "L/h",
    "AgitatorPower": "W",
    "PH": "[pH]",
    "DissolvedOxygen": "%",
    "CarbonDioxide": "mmol/L",
    "Volume": "L",
}
#: A term of the platform's vocabulary: nose bleed.
BLEEDING = "PL1003"
#: LOINC: INR in platelet poor plasma by coagulation assay.
INR, INR_UNIT = "6301-6", "{INR}"
CARRIER, USUAL = "VKORC1 -1639GA", "VKORC1 -1639AA"
INDICATION = "thrombosis"
#: Days after the first dose in which events are counted.
DAYS = 28


@dataclass(frozen=True, slots=True)
class Effects:
    """What is planted: the risk of bleeding in DAYS with a usual lot and with a warm one, and the mean change
    of INR of whom does and does not carry the genotype, with its standard deviation."""

    bleeding: float = 0.08
    bleeding_warm: float = 0.30
    response: float = 1.6
    response_carrier: float = 0.8
    response_spread: float = 0.5
    #: Standard deviation, on the log-odds, of what lots differ in besides.
    between_lots: float = 0.15


@dataclass(frozen=True, slots=True)
class CampaignLot:
    """A lot of the medicine; `mean` is what its temperature truly was, in K."""

    lot: str
    equipment: str
    mean: float
    started: datetime
    completed: datetime

    @property
    def warm(self) -> bool:
        return self.mean >= WARM


@dataclass(frozen=True, slots=True)
class Taker:
    """Somebody who takes the medicine. `bled`: when, if ever; INR before and at the end."""

    site: str
    pseudonym: str
    order: str
    age: int
    sex: str
    genotype: str
    research: bool
    enrolled: datetime
    lot: str
    begun: datetime
    bled: datetime | None
    inr_before: float
    inr_after: float


@dataclass(frozen=True, slots=True)
class Treatment:
    """The medicine, its lots and who takes it."""

    product: str
    owner: str
    plant: str
    lots: tuple[CampaignLot, ...]
    takers: tuple[Taker, ...]
    effects: Effects

    def at(self, site: str) -> list[Taker]:
        """The hospital's own patients."""
        return [taker for taker in self.takers if taker.site == site]
