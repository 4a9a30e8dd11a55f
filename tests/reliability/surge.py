"""Sources that send inputs at a pace, whatever the answers take: a plant, pharmacies and a hospital.

What is normal follows from the simulated industry (`services/world`): 15,000 dispenses, each told by two
sources, within the eight minutes in which its 37 live dryer runs are replayed one after the other, ten
samples a second. A source that cannot keep its pace sends what it owes as fast as it is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, cycle

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability_events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.kit.ids import dispense_id
from services.world.sizes import WS
from tests.reliability.specs import SITE
from tests.reliability.workload import DRYER, GOOD, PRODUCT, TAG, Caller, dryer_runs, moment, readings

#: Samples a second of a dryer, and how long the live runs of the industry take.
SAMPLES, SECONDS = 10, 480
#: Dispenses a second, told by the pharmacy and by the hospital.
DISPENSES = WS.dispenses // SECONDS
PEOPLE = [f"surge-p{n}" for n in range(200)]
_PACK = "maker/gtin/09506000134352/SURGE"


@dataclass
class Pace:
    """How many times the normal rate is sent, from now on."""

    times: int = 1
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass
class Source:
    """One sender with connections of its own. `one` sends what is due in a second of the normal pace, and
    `sent` counts these; `owed` is what it could not send in time."""

    name: str
    caller: Caller
    one: Callable[[Caller], None]
    sent: int = 0
    owed: float = 0.0

    def run(self, pace: Pace) -> None:
        last = time.monotonic()
        while not pace.ended.wait(0.02):
            now = time.monotonic()
            self.owed += (now - last) * pace.times
            last = now
            while self.owed >= 1 and not pace.ended.is_set():
                self.one(self.caller)
                self.sent += 1
                self.owed -= 1


def furnish_surge(caller: Caller) -> None:
    """The people who are handed something, and the lot."""
    subjects = [clinical.Subject(pseudonym=name, consent=True, at=moment(2)) for name in PEOPLE]
    caller.do(
        caller.clinical.RecordSubjects,
        clinical.RecordSubjectsRequest(
            request_id="surge people", site=SITE, subjects=subjects, all_or_nothing=True
        ),
        [("clinical", "patient", name) for name in PEOPLE],
    )
    made = traceability_events.MaterialRecorded(lot=_PACK, at=moment(1), record=_PACK, source="mes")
    made.inputs.add(lot=f"{PRODUCT}/SURGE")
    caller.do(
        caller.traceability.RecordMaterial,
        traceability.RecordMaterialRequest(request_id="surge pack", materials=[made], all_or_nothing=True),
        [("traceability", "lot_node", _PACK)],
    )


def sources(new: Callable[[], Caller]) -> list[Source]:
    """A pharmacy, a hospital and a plant, each with a caller that `new` makes."""
    return [
        Source("pharmacy", new(), _pharmacy()),
        Source("hospital", new(), _hospital()),
        Source("plant", new(), _plant()),
    ]


def _orders() -> Iterator[list[tuple[str, str]]]:
    """Who receives what, a second after the other: (pseudonym, order)."""
    people = cycle(PEOPLE)
    for second in count():
        yield [(next(people), f"surge-{second}-{n}") for n in range(DISPENSES)]


def _pharmacy() -> Callable[[Caller], None]:
    orders, numbers = _orders(), count()

    def send(caller: Caller) -> None:
        given = next(orders)
        told = [
            traceability_events.DispenseRecorded(
                lot=_PACK, site=SITE, pseudonym=name, order=order, at=moment(30), source="pharmacy"
            )
            for name, order in given
        ]
        request = traceability.RecordDispenseRequest(
            request_id=f"surge dispenses {next(numbers)}", dispenses=told, all_or_nothing=True
        )
        caller.do(caller.traceability.RecordDispense, request, _expected("traceability", given))

    return send


def _hospital() -> Callable[[Caller], None]:
    orders, numbers = _orders(), count()

    def send(caller: Caller) -> None:
        given = next(orders)
        own = [
            clinical_events.MedicationRecorded(pseudonym=name, lot=_PACK, order=order, at=moment(30))
            for name, order in given
        ]
        request = clinical.RecordMedicationsRequest(
            request_id=f"surge medications {next(numbers)}", site=SITE, medications=own, all_or_nothing=True
        )
        caller.do(caller.clinical.RecordMedications, request, _expected("clinical", given))

    return send


def _expected(service: str, given: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    return [(service, "dispense", dispense_id(SITE, order, _PACK)) for _, order in given]


def _plant() -> Callable[[Caller], None]:
    steps = _samples()

    def send(caller: Caller) -> None:
        lot, number, first = next(steps)
        if first == 0:
            start = production.StartLotRequest(
                request_id=f"start {lot}", lot=lot, equipment=DRYER, at=moment(0).at
            )
            caller.do(caller.production.StartLot, start, [("production", "lot", lot)])
        batch = readings(lot, dryer_runs()[number], first, first + SAMPLES)
        request = production.RecordReadingsRequest(request_id=f"{lot} {first}", batches=[batch])
        caller.do(caller.production.RecordReadings, request, [("production", "run", f"{lot}|{DRYER}")])

    return send


def _samples() -> Iterator[tuple[str, str, int]]:
    """Lot, number of the real run, and the first sample of each second."""
    for n, number in enumerate(cycle(GOOD)):
        for first in range(0, len(dryer_runs()[number][TAG]), SAMPLES):
            yield f"{PRODUCT}/S{n}", number, first
