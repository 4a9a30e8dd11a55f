"""How large a world is, and how often something goes wrong in it. Every number of a world stands here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.world.entities import DRYER, FERMENTER
from services.world.names import HIGH, LOW, PEN_250, PEN_500, PLACEBO, Product


@dataclass(frozen=True)
class LineSize:
    """The runs of a line. Live ones are `used` for finished lots (the faulty ones are among these) or
    lie in `stock`, where they measure false alarms; `nuisances` of those have a sensor that flutters."""

    process: str
    history: int
    used: int
    stock: int
    faults: tuple[str, ...]
    nuisances: int = 0


@dataclass(frozen=True)
class ProductSize:
    """Finished lots of a product: packed, packed again by the contract maker, and those among the packed
    that part of another one was worked into; and the share of the synthetic patients who take it."""

    product: Product
    packed: int
    repacked: int = 0
    reworked: int = 0
    share: float = 0.0
    #: Patients are followed up for so many hours; 0: as the platform does when nobody says how. A run lasts
    #: as long, for somebody never answers: only the fermentations, which are replayed first, leave the time
    #: for the reminder after a day.
    follow_up: int = 0


@dataclass(frozen=True)
class TreatmentSize:
    """The developer's medicine: lots of its history (half of them of the warm band), people at each site, and
    transfers of its process one after the other."""

    lots: int
    people: int
    transfers: int = 5


@dataclass(frozen=True)
class Rates:
    """How often each kind of trouble happens, as a share of all dispenses (or, below, of all people).

    Of the errors of records, about half are made to concern patients of faulty lots.
    """

    returned_unopened: float = 0.010
    returned_opened: float = 0.010
    #: Handed out of opened packs of two lots, or of three (a quarter of them).
    opened_packs: float = 0.020
    #: Recorded without a patient: found out later, or never (sold without prescription).
    found_out: float = 0.004
    stranger: float = 0.006
    late_at_pharmacy: float = 0.006
    late_at_both: float = 0.004
    never_at_pharmacy: float = 0.008
    never_at_hospital: float = 0.008
    twice_at_pharmacy: float = 0.008
    twice_at_hospital: float = 0.006
    wrong_lot_at_pharmacy: float = 0.004
    wrong_lot_at_hospital: float = 0.004
    #: The wrong lot is always the other maker's of the same number, never the one beside it.
    same_number_only: bool = False

    #: Share of deliveries to a pharmacy that come from another pharmacy.
    transferred: float = 0.04
    #: Records of re-packed lots that come late.
    late_materials: int = 1

    refused: float = 0.08
    withdrawn: float = 0.04
    deceased: float = 0.008
    moved: float = 0.012
    #: People who never answer a question.
    silent: float = 0.04
    #: People who answer only when they were reminded once, or twice.
    reminded_once: float = 0.06
    reminded_twice: float = 0.02
    #: People who come to have blood taken, of those who answer.
    give_blood: float = 0.4
    #: Results of live lots that the plant's laboratory misreads at first.
    misread: float = 0.03


@dataclass(frozen=True)
class Size:
    """One world: its lines, products, people, and rates. `patients` are the synthetic ones by site."""

    name: str
    lines: tuple[LineSize, ...]
    products: tuple[ProductSize, ...]
    raw: tuple[tuple[str, int], ...]
    patients: tuple[tuple[str, int], ...]
    dispenses: int
    pilot: bool = True
    blends: int = 0
    reworked_intermediates: int = 0
    pharmacies: int = 20
    wholesalers: int = 3
    #: Number of the lot that two makers call alike.
    shared_number: int = 5
    #: Visits at which a synthetic patient's values are taken.
    visits: int = 2
    rates: Rates = field(default_factory=Rates)
    #: None: nothing is studied, and nothing transferred.
    treatment: TreatmentSize | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        named = [site for site, _ in self.patients]
        return tuple(dict.fromkeys(["hospital-a", *named] if self.pilot else named))


_PRODUCTS = (
    ProductSize(PLACEBO, packed=6),
    ProductSize(LOW, packed=19, repacked=4, reworked=1, share=0.35, follow_up=8),
    ProductSize(HIGH, packed=9, repacked=1, reworked=1, share=0.15, follow_up=8),
    ProductSize(PEN_250, packed=10, repacked=3, reworked=1, share=0.30, follow_up=26),
    ProductSize(PEN_500, packed=7, repacked=1, share=0.20),
)
_RAW = (("xanomeline", 5), ("lactose", 5), ("starch", 2), ("glucose", 4), ("phenylacetic-acid", 4))
_DRYERS = LineSize(
    DRYER, history=40, used=18, stock=19, faults=("step", "drift", "step", "drift", "step", "drift")
)
_FAULTS = ("contamination", "feed-loss", "temperature-drift", "agitation-loss", "sensor-drift")

#: W-S, the whole industry: 60 finished lots of 30 intermediates and 20 raw lots, 5,000 patients,
#: 15,000 dispenses.
WS = Size(
    "ws",
    lines=(_DRYERS, LineSize(FERMENTER, history=32, used=10, stock=6, faults=_FAULTS, nuisances=3)),
    products=_PRODUCTS,
    raw=_RAW,
    patients=(("hospital-b", 2373), ("hospital-c", 2373)),
    dispenses=15_000,
    blends=2,
    reworked_intermediates=1,
    treatment=TreatmentSize(lots=28, people=300),
)
#: The same plants and lots with a tenth of the patients, followed up for a third of a day at most: for tests,
#: and for a first look.
SMALL = Size(
    "small",
    lines=(_DRYERS, LineSize(FERMENTER, history=20, used=10, stock=6, faults=_FAULTS, nuisances=3)),
    products=tuple(replace(item, follow_up=min(item.follow_up, 8)) for item in _PRODUCTS),
    raw=_RAW,
    patients=(("hospital-b", 120), ("hospital-c", 120)),
    dispenses=1_400,
    blends=2,
    reworked_intermediates=1,
    visits=1,
    treatment=TreatmentSize(lots=24, people=200),
)
#: The small world without the developer: the safety loop alone.
SAFETY = replace(SMALL, name="small-safety", treatment=None)
SIZES = {size.name: size for size in (WS, SMALL, SAFETY)}
