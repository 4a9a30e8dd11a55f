"""What the door of a site refuses, by reason and field, and what it seals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import bson
import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from services.clinical.domain.plans import Plan
from services.clinical.domain.templates import DEFAULT
from services.clinical.intake import Intake, check_site
from services.clinical.views import PLANS
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.errors import Invalid, Unknown
from services.kit.facts import Fact
from services.kit.ids import dispense_id, plan_id
from services.kit.sealing import LocalKeys, Sealer, subject_key
from tests.unit.clinical.memory_site import SITE, MemorySite, moment
from tests.unit.memory_service import Said

LOT = "maker/gtin/09506000134352/L.1"
PLANTED = ("planted-arm-of-the-trial", "planted words of the patient")


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return Sealer(LocalKeys(tmp_path / "keys"))


@pytest.fixture
def intake(sealer: Sealer) -> Intake:
    return Intake(SITE, sealer)


def _subject() -> api.Subject:
    profile = clinical.SubjectProfile(age_years=61, sex="F", arm=PLANTED[0])
    return api.Subject(pseudonym="01-701-1015", consent=True, profile=profile, at=moment(3))


def _medication() -> clinical.MedicationRecorded:
    record = clinical.MedicationRecorded(pseudonym="01-701-1015", lot=LOT, order="O-1", at=moment(2))
    record.quantity.value, record.quantity.unit = 1, "{tablet}"
    return record


def _response() -> api.RecordResponseRequest:
    return api.RecordResponseRequest(
        request_id="r-1",
        site=SITE,
        plan=plan_id("run-1", "01-701-1015"),
        pseudonym="01-701-1015",
        affected=True,
        words=PLANTED[1],
        at=moment(1),
    )


def _unset_moment(record: api.Subject | clinical.MedicationRecorded | api.RecordResponseRequest) -> None:
    record.ClearField("at")


SUBJECTS: list[tuple[Callable[[api.Subject], object], str, str]] = [
    (lambda s: setattr(s, "pseudonym", ""), "REQUIRED", "pseudonym"),
    (lambda s: setattr(s, "pseudonym", "a|b"), "MALFORMED", "pseudonym"),
    (lambda s: setattr(s, "pseudonym", "a b"), "MALFORMED", "pseudonym"),
    (lambda s: setattr(s, "pseudonym", "a\n"), "MALFORMED", "pseudonym"),
    (lambda s: setattr(s, "pseudonym", "a" * 129), "MALFORMED", "pseudonym"),
    (_unset_moment, "REQUIRED", "at"),
    (lambda s: setattr(s.at, "offset_minutes", 841), "OUT_OF_RANGE", "at.offset_minutes"),
    (lambda s: setattr(s.at.at, "seconds", 10**15), "OUT_OF_RANGE", "at.at"),
    (lambda s: setattr(s.profile, "age_years", 131), "OUT_OF_RANGE", "profile.age_years"),
    (lambda s: setattr(s.profile, "sex", "female"), "UNKNOWN_CODE", "profile.sex"),
]


@pytest.mark.parametrize(("spoil", "reason", "field"), SUBJECTS)
def test_a_malformed_subject_is_refused(
    intake: Intake, spoil: Callable[[api.Subject], object], reason: str, field: str
) -> None:
    subject = _subject()
    spoil(subject)
    with pytest.raises(Invalid) as refusal:
        intake.subject(subject)
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


MEDICATIONS: list[tuple[Callable[[clinical.MedicationRecorded], object], str, str]] = [
    (lambda m: setattr(m, "site", "hospital-b"), "UNKNOWN_SITE", "site"),
    (lambda m: setattr(m, "pseudonym", ""), "REQUIRED", "pseudonym"),
    (lambda m: setattr(m, "lot", "L.1"), "NOT_CANONICAL", "lot"),
    (lambda m: setattr(m, "lot", "maker/gtin/1/L 1"), "NOT_CANONICAL", "lot"),
    (lambda m: setattr(m, "order", ""), "REQUIRED", "order"),
    (lambda m: setattr(m, "dispense", "another"), "ID_MISMATCH", "dispense"),
    (_unset_moment, "REQUIRED", "at"),
    (lambda m: setattr(m.quantity, "value", math.nan), "NOT_FINITE", "quantity.value"),
    (lambda m: setattr(m.quantity, "value", -1), "OUT_OF_RANGE", "quantity.value"),
    (lambda m: setattr(m.quantity, "unit", ""), "REQUIRED", "quantity.unit"),
]


@pytest.mark.parametrize(("spoil", "reason", "field"), MEDICATIONS)
def test_a_malformed_medication_is_refused(
    intake: Intake, spoil: Callable[[clinical.MedicationRecorded], object], reason: str, field: str
) -> None:
    record = _medication()
    spoil(record)
    with pytest.raises(Invalid) as refusal:
        intake.medication(record)
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


RESPONSES: list[tuple[Callable[[api.RecordResponseRequest], object], str, str]] = [
    (lambda r: setattr(r, "plan", ""), "REQUIRED", "plan"),
    (lambda r: setattr(r, "plan", "plan-1"), "MALFORMED", "plan"),
    (lambda r: setattr(r, "plan", plan_id("a", "b").upper()), "MALFORMED", "plan"),
    (lambda r: setattr(r, "pseudonym", ""), "REQUIRED", "pseudonym"),
    (lambda r: setattr(r, "words", "a" * 4001), "TOO_LONG", "words"),
    (_unset_moment, "REQUIRED", "at"),
]


@pytest.mark.parametrize(("spoil", "reason", "field"), RESPONSES)
def test_a_malformed_response_is_refused(
    intake: Intake, spoil: Callable[[api.RecordResponseRequest], object], reason: str, field: str
) -> None:
    request = _response()
    spoil(request)
    with pytest.raises(Invalid) as refusal:
        intake.response(request, DEFAULT)
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


@pytest.mark.parametrize("named", ["hospital-b", ""])
def test_another_sites_name_is_refused_and_this_one_is_told(named: str) -> None:
    with pytest.raises(Unknown, match="'hospital-a'") as refusal:
        check_site(named, SITE)
    assert (refusal.value.reason, refusal.value.field) == ("UNKNOWN_SITE", "site")


def test_what_was_left_out_is_filled_in_alike_for_every_source(intake: Intake) -> None:
    record = _medication()
    fact = intake.medication(record)
    filled = fact.message
    assert isinstance(filled, clinical.MedicationRecorded)
    assert (filled.site, filled.dispense) == (SITE, dispense_id(SITE, "O-1", LOT))
    assert intake.medication(filled) == fact
    assert record.dispense == ""


def test_a_dispense_known_by_its_id_alone_is_taken(intake: Intake) -> None:
    record = _medication()
    record.order, record.dispense = "", "d-1"
    message = intake.medication(record).message
    assert isinstance(message, clinical.MedicationRecorded)
    assert message.dispense == "d-1"


def test_the_same_record_makes_the_same_fact_id_and_a_change_of_consent_another(intake: Intake) -> None:
    withdrawn = _subject()
    withdrawn.consent = False
    assert intake.subject(_subject()).id == intake.subject(_subject()).id != intake.subject(withdrawn).id
    assert intake.response(_response(), DEFAULT).id == intake.response(_response(), DEFAULT).id


def test_nothing_personal_is_recorded_of_an_erased_patient(tmp_path: Path) -> None:
    keys = LocalKeys(tmp_path / "keys")
    keys.make(subject_key(SITE, "01-701-1015"))
    keys.destroy(subject_key(SITE, "01-701-1015"))
    intake = Intake(SITE, Sealer(keys))
    with pytest.raises(Invalid) as subject:
        intake.subject(_subject())
    with pytest.raises(Invalid) as response:
        intake.response(_response(), DEFAULT)
    for refusal in (subject.value, response.value):
        assert (refusal.reason, refusal.field) == ("ERASED", "pseudonym")


def _told(fact: Fact) -> Said:
    return Said(fact.message, "/svc/clinical/fact", None, fact.id, fact.time)


def test_personal_words_are_nowhere_in_the_clear(intake: Intake, sealer: Sealer) -> None:
    facts = [
        intake.subject(_subject()),
        intake.medication(_medication()),
        intake.response(_response(), DEFAULT),
    ]
    site = MemorySite()
    site.deliver(*(_told(fact) for fact in facts))
    assert not site.dead_letters()
    places = [bson.encode(doc) for docs in site.database.docs.values() for doc in docs.values()]
    places += [repr(row).encode() + row.value for row in site.rows()]
    for fact in facts:
        event = Event(fact.id, "s", fact.subject, fact.time, fact.message)
        record = to_record(event, contract().route(fact.message, SITE)[0])
        places.append((record.value or b"") + repr(record.headers).encode())
    assert len(places) > len(facts)
    for planted in PLANTED:
        assert not [place for place in places if planted.encode() in place]
    _check_kept(site, sealer)


def _check_kept(site: MemorySite, sealer: Sealer) -> None:
    """What was sealed is there, and opens with the patient's key."""
    (plan,) = site.states(PLANS).values()
    assert isinstance(plan, Plan)
    assert plan.answer is not None
    sealed = clinical.ResponseRecorded().text
    sealed.MergeFromString(plan.answer.text)
    assert sealer.open(sealed, clinical.ResponseText).words == PLANTED[1]
