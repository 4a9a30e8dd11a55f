"""Named courses at a site: what is brought back, taken back, explained; who dies, leaves or withdraws."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.views import HOLDINGS
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.ids import dispense_id
from services.kit.work import STEPS
from tests.unit.clinical.memory_site import FOLLOW_UP, SITE, START, moment
from tests.unit.clinical.teller import LOT, RUN, Teller
from tests.unit.memory_service import Said

OTHER = "maker/gtin/A/L.2"


@pytest.fixture
def told() -> Teller:
    """A run with one exposed patient who consents, whose dispense both sources show."""
    teller = Teller()
    teller.subject("P-1")
    teller.own("P-1")
    teller.enter("P-1")
    return teller


def opened(told: Teller) -> clinical.PlansOpened:
    last = told.site.last(clinical.PlansOpened, RUN)
    assert last is not None
    return last


def counted(told: Teller) -> dict[str, int]:
    """Members by what became of them; only those that are not 0."""
    members = opened(told).members
    return {field.name: value for field, value in members.ListFields()}


def differences(told: Teller) -> tuple[int, int, int]:
    """Members only in the trace, those explained, and dispenses only at the site."""
    last = told.received
    assert last is not None
    return last.only_in_trace, last.explained, last.only_at_site


# -- returns ------------------------------------------------------------------------


def test_only_a_complete_unopened_return_ends_the_follow_up(told: Teller) -> None:
    told.became("P-1", "RETURNED")
    assert (opened(told).plans, counted(told)) == (1, {"planned": 1})
    told.became("P-1", "RETURNED_UNOPENED")
    assert (opened(told).plans, opened(told).without_need, counted(told)) == (0, 1, {"void": 1})
    assert told.summary.complete


def test_one_of_two_dispenses_returned_leaves_the_patient_followed_for_the_other(told: Teller) -> None:
    told.enter("P-1", lot=OTHER)
    told.became("P-1", "RETURNED_UNOPENED")
    assert (opened(told).plans, counted(told)) == (1, {"planned": 1, "void": 1})
    assert [lot for lot, _ in told.lots] == [OTHER]


@pytest.mark.parametrize(
    ("first", "second", "followed"),
    [
        ((), ("RETURNED_UNOPENED",), True),
        (("RETURNED",), ("RETURNED_UNOPENED",), True),
        (("RETURNED",), ("RETURNED",), True),
        (("RETURNED_UNOPENED",), ("RETURNED_UNOPENED",), False),
        # First said to be unopened, then found to have been opened.
        (("RETURNED_UNOPENED", "RETURNED"), ("RETURNED_UNOPENED",), True),
    ],
)
def test_two_packs_of_one_lot_end_the_follow_up_only_when_both_came_back_unopened(
    told: Teller, first: tuple[str, ...], second: tuple[str, ...], followed: bool
) -> None:
    told.enter("P-1", order="second")
    told.became("P-1", *first)
    told.became("P-1", *second, order="second")
    assert opened(told).plans == int(followed)
    assert sum(counted(told).values()) == 2
    assert counted(told).get("void", 0) == [first[-1:], second[-1:]].count(("RETURNED_UNOPENED",))


def test_a_return_before_its_patient_is_known_needs_no_record_of_them() -> None:
    told = Teller()
    told.enter("P-9", announce=False)
    told.became("P-9", "RETURNED_UNOPENED")
    assert (opened(told).patients, opened(told).without_need, counted(told)) == (1, 1, {"void": 1})
    assert differences(told) == (0, 0, 0)


def test_a_return_told_after_the_seal_ends_the_follow_up_and_leaves_the_digest(told: Teller) -> None:
    assert told.received is not None
    digest = told.received.digest
    told.became("P-1", "RETURNED_UNOPENED", announce=False)
    assert (opened(told).plans, told.received.digest) == (0, digest)


def test_what_does_not_hold_any_more_brings_the_plan_back_with_its_answer(told: Teller) -> None:
    told.answer("P-1", affected=True)
    told.became("P-1", "CORRECTED")
    assert (told.summary.plans, told.summary.answered) == (0, 0)
    told.became("P-1", "REINSTATED")
    assert (told.summary.plans, told.summary.answered, told.affected) == (1, 1, 1)
    assert len(told.plans()) == 1  # it was announced once


# -- two sources ----------------------------------------------------------------------


def test_a_member_that_the_own_records_lack_is_a_difference_until_a_person_explains_it() -> None:
    told = Teller()
    told.subject("P-2")
    told.enter("P-2")
    assert differences(told) == (1, 0, 0)
    explain(told, dispense_id(SITE, "order-P-2", LOT))
    assert differences(told) == (0, 1, 0)
    (signed,) = told.site.all(clinical.DifferenceExplained)
    assert (signed.pseudonym, signed.actor, signed.reason) == ("P-2", "pharmacist", "given at home")
    told.own("P-2")
    assert differences(told) == (0, 0, 0)


def explain(told: Teller, dispense: str, **words: str) -> None:
    given = {"reason": "given at home", "meaning": "the pharmacy's record is right", **words}
    request = api.ExplainDifferenceRequest(site=SITE, dispense=dispense, **given)
    told.site.command("ExplainDifference", request, START, actor="pharmacist")
    said = told.site.events()[-1]
    told.site.deliver(Said(said.message, said.source, said.seq, said.id, said.time))


@pytest.mark.parametrize(
    ("dispense", "words", "error", "field"),
    [
        ("nothing", {}, Unknown, "dispense"),
        (dispense_id(SITE, "order-P-1", LOT), {}, Rejected, "dispense"),
        (dispense_id(SITE, "order-P-1", LOT), {"reason": ""}, Invalid, "reason"),
        (dispense_id(SITE, "order-P-1", LOT), {"meaning": " "}, Invalid, "meaning"),
    ],
)
def test_what_is_no_difference_is_not_explained(
    told: Teller, dispense: str, words: dict[str, str], error: type[Rejected], field: str
) -> None:
    with pytest.raises(error) as refused:
        explain(told, dispense, **words)
    assert refused.value.field == field


def test_an_own_record_that_the_hospital_takes_back_leaves_a_difference(told: Teller) -> None:
    told.fact(correction("P-1"))
    assert differences(told) == (1, 0, 0)
    assert not told.site.all(traceability.DispenseCorrected)  # the site had not told the trace of it


def test_the_trace_hears_when_the_hospital_takes_back_what_it_told_it() -> None:
    told = Teller()
    told.announce()
    told.own("P-3")
    assert differences(told) == (0, 0, 1)
    told.fact(correction("P-3"))
    (fact,) = told.site.all(traceability.DispenseCorrected)
    assert (fact.dispense, fact.source, fact.lot) == (dispense_id(SITE, "order-P-3", LOT), SITE, LOT)
    assert "another patient" not in fact.reason, "the hospital's words stay with it"
    assert differences(told) == (0, 0, 0)


def correction(pseudonym: str) -> clinical.MedicationCorrected:
    return clinical.MedicationCorrected(
        dispense=dispense_id(SITE, f"order-{pseudonym}", LOT),
        site=SITE,
        pseudonym=pseudonym,
        reason="another patient",
        at=moment(1),
    )


def test_what_the_trace_corrected_and_the_hospital_still_records_is_told_to_the_trace(told: Teller) -> None:
    told.became("P-1", "CORRECTED")
    assert differences(told) == (0, 0, 1)
    (fact,) = told.site.all(traceability.DispenseRecorded)
    assert (fact.pseudonym, fact.source) == ("P-1", SITE)
    told.became("P-1", "REINSTATED")
    assert differences(told) == (0, 0, 0)


def test_sources_that_name_two_patients_of_the_site_are_two_differences(told: Teller) -> None:
    id = told.own("P-4", order="shared")
    told.trace(other := _named(id, "P-5"))
    told._texts.append(f"{SITE}|P-5|{LOT}|{id}|MEMBER")
    told.announce()
    assert other.entries[0].pseudonym == "P-5"
    assert differences(told) == (1, 0, 1)
    assert {fact.pseudonym for fact in told.site.all(traceability.DispenseRecorded)} == {"P-4"}


def _named(dispense: str, pseudonym: str) -> traceability.ExposureEntriesJoined:
    entry = traceability.ExposureEntry(
        kind=traceability.ENTRY_KIND_MEMBER, dispense=dispense, lot=LOT, pseudonym=pseudonym
    )
    return traceability.ExposureEntriesJoined(run=RUN, site=SITE, epoch=2, entries=[entry])


# -- patients ---------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "stage"), [("DECEASED", "deceased"), ("MOVED", "moved")])
def test_a_patient_who_died_or_left_is_not_waited_for(told: Teller, status: str, stage: str) -> None:
    told.subject("P-1", days=1, status=status)
    assert (opened(told).plans, opened(told).without_need, counted(told)) == (0, 1, {stage: 1})
    assert told.summary.complete


def test_what_a_patient_said_before_they_died_still_counts(told: Teller) -> None:
    told.answer("P-1", affected=True, days=2)
    told.subject("P-1", days=1, status="DECEASED")
    assert (told.summary.plans, told.summary.answered, told.affected) == (1, 1, 1)


def test_a_patient_who_withdraws_is_not_followed_and_their_answer_not_used(told: Teller) -> None:
    told.answer("P-1", affected=True, days=2)
    told.subject("P-1", consent=False, days=1)
    assert (opened(told).without_consent, told.summary.answered, told.affected) == (1, 0, 0)


def test_a_run_that_a_person_ended_opens_no_plan_and_waits_for_nobody(told: Teller) -> None:
    told.trace(loops.LoopClosed(run=RUN, outcome=loops.RUN_OUTCOME_CANCELLED))
    said = len(told.site.rows())
    told.subject("P-6")
    told.enter("P-6")
    told.subject("P-1", consent=False, days=1)
    assert len(told.site.rows()) == said
    assert len(told.plans()) == 1


def test_the_end_of_a_run_of_another_loop_leaves_nothing_at_a_site(told: Teller) -> None:
    before = dict(told.site.states(HOLDINGS))
    ended = loops.LoopClosed(run="transfer", outcome=loops.RUN_OUTCOME_CANCELLED, loop="transfer")
    told.trace(ended)
    assert told.site.states(HOLDINGS) == before


def test_an_answer_after_the_run_closed_still_counts(told: Teller) -> None:
    told.trace(loops.LoopClosed(run=RUN, outcome=loops.RUN_OUTCOME_CLOSED))
    told.answer("P-1", affected=True)
    assert (told.summary.answered, told.affected) == (1, 1)


# -- the hazard, and telling patients ------------------------------------------------


def notices(told: Teller) -> tuple[int, int, int]:
    """Patients to tell, those who know, those who could not be reached."""
    last = told.site.last(clinical.NoticesSummarised, RUN)
    assert last is not None
    return last.patients, last.notified, last.unreachable


def test_nobody_is_told_before_a_person_has_evaluated_the_hazard(told: Teller) -> None:
    assert told.site.last(clinical.NoticesSummarised, RUN) is None
    told.hazard()
    assert notices(told) == (1, 0, 0)


def test_everybody_is_told_who_may_have_taken_of_it_whether_or_not_they_consent() -> None:
    told = Teller()
    told.subject("P-no", consent=False)
    told.subject("P-dead", status="DECEASED")
    told.subject("P-moved", status="MOVED")
    told.enter("P-no", "P-dead", "P-moved", "P-unknown", "P-back")
    told.became("P-back", "RETURNED_UNOPENED")
    told.hazard()
    assert notices(told) == (3, 0, 0)
    for name in ("P-no", "P-moved", "P-unknown"):
        told.notice(name)
    assert notices(told) == (3, 3, 0)


def test_who_was_reached_once_knows_whatever_was_tried_before_or_later(told: Teller) -> None:
    told.hazard()
    told.notice("P-1", "UNREACHABLE", days=3)
    assert notices(told) == (1, 0, 1)
    told.notice("P-1", "NOTIFIED", days=2)
    told.notice("P-1", "UNREACHABLE", days=1)
    assert notices(told) == (1, 1, 0)


def test_the_follow_up_is_counted_from_the_evaluation_where_that_came_later(told: Teller) -> None:
    told.site.clock.advance(5 * 3600)
    told.hazard()
    row = told.site.states(STEPS)[f"follow-up|{RUN}"]
    assert datetime.fromisoformat(row.due) == START + timedelta(hours=5) + FOLLOW_UP
