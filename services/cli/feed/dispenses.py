"""`feed dispenses`: what was handed out to whom, as the pharmacy or as the hospital has it on record.

A dispense has one id, made from site, order and lot, whoever tells of it: so
one list may be fed as both. A pharmacy may not know the patient, or the site;
the dispense is recorded all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.cli.feed.columns import Column, Layout, Values
from services.cli.feed.moments import message_of
from services.cli.feed.noun import Noun
from services.cli.feed.parts import lot_columns, lot_of, quantity_columns, quantity_of
from services.cli.feed.values import IDENTITY, MOMENT, TEXT, WORD

PSEUDONYM = Column(
    "pseudonym",
    WORD,
    "The patient's pseudonym at the site, never the name",
    "P-01-701",
    required=True,
    synonyms=("patient", "subject", "USUBJID", "假名", "受试者编号", "患者编号"),
)
SITE = Column(
    "site",
    IDENTITY,
    "The hospital that knows the patient, by its id in the platform",
    "hospital-a",
    required=True,
    synonyms=("hospital", "医院编码", "机构编码", "中心编号"),
)

_COLUMNS = (
    *lot_columns(),
    Column(
        "order",
        IDENTITY,
        "Number of the prescription or order; every source of the dispense has the same",
        "RX-20017",
        required=True,
        synonyms=("order number", "prescription", "prescription number", "处方号", "医嘱号", "订单号"),
    ),
    replace(SITE, required=False, expected=True),
    replace(PSEUDONYM, required=False, expected=True),
    Column(
        "at",
        MOMENT,
        "When it was handed out",
        "2026-03-12 09:30",
        required=True,
        synonyms=("time", "date", "dispensed", "EXSTDTC", "发药时间", "发药日期", "日期", "时间"),
    ),
    *quantity_columns(of="was handed out"),
    Column("source", TEXT, "Who recorded it; you, where it is not given", "pharmacy-1"),
)


def _dispense(values: Values, layout: Layout) -> events.DispenseRecorded:
    return events.DispenseRecorded(
        lot=lot_of(values),
        order=values["order"],
        site=values.get("site") or "",
        pseudonym=values.get("pseudonym") or "",
        at=message_of(values["at"]),
        quantity=quantity_of(values, layout),
        source=values.get("source") or "",
    )


def _medication(values: Values, layout: Layout) -> clinical_events.MedicationRecorded:
    return clinical_events.MedicationRecorded(
        lot=lot_of(values),
        order=values["order"],
        site=values["site"],
        pseudonym=values["pseudonym"],
        at=message_of(values["at"]),
        quantity=quantity_of(values, layout),
    )


def _dispense_request(
    id: str, _: str, dispenses: Sequence[events.DispenseRecorded]
) -> api.RecordDispenseRequest:
    return api.RecordDispenseRequest(request_id=id, dispenses=dispenses)


def _medication_request(
    id: str, site: str, medications: Sequence[clinical_events.MedicationRecorded]
) -> clinical.RecordMedicationsRequest:
    return clinical.RecordMedicationsRequest(request_id=id, site=site, medications=medications)


DISPENSES = Noun(
    name="dispenses",
    tells="What was handed out to which patient.",
    columns=_COLUMNS,
    message=_dispense,
    request=_dispense_request,
    method=lambda session, _: session.traceability.RecordDispense,
)
#: The same list as the hospital's own record: a hospital knows its patients.
MEDICATIONS = replace(
    DISPENSES,
    columns=tuple({"site": SITE, "pseudonym": PSEUDONYM}.get(column.name, column) for column in _COLUMNS),
    message=_medication,
    request=_medication_request,
    method=lambda session, site: session.clinical_at(site).RecordMedications,
    shared="site",
)
