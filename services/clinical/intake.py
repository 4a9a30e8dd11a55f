"""From what a source sends to a fact, or to the reason why it is none.

Only form is judged here: a fact happened, and no rule of the domain may
refuse it. What is personal is sealed under the patient's own key before it
leaves this module, so nothing behind it ever sees it in the clear.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain.answers import LONGEST_WORDS, judged
from services.clinical.domain.vocabulary import coded
from services.kit.errors import Invalid, Unknown
from services.kit.facts import Fact
from services.kit.ids import derived_id, dispense_id, parse_lot
from services.kit.refused import refusals
from services.kit.sealing import Sealer, subject_key

_ACTIVE = clinical.SUBJECT_STATUS_ACTIVE
_SEXES = ("F", "M", "U")
_OLDEST_YEARS = 130
_LONGEST_PSEUDONYM = 128
_LONGEST_NUMBER = 128
_LONGEST_GENOTYPE = 64
_LARGEST_OFFSET_MINUTES = 14 * 60


@dataclass(frozen=True)
class Intake:
    """Makes the facts of one site."""

    site: str
    sealer: Sealer

    def subject(self, subject: api.Subject) -> Fact:
        """Raises Invalid with the field that breaks a rule."""
        _check_pseudonym(subject.pseudonym)
        _check_status(subject)
        at = moment_of(subject)
        recorded = clinical.SubjectRecorded(
            pseudonym=subject.pseudonym,
            site=self.site,
            consent=subject.consent,
            at=subject.at,
            status=subject.status,
            moved_to=subject.moved_to,
            research=subject.research,
        )
        if subject.HasField("profile"):
            _check_profile(subject.profile)
            recorded.profile.CopyFrom(self._seal(subject.profile, subject.pseudonym))
        consent = "consent" if subject.consent else "no consent"
        status = clinical.SubjectStatus.Name(subject.status)
        said = (consent, status, subject.moved_to) if subject.status > _ACTIVE else (consent,)
        said = (*said, "research") if subject.research else said
        id = derived_id("subject", self.site, subject.pseudonym, at.isoformat(), *said)
        return Fact(recorded, id, at, subject.pseudonym)

    def medication(self, record: clinical.MedicationRecorded) -> Fact:
        """Raises Invalid with the field that breaks a rule."""
        if record.site not in ("", self.site):
            raise Invalid("UNKNOWN_SITE", _other_site(record.site, self.site), "site")
        _check_pseudonym(record.pseudonym)
        parse_lot(record.lot)
        _check_quantity(record)
        at = moment_of(record)
        filled = clinical.MedicationRecorded()
        filled.CopyFrom(record)
        filled.site, filled.dispense = self.site, self._dispense(record)
        return Fact(filled, derived_id("medication", filled.dispense), at, filled.dispense)

    def correction(self, record: clinical.MedicationCorrected) -> Fact:
        """Raises Invalid with the field that breaks a rule."""
        if record.site not in ("", self.site):
            raise Invalid("UNKNOWN_SITE", _other_site(record.site, self.site), "site")
        _check_pseudonym(record.pseudonym)
        if not record.dispense:
            raise Invalid("REQUIRED", "name the dispense whose record was wrong", "dispense")
        if not record.reason.strip():
            raise Invalid("REQUIRED", "say why the record was wrong", "reason")
        at = moment_of(record)
        filled = clinical.MedicationCorrected()
        filled.CopyFrom(record)
        filled.site = self.site
        return Fact(
            filled, derived_id("medication-correction", self.site, filled.dispense), at, filled.dispense
        )

    def _dispense(self, record: clinical.MedicationRecorded) -> str:
        if not record.order:
            if not record.dispense:
                raise Invalid("REQUIRED", "give the order number, or the id of the dispense", "order")
            return record.dispense
        derived = dispense_id(self.site, record.order, record.lot)
        if record.dispense not in ("", derived):
            raise Invalid(
                "ID_MISMATCH",
                f"the id made from site, order and lot is {derived}; leave the id out, or correct the order",
                "dispense",
            )
        return derived

    def response(self, request: api.RecordResponseRequest, template: clinical.FollowUpTemplate) -> Fact:
        """An answer, judged by its plan's template. Raises Invalid with the field that breaks a rule."""
        at = check_response(request)
        with refusals():
            found = judged(template, request.answers, request.affected)
        recorded = clinical.ResponseRecorded(
            plan=request.plan,
            site=self.site,
            pseudonym=request.pseudonym,
            affected=found.affected,
            at=request.at,
        )
        for term, answer in found.complaints:
            recorded.complaints.add(term=term, onset=answer.onset if answer.HasField("onset") else request.at)
        if request.words or request.answers:
            text = clinical.ResponseText(words=request.words, answers=request.answers)
            recorded.text.CopyFrom(self._seal(text, request.pseudonym))
        return Fact(recorded, derived_id("response", request.plan, request.request_id), at, request.plan)

    def lab(self, lab: clinical.LabRecorded, result: clinical.LabResult, number: str) -> Fact:
        """A laboratory result under the laboratory's own number. Raises Invalid with the field at fault."""
        at = moment_of(lab)
        recorded = clinical.LabRecorded()
        recorded.CopyFrom(lab)
        recorded.site = self.site
        recorded.result.CopyFrom(self._seal(result, lab.pseudonym))
        if not lab.plan:
            _check_pseudonym(lab.pseudonym)
            return Fact(recorded, derived_id("routine-lab", self.site, lab.code, number), at, lab.pseudonym)
        return Fact(recorded, derived_id("lab", lab.plan, lab.code, number), at, lab.plan)

    def adverse_event(self, report: api.AdverseEventReport) -> Fact:
        """Raises Invalid with the field that breaks a rule."""
        _check_pseudonym(report.pseudonym)
        if not 0 < len(report.report) <= _LONGEST_NUMBER:
            said = f"give the hospital's own number of the report, at most {_LONGEST_NUMBER} characters"
            raise Invalid("REQUIRED", said, "report")
        if not report.term:
            raise Invalid("REQUIRED", "name what happened; GetVocabulary shows the vocabulary", "term")
        _check_words(report.words)
        check_moment(report.onset if report.HasField("onset") else None, "onset")
        at = moment_of(report)
        with refusals():
            term = coded(report.term, "term")
        recorded = clinical.AdverseEventRecorded(
            report=report.report,
            site=self.site,
            pseudonym=report.pseudonym,
            term=term,
            onset=report.onset,
            serious=report.serious,
            at=report.at,
        )
        if report.words:
            recorded.text.CopyFrom(self._seal(clinical.ResponseText(words=report.words), report.pseudonym))
        return Fact(recorded, derived_id("adverse", self.site, report.report), at, report.pseudonym)

    def notice(self, record: clinical.NoticeRecorded) -> Fact:
        """Raises Invalid with the field that breaks a rule."""
        if record.site not in ("", self.site):
            raise Invalid("UNKNOWN_SITE", _other_site(record.site, self.site), "site")
        _check_pseudonym(record.pseudonym)
        if not record.run:
            raise Invalid("REQUIRED", "name the run that the patient was told of", "run")
        if record.outcome not in clinical.NoticeOutcome.values()[1:]:
            raise Invalid("REQUIRED", "say whether the patient was told or could not be reached", "outcome")
        at = moment_of(record)
        filled = clinical.NoticeRecorded()
        filled.CopyFrom(record)
        filled.site = self.site
        said = (clinical.NoticeOutcome.Name(record.outcome), at.isoformat())
        id = derived_id("notice", self.site, record.run, record.pseudonym, *said)
        return Fact(filled, id, at, record.pseudonym)

    def _seal(self, message: Message, pseudonym: str) -> common.Sealed:
        try:
            return self.sealer.seal(message, subject_key(self.site, pseudonym))
        except Unknown:
            said = "the patient's key was destroyed: nothing personal is recorded of them any more"
            raise Invalid("ERASED", said, "pseudonym") from None


