"""How much of a lot was made, used and sent where; what does not add up is flagged and refuses nothing."""

from __future__ import annotations

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.units import size
from services.traceability.domain import balance
from services.traceability.views import BALANCES, SUSPECTS
from tests.unit.traceability.driver import Service, lot, material, moment


def kg(value: float) -> common.Quantity:
    return common.Quantity(value=value, unit="kg")


def made(name: str, amount: common.Quantity, *inputs: tuple[str, common.Quantity]) -> events.MaterialRecorded:
    record = material(name, *(other for other, _ in inputs))
    record.quantity.CopyFrom(amount)
    for item, (_, used) in zip(record.inputs, inputs, strict=True):
        item.quantity.CopyFrom(used)
    return record


def sent(name: str, from_place: str, to_place: str, amount: common.Quantity) -> events.ShipmentRecorded:
    return events.ShipmentRecorded(
        lot=lot(name),
        from_place=from_place,
        to_place=to_place,
        quantity=amount,
        at=moment(1),
        record=f"{name}/{from_place}/{to_place}/{amount.value}",
        source="maker",
    )


def suspects(service: Service) -> set[str]:
    return {s.lot for s in service.states(SUSPECTS).values() if s.reason == balance.MASS_IMBALANCE}


def told(service: Service, *messages: object) -> None:
    for message in messages:
        service.publish(message)  # type: ignore[arg-type]
    service.fold_all()


@pytest.mark.parametrize(("used", "flagged"), [(60, False), (40.4, False), (60.7, True), (100, True)])
def test_more_used_than_made_is_flagged_beyond_what_weighing_explains(
    service: Service, used: float, flagged: bool
) -> None:
    told(
        service,
        made("raw", kg(100)),
        made("a", kg(1), ("raw", kg(40.4))),
        made("b", kg(1), ("raw", kg(used))),
    )
    assert suspects(service) == ({lot("raw")} if flagged else set())


def test_a_missing_record_that_comes_late_mends_the_balance(service: Service) -> None:
    told(service, made("raw", kg(10)), made("a", kg(1), ("raw", kg(15))))
    assert suspects(service) == {lot("raw")}
    second = made("raw", kg(10), ("x", kg(10)))
    told(service, second, second)
    assert suspects(service) == set()
    assert len(service.state(BALANCES, lot("raw")).made) == 2


def test_amounts_of_other_units_are_not_compared(service: Service) -> None:
    packs = common.Quantity(value=5000, unit="{pack}")
    told(service, made("raw", kg(10)), made("a", packs, ("raw", packs)))
    assert suspects(service) == set()


@pytest.mark.parametrize(("grams", "flagged"), [(60_000, False), (60_700, True)])
def test_amounts_in_units_that_convert_add_up(service: Service, grams: float, flagged: bool) -> None:
    told(
        service,
        made("raw", kg(100)),
        made("a", kg(1), ("raw", kg(40.4))),
        made("b", kg(1), ("raw", common.Quantity(value=grams, unit="g"))),
    )
    assert suspects(service) == ({lot("raw")} if flagged else set())


def test_where_a_lot_went_is_said_in_one_unit_of_each_kind(service: Service) -> None:
    grams, packs = common.Quantity(value=2500, unit="g"), common.Quantity(value=3, unit="{pack}")
    told(
        service,
        made("lot", kg(100)),
        sent("lot", "maker", "wholesaler", kg(10)),
        sent("lot", "wholesaler", "pharmacy", grams),
        sent("lot", "wholesaler", "pharmacy", packs),
    )
    kept = service.state(BALANCES, lot("lot"))
    assert balance.places(balance.in_common_units(kept, size)) == [
        ("maker", 0, 10, "kg"),
        ("pharmacy", 2.5, 0, "kg"),
        ("pharmacy", 3, 0, "{pack}"),
        ("wholesaler", 10, 2.5, "kg"),
        ("wholesaler", 0, 3, "{pack}"),
    ]


def test_a_place_that_sends_more_than_came_to_it_is_flagged(service: Service) -> None:
    told(
        service,
        made("lot", kg(100)),
        sent("lot", "maker", "wholesaler", kg(90)),
        sent("lot", "wholesaler", "pharmacy-1", kg(50)),
        sent("lot", "pharmacy-1", "pharmacy-2", kg(20)),
    )
    assert suspects(service) == set()
    assert balance.places(service.state(BALANCES, lot("lot"))) == [
        ("maker", 0, 90, "kg"),
        ("pharmacy-1", 50, 20, "kg"),
        ("pharmacy-2", 20, 0, "kg"),
        ("wholesaler", 90, 50, "kg"),
    ]
    told(service, sent("lot", "pharmacy-1", "pharmacy-3", kg(40)))
    assert suspects(service) == {lot("lot")}


def test_more_sent_by_the_maker_than_was_made_is_flagged(service: Service) -> None:
    told(service, made("lot", kg(100)), sent("lot", "maker", "wholesaler", kg(120)))
    assert suspects(service) == {lot("lot")}
