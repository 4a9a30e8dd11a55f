"""A run's evidence by what the hospital reports by itself: who is in it, until when, and never pooled."""

from __future__ import annotations

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.sealing import subject_key
from tests.unit.clinical.memory_site import SITE, moment
from tests.unit.clinical.study_site import SIBLING, STRANGE, Keys, Person, StudySite, exposed_run
from tests.unit.clinical.teller import LOT

ITCHING = "PL0101"
ANOTHER = "maker/gtin/A/L.2"
PROMPTED, ROUTINE = clinical.OUTCOME_KIND_PROMPTED, clinical.OUTCOME_KIND_ROUTINE


def report(site: StudySite, name: str, onset: float, told: float | None = None) -> None:
    """The hospital reports, so many days before the hazard is evaluated."""
    told = onset if told is None else told
    happened = clinical.AdverseEventRecorded(
        report=f"AE {name} {onset}",
        site=SITE,
        pseudonym=name,
        term=ITCHING,
        onset=moment(onset),
        at=moment(told),
    )
    site.fact(happened, days=told)


def complain(site: StudySite, name: str, days: float = 1) -> None:
    """The patient answers that it itches."""
    (plan,) = (plan.plan for plan in site.plans() if plan.pseudonym == name)
    answer = clinical.ResponseRecorded(plan=plan, site=SITE, pseudonym=name, affected=True, at=moment(days))
    answer.complaints.add(term=ITCHING, onset=moment(days))
    site.fact(answer, days=days)


def rows(site: StudySite, kind: clinical.OutcomeKind) -> list[api.LotEvidence]:
    return [lot for lot in site.evidence().lots if lot.kind == kind]


def arms(lot: api.LotEvidence) -> tuple[tuple[int, int], tuple[int, int]]:
    """Cases and patients: of the exposed, of the comparators."""
    strata = lot.strata
    exposed = sum(s.exposed_cases for s in strata), sum(s.exposed for s in strata)
    return exposed, (sum(s.comparator_cases for s in strata), sum(s.comparators for s in strata))


def whole(site: StudySite) -> api.LotEvidence:
    return rows(site, ROUTINE)[0]


def days(site: StudySite) -> tuple[float, float]:
    strata = whole(site).strata
    return sum(s.exposed_days for s in strata), sum(s.comparator_days for s in strata)


def siblings(count: int, days_ago: float = 6) -> list[Person]:
    return [Person(f"C-{n}", SIBLING, days_ago=days_ago) for n in range(count)]


def test_everybody_who_received_the_products_lots_counts_though_nobody_answered() -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT, age=70, sex="M"), *siblings(5))
    report(site, "P-1", 2)
    report(site, "C-3", 3)
    assert arms(whole(site)) == ((1, 2), (1, 5))
    # Six days each, but the two cases: four, and three of the comparator.
    assert days(site) == pytest.approx((4 + 6, 3 + 4 * 6))
    assert [arms(lot) for lot in rows(site, PROMPTED)] == [((0, 0), (0, 0))]


def test_the_answer_shows_each_lot_by_both_kinds_apart() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(2))
    site.people([Person("P-2", ANOTHER, age=1)])
    site.enter("P-2", lot=ANOTHER)
    report(site, "P-2", 2)
    shown = site.evidence().lots
    assert [(lot.lot, lot.whole, lot.kind) for lot in shown] == [
        (LOT, True, PROMPTED),
        (ANOTHER, False, PROMPTED),
        (LOT, True, ROUTINE),
        (ANOTHER, False, ROUTINE),
    ]
    assert [arms(lot) for lot in shown[2:]] == [((1, 2), (0, 2)), ((1, 1), (0, 2))]
    strata = [(s.product, s.age_from, s.sex, s.template, s.version) for s in shown[2].strata]
    assert strata == [("maker/gtin/A", 0, "F", "", 0), ("maker/gtin/A", 45, "F", "", 0)]
    assert shown[2].risk_ratio.reason


def test_reports_change_no_prompted_number_and_answers_no_routine_one() -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT), *siblings(4))
    report(site, "P-1", 3)
    site.reply("C-0", affected=True)
    before = site.evidence()
    report(site, "P-2", 2)
    report(site, "C-0", 2)
    told = site.evidence()
    assert [lot for lot in told.lots if lot.kind == PROMPTED] == [
        lot for lot in before.lots if lot.kind == PROMPTED
    ]
    assert (told.person_days, told.next_look, told.comparators) == (
        before.person_days,
        before.next_look,
        before.comparators,
    )
    assert arms(whole(site)) == ((2, 2), (1, 4))
    complain(site, "P-1")
    complain(site, "P-2", days=4)
    assert rows(site, ROUTINE) == [lot for lot in told.lots if lot.kind == ROUTINE]
    assert arms(rows(site, PROMPTED)[0]) == ((2, 2), (1, 1))