def check_response(request: api.RecordResponseRequest) -> datetime:
    """When the patient answered; Invalid with the field that breaks a rule."""
    _check_plan_id(request.plan)
    _check_pseudonym(request.pseudonym)
    _check_words(request.words)
    for n, answer in enumerate(request.answers):
        if answer.HasField("onset"):
            check_moment(answer.onset, f"answers[{n}].onset")
    return moment_of(request)


def _check_words(words: str) -> None:
    if len(words) > LONGEST_WORDS:
        raise Invalid("TOO_LONG", f"an answer has at most {LONGEST_WORDS} characters", "words")


def check_site(named: str, site: str) -> None:
    """Refuse a call that means another site, or none."""
    if named != site:
        raise Unknown("UNKNOWN_SITE", _other_site(named, site), "site")


def _other_site(named: str, site: str) -> str:
    return f"this is {site!r} and not {named!r}; call the process of the site that you mean"


def moment_of(
    record: api.Subject
    | clinical.MedicationRecorded
    | clinical.MedicationCorrected
    | clinical.NoticeRecorded
    | clinical.LabRecorded
    | api.AdverseEventReport
    | api.RecordResponseRequest,
) -> datetime:
    """When the fact happened, UTC."""
    return check_moment(record.at, "at")


def check_moment(moment: common.Moment | None, field: str) -> datetime:
    """The moment in UTC; Invalid where it is none."""
    if moment is None or not moment.HasField("at"):
        raise Invalid("REQUIRED", "say when it happened, with the source's offset from UTC", field)
    if abs(moment.offset_minutes) > _LARGEST_OFFSET_MINUTES:
        raise Invalid("OUT_OF_RANGE", "an offset from UTC is 14 hours at most", f"{field}.offset_minutes")
    try:
        return moment.at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        said = "the moment is none between the years 1 and 9999"
        raise Invalid("OUT_OF_RANGE", said, f"{field}.at") from None


