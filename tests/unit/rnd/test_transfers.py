"""What plants' lots teach the next prediction: the gap shrinks over successive transfers."""

from __future__ import annotations

from random import Random

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid
from services.kit.ids import transfer_case
from services.rnd.views import OUTCOMES
from tests.unit.rnd.memory import Research
from tests.unit.rnd.penicillin import PRODUCT

PLANT = "plant-2"


def happens(
    research: Research, number: int, own: float, actual: float, *, unit: str = "g/L", plant: str = PLANT
) -> float:
    """A transfer's lot is tested; the plant calibrated its prediction by what research told before.

    Answers the gap.
    """
    told = [one for one in research.told(events.PredictionCalibrated) if one.plant == plant]
    known = {one.unit: one.bias for one in (told[-1].attributes if told else ())}
    bias = known.get(unit, 0.0)
    expected = common.Estimate(value=own + bias, lower=own + bias - 0.1, upper=own + bias + 0.1)
    transfer = transfer_case(f"set-{number}", plant)
    outcome = production.AttributeOutcome(
        attribute="titre", unit=unit, predicted=expected, actual=actual, calibrated_by=bias
    )
    recorded = production.TransferOutcomeRecorded(
        transfer=transfer,
        run=f"run-{number}",
        set=f"set-{number}",
        version=1,
        plant=plant,
        product=PRODUCT,
        lot=f"{PRODUCT}/L-{number}",
        outcomes=[outcome],
    )
    research.tell(recorded, seq=number, hour=number, case=transfer, run=f"run-{number}")
    return actual - expected.value


def gaps(research: Research, plant: str = PLANT) -> api.GetTransferGapsResponse:
    request = api.GetTransferGapsRequest(product=PRODUCT, plant=plant)
    answer: api.GetTransferGapsResponse = research.call("GetTransferGaps", request)
    return answer


def test_the_gap_shrinks_over_five_transfers(research: Research) -> None:
    """A plant that makes a tenth less than its twin says, with little scatter."""
    noise = Random(5)
    own = [1.30, 1.25, 1.35, 1.28, 1.31]
    seen = [
        happens(research, number, value, value - 0.13 + noise.gauss(0, 0.004))
        for number, value in enumerate(own, start=1)
    ]
    shown = gaps(research)
    assert [one.gaps[0].gap for one in shown.outcomes] == pytest.approx(seen)
    assert all(abs(one.gaps[0].gap_before + 0.13) < 0.02 for one in shown.outcomes)
    assert abs(seen[4]) < abs(seen[1]) < abs(seen[0])
    assert abs(seen[4]) < abs(seen[0]) / 3
    (learned,) = shown.calibration
    assert learned.outcomes == 5
    assert learned.bias == pytest.approx(-0.13 * 5 / 6, abs=0.005)
    assert 0 < learned.spread < 0.02
    assert learned.gap == pytest.approx(seen[-1])


def test_what_is_told_names_its_transfer_and_belongs_to_its_run(research: Research) -> None:
    happens(research, 1, 1.3, 1.2)
    ((event, told),) = research.events(events.PredictionCalibrated)
    assert told.calibration == f"{PLANT}|{PRODUCT}"
    assert (told.transfer, told.lot) == (transfer_case("set-1", PLANT), f"{PRODUCT}/L-1")
    assert (event.case, event.run) == (transfer_case("set-1", PLANT), "run-1")
    assert told.attributes[0].bias == pytest.approx(-0.05)
    assert told.attributes[0].spread == 0.0


def test_a_lot_teaches_once_and_plants_apart(research: Research) -> None:
    happens(research, 1, 1.3, 1.2)
    again = research.told(events.PredictionCalibrated)
    (outcome,) = research.states(OUTCOMES).values()
    research.tell(outcome.message(), seq=9, hour=9)
    assert research.told(events.PredictionCalibrated) == again
    happens(research, 2, 1.3, 1.6, plant="plant-3")
    assert gaps(research).calibration[0].outcomes == 1
    assert gaps(research, "plant-3").calibration[0].bias == pytest.approx(0.15)


def test_what_cannot_be_compared_teaches_nothing(research: Research) -> None:
    happens(research, 1, 1.3, float("nan"))
    assert not gaps(research).calibration
    happens(research, 2, 1.3, 1.2)
    happens(research, 3, 1300, 1200, unit="mg/L")
    (learned,) = gaps(research).calibration
    assert (learned.outcomes, learned.unit) == (1, "mg/L")
    assert learned.gap == pytest.approx(-100)


def test_gaps_are_asked_of_a_product_and_a_plant(research: Research) -> None:
    for product, plant, field in (("x", "p", "product"), (PRODUCT, "", "plant")):
        with pytest.raises(Invalid) as refused:
            research.call("GetTransferGaps", api.GetTransferGapsRequest(product=product, plant=plant))
        assert refused.value.field == field
