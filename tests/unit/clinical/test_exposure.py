"""Single turns of the exposure protocol at a site: consent, bulks, follow-up, late answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain import moments
from services.clinical.domain.plans import BULK
from services.clinical.keys import digest_keys
from services.clinical.tallies import tell
from services.clinical.views import PLANS
from services.kit.ids import dispense_id
from services.kit.metrics import DIGEST_MISMATCHES, Metrics
from services.kit.sealing import LocalKeys, Sealer
from services.kit.work import STEPS
from tests.unit.clinical.memory_site import FOLLOW_UP, SITE, START, MemorySite, moment, slow_digest
from tests.unit.clinical.teller import LOT, RUN, Teller, subject_of


def test_a_site_without_members_acknowledges_and_is_complete_at_once_even_without_a_key() -> None:
    told = Teller(key_first=False)
    told.announce()
    assert told.received is not None
    assert (told.received.n, told.received.digest) == (0, bytes(32))
    assert told.opened == (0, 0, 0)
    assert told.summary.complete


def test_nothing_is_acknowledged_before_the_key_is_there() -> None:
    told = Teller(key_first=False)
    told.subject("P-1")
    told.enter("P-1")
    # The patient does not wait for the key: the plan is there, the acknowledgement is not.
    assert told.opened == (1, 1, 0)
    assert not told.site.all(clinical.ExposureReceived)
    assert not told.summary.complete
    told.open()
    assert told.received is not None
    assert told.opened == (1, 1, 0)


def test_nothing_is_acknowledged_while_an_entry_is_missing() -> None:
    told = Teller()
    told.enter("P-1", announce=False)
    told._texts.append("an entry that did not arrive")
    told.announce()
    assert told.received is None


def test_an_older_announcement_from_elsewhere_does_not_count() -> None:
    told = Teller()
    told.announce()
    told.announce()
    old = traceability.ExposureAnnounced(run=RUN, version=1, root=LOT, lots=[LOT])
    old.sites[SITE].CopyFrom(traceability.SiteExposure(epoch=1, digest=slow_digest(["another"])))
    told.trace(old)
    told.subject("P-1")
    assert told.received is not None
    assert told.received.epoch == 2
    assert told.summary.complete


def test_no_plan_without_consent() -> None:
    told = Teller()
    told.subject("P-no", consent=False)
    told.enter("P-no", "P-unknown")
    assert not told.plans()
    assert told.opened == (2, 0, 1)
    assert not told.summary.complete
    told.subject("P-unknown", consent=False)
    assert not told.plans()
    assert told.opened == (2, 0, 2)
    assert told.summary.complete


def test_no_plan_for_one_who_withdraws_while_the_bulk_waits() -> None:
    told = Teller()
    told.subject("P-1", days=10)
    told.enter("P-1", announce=False)
    told.subject("P-1", consent=False, days=9)
    told.announce()
    assert not told.plans()
    assert told.opened == (1, 0, 1)


def test_a_plan_is_opened_when_consent_comes_later() -> None:
    told = Teller()
    told.subject("P-1", consent=False, days=10)
    told.enter("P-1")
    told.subject("P-1", consent=True, days=9)
    assert [plan.pseudonym for plan in told.plans()] == ["P-1"]
    assert told.opened == (1, 1, 0)


def test_plans_open_in_bulks_and_before_the_last_entry_is_there() -> None:
    told, names = Teller(), [f"P-{n}" for n in range(2 * BULK + 100)]
    told.fact(*(subject_of(name) for name in names))
    told.enter(*names, announce=False)
    assert not told.site.events(), "the journal tells no case, under which plans are told to the others"
    told.about()
    assert {event.case for event in told.site.events()} == {"", LOT}
    sizes = [len(bulk.plans) for bulk in told.site.all(clinical.MonitoringPlansOpened)]
    assert sizes == [BULK, BULK]
    assert told.opened == (len(names), 2 * BULK, 0)
    assert told.received is None
    told.announce()
    assert [len(bulk.plans) for bulk in told.site.all(clinical.MonitoringPlansOpened)] == [BULK, BULK, 100]
    assert told.opened == (len(names), len(names), 0)
    assert len(told.site.all(clinical.PlansOpened)) == 2


def test_a_run_that_grows_is_complete_again_only_when_the_new_patient_is_followed() -> None:
    told = Teller()
    told.subject("P-1")
    told.subject("P-2")
    told.enter("P-1")
    told.answer("P-1")
    assert told.summary.complete
    told.enter("P-2")
    assert (told.summary.plans, told.summary.answered, told.summary.complete) == (2, 1, False)
    told.answer("P-2", affected=True)
    assert (told.summary.answered, told.affected, told.summary.complete) == (2, 1, True)


@pytest.mark.parametrize("last_first", [False, True])
def test_the_later_of_two_answers_counts_in_any_order(last_first: bool) -> None:
    told = Teller()
    told.subject("P-1")
    told.enter("P-1")
    answers = [(False, 2.0), (True, 1.0)]
    for affected, days in reversed(answers) if last_first else answers:
        told.answer("P-1", affected, days)
    assert (told.summary.answered, told.affected) == (1, 1)


def test_an_answer_before_its_plan_is_kept() -> None:
    told = Teller()
    told.answer("P-1", affected=True)
    told.subject("P-1")
    told.enter("P-1")
    assert (told.summary.plans, told.summary.answered, told.affected) == (1, 1, 1)
    assert told.summary.complete


def test_a_second_lot_of_a_patient_joins_the_open_plan() -> None:
    told, other = Teller(), "maker/gtin/A/L2"
    told.subject("P-1")
    told.enter("P-1")
    told.answer("P-1", affected=True)
    told.enter("P-1", lot=other)
    assert told.opened == (1, 1, 0)
    assert [(lot, c.plans, c.answered, c.affected) for lot, c in told.lots] == [
        (LOT, 1, 1, 1),
        (other, 1, 1, 1),
    ]
    (plan,) = told.site.states(PLANS).values()
    assert plan.lots == (LOT, other)


def _end_follow_up(told: Teller) -> datetime:
    row = told.site.states(STEPS)[f"follow-up|{RUN}"]
    due = datetime.fromisoformat(row.due)
    last = clinical.MonitoringPlan(run=RUN, due=moments.stamp_of(row.due))
    told.site.command("EndFollowUp", last, due + timedelta(seconds=1))
    return due


def test_the_follow_up_ends_at_the_due_time_of_the_last_plan() -> None:
    told = Teller()
    told.subject("P-1")
    told.subject("P-2")
    told.enter("P-1")
    told.site.clock.advance(3600)
    told.enter("P-2")
    told.hazard()
    assert not told.summary.complete
    assert _end_follow_up(told) == START + timedelta(hours=1) + FOLLOW_UP
    assert (told.summary.answered, told.summary.complete) == (0, True)
    told.site.clock.advance(9 * 3600)
    told.subject("P-3")
    told.enter("P-3")
    assert not told.summary.complete


def test_the_end_of_a_follow_up_carries_case_and_run() -> None:
    told = Teller()
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    _end_follow_up(told)
    last = told.site.events()[-1]
    assert isinstance(last.message, clinical.FollowUpSummarised)
    assert (last.case, last.run) == (LOT, RUN)


def test_a_patient_who_answers_after_the_follow_up_is_still_counted() -> None:
    told = Teller()
    told.subject("P-1")
    told.enter("P-1")
    told.hazard()
    _end_follow_up(told)
    told.answer("P-1", affected=True)
    assert (told.summary.answered, told.affected, told.summary.complete) == (1, 1, True)


def test_a_site_that_no_announcement_names_says_nothing() -> None:
    told = Teller()
    told.trace(traceability.ExposureAnnounced(run=RUN, version=1, root=LOT, lots=[LOT]))
    assert not told.site.rows()


def test_an_own_record_of_a_listed_lot_is_told_to_the_trace_as_the_same_dispense() -> None:
    told = Teller()
    told.announce()
    record = clinical.MedicationRecorded(
        dispense=dispense_id(SITE, "order-P-1", LOT),
        site=SITE,
        pseudonym="P-1",
        lot=LOT,
        order="order-P-1",
        at=moment(6),
    )
    record.quantity.value, record.quantity.unit = 2, "{tablet}"
    told.fact(record)
    (fact,) = told.site.all(traceability.DispenseRecorded)
    assert fact == traceability.DispenseRecorded(
        dispense=record.dispense,
        lot=LOT,
        site=SITE,
        pseudonym="P-1",
        at=record.at,
        quantity=record.quantity,
        source=SITE,
        order="order-P-1",
    )
    assert told.received is not None
    assert (told.received.only_at_site, told.received.only_in_trace) == (1, 0)
    told.enter("P-1")
    assert (told.received.n, told.received.only_at_site, told.received.only_in_trace) == (1, 0, 0)
    assert len(told.site.all(traceability.DispenseRecorded)) == 1


def test_the_site_registers_once_and_again_under_a_new_name() -> None:
    site = MemorySite()
    for n, name in enumerate(["Hospital A", "Hospital A", "Hospital Alpha"]):
        site.command("RegisterSite", clinical.SiteRegistered(site=SITE, name=name), START + timedelta(days=n))
    assert [event.name for event in site.all(clinical.SiteRegistered)] == ["Hospital A", "Hospital Alpha"]


def test_a_site_that_an_announcement_leaves_out_registers_again_and_tells_what_it_has() -> None:
    """Its registration was lost, or comes later: nobody else can know that it has something of the lot."""
    told = Teller(key_first=False)
    registration = clinical.SiteRegistered(site=SITE, name="Hospital A")
    told.site.command("RegisterSite", registration, START)
    own = told.own("P-1")
    for version in (1, 1, 2):
        told.trace(traceability.ExposureAnnounced(run=RUN, version=version, root=LOT, lots=[LOT]))
    assert told.site.all(clinical.SiteRegistered) == [registration, registration]
    assert [fact.dispense for fact in told.site.all(traceability.DispenseRecorded)] == [own]
    assert not told.site.all(clinical.ExposureReceived)


def test_a_site_that_an_announcement_names_does_not_register_again() -> None:
    told = Teller()
    told.site.command("RegisterSite", clinical.SiteRegistered(site=SITE, name="Hospital A"), START)
    told.announce()
    assert len(told.site.all(clinical.SiteRegistered)) == 1


def test_a_key_that_does_not_open_keeps_the_run_open_and_its_patients_followed(tmp_path: Path) -> None:
    told = Teller(key_first=False)
    told.site.open_key = digest_keys(Sealer(LocalKeys(tmp_path)))
    told.open()
    told.subject("P-1")
    told.enter("P-1")
    assert told.opened == (1, 1, 0)
    assert not told.site.all(clinical.ExposureReceived)
    assert not told.site.dead_letters()
    metrics = Metrics("clinical")
    tell(metrics, SITE, [told.holding])
    differ = metrics.registry.get_sample_value(DIGEST_MISMATCHES.name, {"site": SITE})
    assert differ == 1, "the alert DigestMismatch looks at it"


@pytest.mark.parametrize("key_first", [True, False])
def test_a_key_that_did_not_open_opens_once_the_right_one_is_back(key_first: bool) -> None:
    """The one of the site was away from the beginning, or went away between two entries."""
    told = Teller(key_first=key_first)
    right, told.site.open_key = told.site.open_key, lambda sealed: None
    if not key_first:
        told.open()
    for name in ("P-1", "P-2"):
        told.subject(name)
    told.enter("P-1")
    told.site.command("OpenAgain", traceability.ExposureOpened(run=RUN, site=SITE), START)
    assert not told.site.all(clinical.ExposureReceived), "it is still away"
    told.enter("P-2")
    told.site.open_key = right
    assert not told.site.all(clinical.ExposureReceived), "nobody has tried"
    told.site.command("OpenAgain", traceability.ExposureOpened(run=RUN, site=SITE), START)
    assert told.holding.matched
    assert [ack.n for ack in told.site.all(clinical.ExposureReceived)] == [2]


def test_what_opened_or_never_came_is_not_opened_again() -> None:
    told = Teller()
    told.enter("P-1")
    for run in (RUN, "run-2"):
        told.site.command("OpenAgain", traceability.ExposureOpened(run=run, site=SITE), START)
    assert [ack.n for ack in told.site.all(clinical.ExposureReceived)] == [1]


def test_a_key_that_is_destroyed_in_between_ends_acknowledgements() -> None:
    told = Teller()
    told.enter("P-1")
    told.site.open_key = lambda sealed: None
    told.enter("P-2")
    assert [ack.n for ack in told.site.all(clinical.ExposureReceived)] == [1]
