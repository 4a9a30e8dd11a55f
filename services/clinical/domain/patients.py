"""A patient of the site: the newest record of them, and where they still lack a plan.

Records of one patient may come twice or late: the newest by its own time
holds, and of two at the same moment the one without consent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pharmaloop.clinical.v1 import events_pb2 as clinical


@dataclass(frozen=True)
class Patient:
    """A patient by pseudonym; not `known` until a record of them came.

    `profile` is a serialised Sealed and stays closed here. `at` is ISO, UTC.
    `unplanned` are the runs that name the patient as exposed and have no plan
    for them: they are unknown, or do not consent.
    """

    pseudonym: str
    known: bool = False
    consent: bool = False
    profile: bytes = b""
    at: str = ""
    record: str = ""
    unplanned: tuple[str, ...] = ()


def recorded(patient: Patient, subject: clinical.SubjectRecorded, at: str, record: str) -> Patient | None:
    """The patient after a record of them; None when a newer one is known. `record` is the fact's id."""
    if (at, not subject.consent, record) <= (patient.at, not patient.consent, patient.record):
        return None
    return replace(
        patient,
        known=True,
        consent=subject.consent,
        profile=subject.profile.SerializeToString() if subject.HasField("profile") else b"",
        at=at,
        record=record,
    )


def without_plan(patient: Patient, run: str) -> Patient:
    """The run names the patient and cannot open a plan for them yet."""
    return replace(patient, unplanned=tuple(sorted({*patient.unplanned, run})))


def with_plan(patient: Patient, run: str) -> Patient:
    """The run opens a plan for the patient after all."""
    return replace(patient, unplanned=tuple(other for other in patient.unplanned if other != run))
