"""Packs, patients and what these received, as a plant, a hospital and its pharmacy record them in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as traceability_events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.kit.ids import dispense_id
from tests.reliability.moments import moment
from tests.reliability.specs import SITE

if TYPE_CHECKING:
    from tests.reliability.workload import Caller


class Given(NamedTuple):
    """A patient received a pack by an order."""

    order: str
    patient: str
    pack: str


def record_packs(caller: Caller, request_id: str, packs: Sequence[str], lot: str) -> None:
    """Packs that are made of a lot."""
    made = [
        traceability_events.MaterialRecorded(
            lot=pack,
            inputs=[traceability_events.MaterialInput(lot=lot)],
            at=moment(1),
            record=pack,
            source="mes",
        )
        for pack in packs
    ]
    caller.do(
        caller.traceability.RecordMaterial,
        traceability.RecordMaterialRequest(request_id=request_id, materials=made, all_or_nothing=True),
        [("traceability", "lot_node", pack) for pack in packs],
    )


def record_patients(caller: Caller, request_id: str, consents: Mapping[str, bool]) -> None:
    """Patients who come, each with whether they consent to be asked."""
    people = [clinical.Subject(pseudonym=name, consent=yes, at=moment(2)) for name, yes in consents.items()]
    caller.do(
        caller.clinical.RecordSubjects,
        clinical.RecordSubjectsRequest(
            request_id=request_id, site=SITE, subjects=people, all_or_nothing=True
        ),
        [("clinical", "patient", name) for name in consents],
    )


def record_medications(caller: Caller, request_id: str, given: Sequence[Given]) -> None:
    """What the hospital notes of its patients."""
    own = [
        clinical_events.MedicationRecorded(
            pseudonym=one.patient, lot=one.pack, order=one.order, at=moment(30)
        )
        for one in given
    ]
    caller.do(
        caller.clinical.RecordMedications,
        clinical.RecordMedicationsRequest(
            request_id=request_id, site=SITE, medications=own, all_or_nothing=True
        ),
        [("clinical", "dispense", id) for id in _ids(given)],
    )


def record_dispenses(
    caller: Caller, request_id: str, given: Sequence[Given], untold: Sequence[Given] = ()
) -> None:
    """What the pharmacy tells the trace; of what it leaves `untold` the hospital has to."""
    told = [
        traceability_events.DispenseRecorded(
            lot=one.pack, site=SITE, pseudonym=one.patient, order=one.order, at=moment(30), source="pharmacy"
        )
        for one in given
    ]
    caller.do(
        caller.traceability.RecordDispense,
        traceability.RecordDispenseRequest(request_id=request_id, dispenses=told, all_or_nothing=True),
        [("traceability", "dispense", id) for id in _ids([*given, *untold])],
    )


def _ids(given: Sequence[Given]) -> list[str]:
    return [dispense_id(SITE, one.order, one.pack) for one in given]
