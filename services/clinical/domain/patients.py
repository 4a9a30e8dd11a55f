"""A patient of the site: the newest record of them.

Records of one patient may come twice or late: the newest by its own time
holds, and of two at the same moment the one that allows less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pharmaloop.clinical.v1 import events_pb2 as clinical

ACTIVE, DECEASED, MOVED = "active", "deceased", "moved"
_STATUSES = {clinical.SUBJECT_STATUS_DECEASED: DECEASED, clinical.SUBJECT_STATUS_MOVED: MOVED}


@dataclass(frozen=True)
class Patient:
    """A patient by pseudonym; not `known` until a record of them came. `consent` is to follow-up, `research`
    to research with their records.

    `profile` is a serialised Sealed and stays closed here. `at` is ISO, UTC.
    """

    pseudonym: str
    known: bool = False
    consent: bool = False
    status: str = ACTIVE
    moved_to: str = ""
    profile: bytes = b""
    at: str = ""
    record: str = ""
    research: bool = False


def recorded(patient: Patient, subject: clinical.SubjectRecorded, at: str, record: str) -> Patient | None:
    """The patient after a record of them; None when a newer one is known. `record` is the fact's id."""
    if _place(at, subject.consent, subject.research, record) <= _place(
        patient.at, patient.consent, patient.research, patient.record
    ):
        return None
    return replace(
        patient,
        known=True,
        consent=subject.consent,
        research=subject.research,
        status=_STATUSES.get(subject.status, ACTIVE),
        moved_to=subject.moved_to,
        profile=subject.profile.SerializeToString() if subject.HasField("profile") else b"",
        at=at,
        record=record,
    )


def _place(at: str, consent: bool, research: bool, record: str) -> tuple[str, bool, bool, str]:
    """Where a record stands among those of its patient: the last holds."""
    return at, not consent, not research, record
