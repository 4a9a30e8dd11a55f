"""What a simulated world consists of, as plain frozen data.

Each actor is given its own slice: the pharmacy its feed, the hospital its
records, a patient their own body. No actor is given the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class PlantedFault:
    """A fault put into the copy of a real run.

    `onset` is the fraction of the run at which it begins, `magnitude` its
    size in residual standard deviations of the published model, with sign.
    """

    tag: str
    kind: str
    onset: float
    magnitude: float


@dataclass(frozen=True)
class DryerLot:
    """A granulate lot and the dryer run that made it."""

    lot: str
    product: str
    equipment: str
    run: int
    samples: int
    started: datetime
    completed: datetime
    live: bool
    fault: PlantedFault | None = None


@dataclass(frozen=True)
class Material:
    """A lot made from lots (from none: a raw lot that was received)."""

    lot: str
    inputs: tuple[str, ...]
    at: datetime
    amount: float
    unit: str


@dataclass(frozen=True)
class Subject:
    """A treated subject of the pilot study, as the hospital knows them."""

    pseudonym: str
    consent: bool
    age: int
    sex: str
    arm: str
    at: datetime


@dataclass(frozen=True)
class Body:
    """What only the person knows: whether they answer, and how they feel."""

    pseudonym: str
    answers: bool
    complaint: bool


@dataclass(frozen=True)
class Dispense:
    """One pack handed to one patient."""

    dispense: str
    order: str
    lot: str
    pseudonym: str
    at: datetime
    amount: int


@dataclass(frozen=True)
class Late:
    """A record that reaches its system only some platform time after the runs began."""

    after: timedelta
    dispense: Dispense


@dataclass(frozen=True)
class Feed:
    """One actor's records of the dispenses, with its own errors."""

    #: Recorded at once; later, by chance a second time; late; and on paper only.
    on_time: tuple[Dispense, ...]
    sent_twice: tuple[Dispense, ...]
    late: tuple[Late, ...]
    never: tuple[Dispense, ...]


@dataclass(frozen=True)
class World:
    """Everything that happened, and who recorded what of it."""

    seed: int
    anchor: datetime
    site: str
    granulate: str
    equipment: tuple[str, ...]
    dryer_lots: tuple[DryerLot, ...]
    materials: tuple[Material, ...]
    subjects: tuple[Subject, ...]
    bodies: tuple[Body, ...]
    dispenses: tuple[Dispense, ...]
    pharmacy: Feed
    hospital: Feed