def _check_pseudonym(pseudonym: str) -> None:
    if not pseudonym:
        raise Invalid("REQUIRED", "give the patient's pseudonym at the site", "pseudonym")
    # A bar would make two entries of the exposure digest look alike.
    if len(pseudonym) > _LONGEST_PSEUDONYM or not pseudonym.isprintable() or set(pseudonym) & set("| "):
        raise Invalid(
            "MALFORMED",
            f"a pseudonym has at most {_LONGEST_PSEUDONYM} printable characters, no blank and no '|'",
            "pseudonym",
        )


def _check_profile(profile: clinical.SubjectProfile) -> None:
    if not 0 <= profile.age_years <= _OLDEST_YEARS:
        raise Invalid("OUT_OF_RANGE", f"an age is 0 to {_OLDEST_YEARS} years", "profile.age_years")
    if profile.sex not in _SEXES:
        raise Invalid("UNKNOWN_CODE", f"write the sex as one of {', '.join(_SEXES)}", "profile.sex")
    for n, genotype in enumerate(profile.genotypes):
        if not 0 < len(genotype) <= _LONGEST_GENOTYPE or not genotype.isprintable():
            said = f"write a genotype as 1 to {_LONGEST_GENOTYPE} printable characters, as 'CYP2C9*1/*3'"
            raise Invalid("MALFORMED", said, f"profile.genotypes[{n}]")


def _check_status(subject: api.Subject) -> None:
    if subject.status not in clinical.SubjectStatus.values():
        raise Invalid("UNKNOWN_CODE", "a patient is active, deceased or moved", "status")
    moved = subject.status == clinical.SUBJECT_STATUS_MOVED
    if moved and not subject.moved_to:
        raise Invalid("REQUIRED", "name the site that the patient went to", "moved_to")
    if subject.moved_to and not moved:
        raise Invalid("CONTRADICTS", "only a patient who moved went to another site", "moved_to")


def _check_quantity(record: clinical.MedicationRecorded) -> None:
    if not record.HasField("quantity"):
        return
    if not math.isfinite(record.quantity.value):
        raise Invalid("NOT_FINITE", "a quantity is a finite number", "quantity.value")
    if record.quantity.value < 0:
        raise Invalid("OUT_OF_RANGE", "a quantity is not negative", "quantity.value")
    if not record.quantity.unit:
        raise Invalid("REQUIRED", "give the unit's UCUM code, for example '{tablet}'", "quantity.unit")


def _check_plan_id(plan: str) -> None:
    if not plan:
        raise Invalid("REQUIRED", "give the id of the plan that is answered", "plan")
    try:
        canonical = str(uuid.UUID(plan)) == plan
    except ValueError:
        canonical = False
    if not canonical:
        raise Invalid("MALFORMED", "that is no plan's id; ListPlans shows the plans", "plan")
