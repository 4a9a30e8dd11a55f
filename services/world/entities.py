"""What a simulated world consists of, as plain frozen data: things, people, and what happened.

What somebody wrote down of it is in `records`. Each actor is given its own
slice: a pharmacy its feed, a hospital its records, a patient their own body.
No actor is given the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

DRYER, FERMENTER = "dryer", "fermenter"


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """A fault put into a run.

    `onset` is the fraction of the run at which it begins. In a copy of a real
    dryer run `magnitude` is its size in residual standard deviations of the
    published model, with sign; in a fermentation it is in the unit of its kind
    (`fermentations.FAULTS`). `tags` are all that show it, `tag` among them;
    empty: that one alone. A `nuisance` is in the readings only, of a sound lot.
    """

    tag: str
    kind: str
    onset: float
    magnitude: float
    tags: tuple[str, ...] = ()
    nuisance: bool = False


@dataclass(frozen=True, slots=True)
class Conditions:
    """How one fermentation differs from the recipe: g/L of inoculum and sugar, growth and feed as a
    share, aeration L/h, power W, temperature K, cooling water Cel; `noise` seeds its sensors."""

    biomass: float
    substrate: float
    growth: float
    feed: float
    aeration: float
    power: float
    temperature: float
    ph: float
    water: float
    noise: int


@dataclass(frozen=True, slots=True)
class ProcessLot:
    """A lot and the process run that made it: `run` is the number of the real dryer run, or of the
    fermentation in its campaign. `used`: finished lots are made of it."""

    lot: str
    equipment: str
    run: int
    samples: int
    started: datetime
    completed: datetime
    live: bool
    used: bool
    fault: PlantedFault | None = None
    conditions: Conditions | None = None

    @property
    def faulty(self) -> bool:
        """Something is wrong with the material, not only with a sensor's contact."""
        return self.fault is not None and not self.fault.nuisance


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plant, and its runs in order of time: first the history, then the live ones."""

    process: str
    owner: str
    plant: str
    product: str
    equipment: tuple[str, ...]
    lots: tuple[ProcessLot, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """A record that a lot was made from lots (from none: a raw lot that was received).

    `kind` is "received", "process", "blend", "packed", "repacked", "reworked" or "kit";
    `late` is how long after the runs began the record comes, None: on time.
    """

    record: str
    lot: str
    inputs: tuple[str, ...]
    at: datetime
    amount: float
    unit: str
    kind: str
    source: str
    late: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Shipment:
    """Packs of a lot went from one place to another."""

    record: str
    lot: str
    from_place: str
    to_place: str
    amount: int
    unit: str
    at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A patient as the hospital knows them; `status` is "ACTIVE", "DECEASED" or "MOVED"."""

    pseudonym: str
    consent: bool
    age: int
    sex: str
    arm: str
    at: datetime
    status: str = "ACTIVE"
    moved_to: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """What only the person knows: whether they answer, after how many reminders, whether they come to have
    blood taken, and how they feel."""

    pseudonym: str
    answers: bool
    complaint: bool
    reminders: int = 0
    gives_blood: bool = True


@dataclass(frozen=True, slots=True)
class Blood:
    """What a laboratory finds in a person's blood while they are followed up: `usual` is theirs when
    nothing harmed them, `factor` what faulty material made of it. LOINC code, UCUM unit."""

    site: str
    pseudonym: str
    code: str
    unit: str
    usual: float
    factor: float
    value: float


@dataclass(frozen=True, slots=True)
class Tube:
    """What a hospital's own laboratory would read in a person's blood."""

    pseudonym: str
    code: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """How a hospital asks those who took a product: for how long, about which symptom (a term of the
    platform's vocabulary), and which laboratory tests it wants (LOINC codes)."""

    product: str
    hours: int
    symptom: str
    labs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dispense:
    """One pack handed to one person, as somebody says it. Where packs had been opened and mixed, it
    may be of any of `possible_lots` instead. `site` and `pseudonym` are empty where nobody knows them."""

    dispense: str
    order: str
    lot: str
    site: str
    pseudonym: str
    pharmacy: str
    at: datetime
    amount: int
    unit: str
    possible_lots: tuple[str, ...] = ()

    @property
    def lots(self) -> tuple[str, ...]:
        return (self.lot, *self.possible_lots)


@dataclass(frozen=True, slots=True)
class Observation:
    """A finding at a hospital: a laboratory value (`kind` "lab", LOINC code, UCUM unit), or a symptom
    (`kind` "symptom", a word of the vocabulary, value 1 mild, 2 moderate, 3 severe)."""

    site: str
    pseudonym: str
    kind: str
    code: str
    value: float
    unit: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LotTest:
    """A result of the laboratory on a lot, with the limits of its specification. `misread` is what the
    laboratory read at first by an error of its own, None: it made none."""

    lot: str
    test: str
    value: float
    unit: str
    low: float
    high: float
    at: datetime
    misread: float | None = None

    @property
    def first(self) -> float:
        """What was recorded first."""
        return self.value if self.misread is None else self.misread

    @property
    def suspect(self) -> bool:
        """The first result is out of specification: the laboratory tests again."""
        return not self.low <= self.first <= self.high


@dataclass(frozen=True, slots=True)
class Notice:
    """How a patient takes a notice: by which channel, in which language, how soon (None: never read)."""

    site: str
    pseudonym: str
    channel: str
    language: str
    read_after: timedelta | None


@dataclass(frozen=True, slots=True)
class HazardEvaluation:
    """What a physician of the maker would say of a faulty lot, and the class of the recall it calls for."""

    lot: str
    severity: str
    likelihood: str
    recall_class: int
    reason: str