def test_what_only_a_patient_tells_does_not_count_and_what_both_tell_counts_once() -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT), *siblings(2))
    for name in ("P-1", "P-2"):
        complain(site, name, days=2)
    assert arms(whole(site)) == ((0, 2), (0, 2))
    report(site, "P-2", 3)
    assert arms(whole(site)) == ((1, 2), (0, 2))


def test_reports_change_nothing_that_leaves_the_site() -> None:
    people = [Person(f"P-{n}", LOT) for n in range(24)] + siblings(48)
    released = []
    for reported in (False, True):
        site = exposed_run(*people)
        for person in people if reported else ():
            report(site, person.pseudonym, 2)
        for n, person in enumerate(people):
            site.reply(person.pseudonym, affected=n % 2 == 0)
            site.work()
        released.append((site.released(), list(site.evidence().looks)))
    assert released[0] == released[1]
    assert any(one.exposed.cases for one in released[0][0])
    assert {one.kind for one in released[0][0]} == {PROMPTED}


def test_from_the_hazards_evaluation_on_nothing_is_counted() -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT), *siblings(2))
    site.site.clock.advance(5 * 86400)
    report(site, "P-1", -2)  # two days after it
    report(site, "P-2", 3, told=-1)  # somebody remembers
    assert arms(whole(site)) == ((0, 2), (0, 2))
    assert days(site) == pytest.approx((12, 12))


def test_while_the_hazard_is_not_evaluated_everybody_is_observed_to_now() -> None:
    site = StudySite()
    site.people([Person("P-1", LOT), *siblings(1)])
    site.enter("P-1")
    assert days(site) == pytest.approx((6, 6))
    site.site.clock.advance(2 * 86400)
    report(site, "C-0", -1)
    assert arms(whole(site)) == ((0, 1), (1, 1))
    assert days(site) == pytest.approx((8, 7))


@pytest.mark.parametrize("status", ["DECEASED", "MOVED"])
def test_who_dies_or_leaves_is_observed_until_then(status: str) -> None:
    site = exposed_run(Person("P-1", LOT), Person("P-2", LOT), *siblings(1))
    for name, left in (("P-1", 4), ("P-2", 7)):  # the second before the pack was begun: a wrong record
        site.subject(name, days=left, status=status)
    report(site, "P-1", 3)
    assert arms(whole(site)) == ((0, 1), (0, 1))
    assert days(site) == pytest.approx((2, 6))


def test_what_a_patient_dies_of_counts() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(1))
    report(site, "P-1", 4)
    site.subject("P-1", days=4, status="DECEASED")
    assert arms(whole(site)) == ((1, 1), (0, 1))


def test_an_event_belongs_to_the_lot_that_is_taken_then() -> None:
    """A sibling lot's pack is begun four days before the end: what comes then is no case of the run's lot."""
    site = exposed_run(Person("P-1", LOT, days_ago=10), Person("P-2", LOT, days_ago=10), *siblings(1))
    site.people([Person(name, SIBLING, days_ago=4) for name in ("P-1", "P-2")])
    report(site, "P-1", 2)
    report(site, "P-2", 5)
    assert arms(whole(site)) == ((1, 2), (0, 1))
    assert days(site) == pytest.approx((6 + 5, 6))


def test_consent_to_follow_up_makes_no_difference() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(1))
    report(site, "P-1", 2)
    before = rows(site, ROUTINE)
    for name in ("P-1", "C-0"):
        withdrawn = clinical.SubjectRecorded(pseudonym=name, site=SITE, consent=False, at=moment(3))
        profile = clinical.SubjectProfile(age_years=50, sex="F")
        withdrawn.profile.CopyFrom(site.sealer.seal(profile, subject_key(SITE, name)))
        site.fact(withdrawn, days=3)
    assert rows(site, ROUTINE) == before


def test_who_received_a_lot_of_another_run_is_no_comparator() -> None:
    site = exposed_run(Person("P-1", LOT), *siblings(2))
    site.people([Person("O-1", ANOTHER), Person("C-1", ANOTHER)])
    assert arms(whole(site))[1] == (0, 3)
    site.trace(traceability.ExposureAnnounced(run="run-2", version=1, root=ANOTHER, lots=[ANOTHER]))
    assert arms(whole(site))[1] == (0, 1)


def test_no_profile_is_opened_but_of_who_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    site = exposed_run(
        Person("P-1", LOT),
        Person("C-0", SIBLING),
        Person("before", SIBLING, days_ago=60),
        Person("elsewhere", STRANGE),
    )
    opened: list[str] = []

    def find(keys: Keys, id: str) -> bytes:
        opened.append(id)
        return keys.make(id)

    monkeypatch.setattr(Keys, "find", find)
    assert arms(whole(site)) == ((0, 1), (0, 1))
    assert set(opened) == {subject_key(SITE, "P-1"), subject_key(SITE, "C-0")}
