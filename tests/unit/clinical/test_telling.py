"""A dispense that the hospital alone has is told to the trace until a journal names it."""

from __future__ import annotations

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.work import STEPS
from tests.unit.clinical.memory_site import SITE, moment
from tests.unit.clinical.passing import pass_time
from tests.unit.clinical.teller import Teller

#: Hours from one telling to the next.
HOURS = (1, 4, 16, 64, 256, 1024)


def facts(told: Teller) -> list[traceability.DispenseRecorded]:
    return told.site.all(traceability.DispenseRecorded)


def announced() -> Teller:
    told = Teller()
    told.announce()
    return told


def waits(told: Teller) -> bool:
    return any(row.step == "telling" for row in told.site.states(STEPS).values())


def test_what_no_journal_names_is_told_again_and_again_as_the_same_claim() -> None:
    told = announced()
    told.own("P-1")
    for n, hours in enumerate(HOURS, 1):
        pass_time(told, hours - 0.5)
        assert len(facts(told)) == n, "too early"
        pass_time(told, 0.5)
        assert len(facts(told)) == n + 1
    pass_time(told, 10 * HOURS[-1])
    (said,) = {fact.SerializeToString(deterministic=True) for fact in facts(told)}
    assert traceability.DispenseRecorded.FromString(said).pseudonym == "P-1"
    rows = [row for row in told.site.rows() if "dispense" in row.topic]
    assert len({row.id for row in rows}) == 1 + len(HOURS), "no door may take one for the one before"
    assert not waits(told)


def test_it_is_not_told_again_once_a_journal_names_it() -> None:
    told = announced()
    told.own("P-1")
    pass_time(told, 1)
    told.enter("P-1")
    pass_time(told, 100)
    assert len(facts(told)) == 2
    assert not waits(told)


def test_it_is_not_told_again_when_the_hospital_took_it_back() -> None:
    told = announced()
    dispense = told.own("P-1")
    wrong = clinical.MedicationCorrected(
        dispense=dispense, site=SITE, pseudonym="P-1", reason="a slip", at=moment(1)
    )
    told.fact(wrong)
    pass_time(told, 1)
    assert len(facts(told)) == 1


def test_a_journal_that_names_another_patient_has_not_heard_of_it() -> None:
    told = announced()
    told.own("P-1", order="order-X")
    told.enter("P-2", order="order-X")
    pass_time(told, 1)
    assert [fact.pseudonym for fact in facts(told)] == ["P-1", "P-1"]
