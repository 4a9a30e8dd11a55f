"""Lots that are made by a transfer's recipe, and what is found of the first of them."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.errors import Rejected, Unknown
from services.production.views import LOTS
from tests.unit.production.memory import minutes, said
from tests.unit.production.transfer_story import (
    EQUIPMENT,
    LOT,
    PLANT,
    PRODUCT,
    TRANSFER,
    TRANSFER_EVENTS,
    FakeTwin,
    Story,
    measured,
    result,
    start,
)


@pytest.fixture
def story() -> Story:
    """A plant whose twin answers what it is told to."""
    return Story(FakeTwin())


def test_a_lot_is_started_by_an_effective_recipe_of_its_product_alone(story: Story) -> None:
    story.register()
    with pytest.raises(Unknown, match="UNKNOWN_TRANSFER"):
        start(story)
    story.adapt()
    with pytest.raises(Rejected, match="RECIPE_NOT_EFFECTIVE"):
        start(story)
    story.decide()
    story.validate()
    story.file()
    other = "maker/item/OTHER"
    with pytest.raises(Rejected, match="WRONG_PRODUCT"):
        story.call("StartLot", lot=f"{other}/1", equipment=EQUIPMENT, transfer=TRANSFER)
    start(story)
    held = story.memory.states(LOTS)[LOT]
    assert (held.transfer, held.transfer_version) == (TRANSFER, 1)
    assert story.call("GetLot", lot=LOT).lot.transfer == TRANSFER
    start(story, f"{PRODUCT}/old", transfer="")
    assert story.memory.states(LOTS)[f"{PRODUCT}/old"].transfer == ""


def test_the_outcome_is_told_when_every_predicted_attribute_is_tested(story: Story) -> None:
    story.effective()
    start(story)
    measured(story, result("titre", 4.1), result("assay", 99.0))
    assert not story.out(events.TransferOutcomeRecorded)
    measured(story, result("impurity", 0.9))
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert (told.lot, told.run, told.version, told.plant) == (LOT, "run-1", 1, PLANT)
    found = {one.attribute: (one.predicted.value, one.actual) for one in told.outcomes}
    assert found == {"titre": (pytest.approx(4.3), 4.1), "impurity": (pytest.approx(0.7), 0.9)}
    assert story.newest().state == "concluded"


def test_one_outcome_is_told_of_a_transfer_and_lots_go_on(story: Story) -> None:
    story.effective()
    second = f"{PRODUCT}/L-2"
    start(story)
    start(story, second)
    for lot in (second, LOT):
        measured(story, result("titre", 4.1, lot), result("impurity", 0.9, lot))
    assert [told.lot for told in story.out(events.TransferOutcomeRecorded)] == [second]
    start(story, f"{PRODUCT}/L-3")


def test_results_of_other_lots_say_nothing_of_a_transfer(story: Story) -> None:
    story.effective()
    start(story, transfer="")
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    assert not story.out(events.TransferOutcomeRecorded)


@pytest.mark.parametrize(("unit", "value"), [("mg/L", 4100.0), ("mg/mL", 4.1), ("kg/m3", 4.1), ("g/L", 4.1)])
def test_a_result_in_a_unit_that_converts_is_compared_in_the_predictions(
    story: Story, unit: str, value: float
) -> None:
    story.effective()
    start(story)
    measured(story, result("titre", value, unit=unit), result("impurity", 0.009, unit="1"))
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert [(one.unit, one.actual) for one in told.outcomes] == [("g/L", 4.1), ("%", pytest.approx(0.9))]
    assert not story.out(events.TransferOutcomeWithheld)


def test_a_result_in_a_unit_that_does_not_convert_is_said_not_to_count_once(story: Story) -> None:
    story.effective()
    start(story)
    measured(
        story, result("titre", 9.0, unit="[iU]/mL"), result("impurity", 0.9), result("assay", 1, unit="W")
    )
    (told,) = story.out(events.TransferOutcomeWithheld)
    assert (told.lot, told.version, told.rule, told.field) == (LOT, 1, "INCONVERTIBLE", "results.titre.unit")
    assert "does not convert to g/L" in told.statement
    assert "; record the result in" in told.statement
    story.project()
    shown = story.call("GetTransfer", transfer=TRANSFER)
    assert (shown.history[-1].event, LOT in shown.history[-1].statement) == ("TransferOutcomeWithheld", True)
    assert not story.out(events.TransferOutcomeRecorded)
    measured(story, result("titre", 4.1))
    assert len(story.out(events.TransferOutcomeRecorded)) == 1


def disposed(
    story: Story, bad: tuple[Event, str], outcome: events.InvestigationOutcome, test: str = "titre"
) -> None:
    """The laboratory investigates a result, and a person says what was found."""
    about: dict[str, Any] = {"lot": LOT, "investigation": f"of {bad[0].id}", "result": bad[0].id}
    opened = events.LaboratoryInvestigationOpened(**about, test=test)
    story.memory.apply(LOTS, LOT, opened)
    assert not story.out(events.TransferOutcomeRecorded)
    closed = events.InvestigationClosed(**about, outcome=outcome, actor="qa", reason="looked")
    story.memory.apply(LOTS, LOT, closed)
    story.give(closed)


def found(story: Story) -> list[float]:
    return [one.actual for told in story.out(events.TransferOutcomeRecorded) for one in told.outcomes]


def test_a_result_out_of_specification_counts_when_it_stands(story: Story) -> None:
    story.effective()
    start(story)
    measured(story, result("impurity", 0.9))
    bad = said(result("titre", 2.0, low=2.2), minutes(500))
    story.memory.give(TRANSFER_EVENTS, [bad])
    disposed(story, bad, events.INVESTIGATION_OUTCOME_CONFIRMED)
    assert found(story) == [2.0, 0.9]


def test_nothing_is_concluded_while_a_result_out_of_specification_is_not_explained(story: Story) -> None:
    """A first result was within specification, the next one is not: the retest is what counts."""
    story.effective()
    start(story)
    bad = said(result("titre", 2.0, minute=510, low=2.2), minutes(510))
    story.memory.give(TRANSFER_EVENTS, [bad])
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    assert not found(story), "it is open, though the laboratory has not opened its investigation yet"
    disposed(story, bad, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR)
    assert not found(story), "what was tested before it is not the retest"
    measured(story, result("titre", 3.9, minute=520, low=2.2))
    assert found(story) == [3.9, 0.9]


def test_an_investigation_of_what_nobody_predicted_is_waited_for_too(story: Story) -> None:
    story.effective()
    start(story)
    bad = said(result("assay", 80.0, low=95.0), minutes(500))
    story.memory.give(TRANSFER_EVENTS, [bad])
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    disposed(story, bad, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR, "assay")
    assert found(story) == [4.1, 0.9]


def test_a_result_and_the_end_of_its_investigation_do_not_miss_each_other(story: Story) -> None:
    """Another worker hears that the result stands between what this one reads and its commit."""
    story.effective()
    start(story)
    measured(story, result("impurity", 0.9))
    bad = said(result("titre", 2.0, low=2.2), minutes(500))
    about: dict[str, Any] = {"lot": LOT, "investigation": "i1", "result": bad[0].id}
    closed = events.InvestigationClosed(
        **about, outcome=events.INVESTIGATION_OUTCOME_CONFIRMED, actor="qa", reason="looked"
    )

    def meanwhile() -> None:
        story.memory.apply(LOTS, LOT, events.LaboratoryInvestigationOpened(**about, test="titre"))
        story.memory.apply(LOTS, LOT, closed)
        story.memory.give(TRANSFER_EVENTS, [said(closed, minutes(501), seq=9, subject="i1")], 1)

    story.memory.store.interrupt = meanwhile
    story.memory.give(TRANSFER_EVENTS, [bad])
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert [one.actual for one in told.outcomes] == [2.0, 0.9]


def test_what_a_lot_of_an_ended_version_is_found_to_be_is_of_the_version_that_made_it(story: Story) -> None:
    story.effective()
    start(story)
    story.later()
    story.decide()
    story.validate()
    story.file()
    assert story.states() == [(1, "ended"), (2, "effective")]
    measured(story, result("titre", 4.1), result("impurity", 0.9))
    (told,) = story.out(events.TransferOutcomeRecorded)
    assert (told.version, told.run, told.lot) == (1, "run-1", LOT)
    assert story.states() == [(1, "ended"), (2, "effective")], "it says nothing of the next"
    start(story, f"{PRODUCT}/L-2")
    measured(story, result("titre", 4.2, f"{PRODUCT}/L-2"), result("impurity", 0.9, f"{PRODUCT}/L-2"))
    assert [one.version for one in story.out(events.TransferOutcomeRecorded)] == [1, 2]
    assert story.states() == [(1, "ended"), (2, "concluded")]


def test_what_a_lot_of_a_withdrawn_version_is_found_to_be_is_recorded_once(story: Story) -> None:
    story.effective()
    start(story)
    start(story, f"{PRODUCT}/L-2")
    story.give(story.withdrawn())
    for lot in (LOT, f"{PRODUCT}/L-2"):
        measured(story, result("titre", 4.1, lot), result("impurity", 0.9, lot))
    assert [one.lot for one in story.out(events.TransferOutcomeRecorded)] == [LOT]
    assert story.states() == [(1, "ended")]


def test_a_lot_of_another_line_does_not_count_and_that_is_said_once(story: Story) -> None:
    story.effective()
    other = f"{PLANT}/fermenter-2"
    tags = [events.Tag(name="DO", unit="%")]
    story.call("RegisterEquipment", equipment=other, plant=PLANT, tags=tags)
    story.call("StartLot", lot=LOT, product=PRODUCT, equipment=other, transfer=TRANSFER)
    measured(story, result("titre", 4.1), result("impurity", 0.9), result("assay", 99.0))
    assert not story.out(events.TransferOutcomeRecorded)
    (told,) = story.out(events.TransferOutcomeWithheld)
    assert (told.lot, told.run, told.version) == (LOT, "run-1", 1)
    assert (told.rule, told.field, told.result) == ("OTHER_LINE", "lot.equipment", "")
    assert (other in told.statement, EQUIPMENT in told.statement) == (True, True)
    story.project()
    shown = story.call("GetTransfer", transfer=TRANSFER)
    assert shown.history[-1].event == "TransferOutcomeWithheld"
    assert "; make a lot there" in shown.history[-1].statement
    second = f"{PRODUCT}/L-2"
    start(story, second)
    measured(story, result("titre", 4.1, second), result("impurity", 0.9, second))
    assert [one.lot for one in story.out(events.TransferOutcomeRecorded)] == [second]
