"""Lots of a blinded study: the site hears of kits, and everybody who had the bad material is found."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.app import App
from services.kit.ids import lot_key
from services.kit.store.memory import AsyncMemoryStore
from services.traceability.api import TraceabilityApi
from tests.unit.traceability.driver import (
    Service,
    dispense,
    lot,
    material,
    moment,
    opened,
    registered,
    started,
)

SITE = "hospital-a"
#: What tells the arm to whoever knows the lots of a study.
LOTS = {"placebo-1", "active-1"}


def kit(number: int) -> str:
    return lot_key("maker", "kit", "STUDY-1", f"K{number:03}")


def packed(number: int, lot: str) -> events.MaterialRecorded:
    """A kit is a lot of its own, made from the lot that is inside."""
    made = material(f"kit-{number}", lot)
    made.lot = kit(number)
    return made


def given(number: int, pseudonym: str) -> events.DispenseRecorded:
    """Pharmacy and hospital know the kit, and no lot."""
    told = dispense(f"d{number}", "-", SITE, pseudonym)
    told.lot = kit(number)
    return told


def study(service: Service) -> None:
    """Two kits of the placebo lot, one of the active one, each with its patient."""
    service.publish(registered(SITE))
    service.publish(started("blend"))
    service.publish(material("placebo-1", "blend"))
    service.publish(material("active-1", "granulate"))
    for number, (inside, pseudonym) in enumerate(
        (("placebo-1", "P1"), ("active-1", "P2"), ("placebo-1", "P3"))
    ):
        service.publish(packed(number, inside))
        service.publish(given(number, pseudonym))
    service.fold_all()


def test_a_recall_of_a_study_finds_the_patients_and_tells_their_site_kits_alone(service: Service) -> None:
    study(service)
    service.publish(opened("r", "blend"))
    service.settle()
    found = {member.pseudonym: member.lot for member in service.members("r").values()}
    assert found == {"P1": kit(0), "P3": kit(2)}
    at_site = [
        told.message
        for told in service.told("r")
        if isinstance(told.message, events.ExposureEntriesJoined | events.ExposureOpened)
    ]
    assert at_site
    for message in at_site:
        assert not [lot for lot in LOTS if lot.encode() in message.SerializeToString()]


def test_what_came_late_of_a_study_is_told_by_its_kit_too(service: Service) -> None:
    study(service)
    service.publish(opened("r", "blend"))
    service.settle()
    service.publish(packed(7, "placebo-1"))
    late = given(7, "P4")
    late.at.CopyFrom(moment(30))
    service.publish(late)
    service.settle()
    assert service.members("r")["d7"].lot == kit(7)


def answers(service: Service, name: str) -> bytes:
    """What the trace answers of a lot: the lot itself, and the way down from it."""
    app = SimpleNamespace(store=AsyncMemoryStore(service.database), positions=_Nowhere())
    faced = TraceabilityApi(cast(App, app))

    async def ask() -> bytes:
        node = await faced.GetLotNode(api.GetLotNodeRequest(lot=name), None)
        way = [element async for element in faced.TraceLot(api.TraceLotRequest(lot=name), None)]
        return b"".join(message.SerializeToString() for message in (node, *way))

    return asyncio.run(ask())


class _Nowhere:
    async def of(self, runner: str) -> dict[object, int]:
        return {}


def test_the_way_is_open_down_to_a_kit_and_closed_up_from_it(service: Service) -> None:
    study(service)
    service.publish(opened("r", "blend"))
    service.settle()
    from_kit = answers(service, kit(0))
    assert kit(0).encode() in from_kit
    assert not [name for name in (*LOTS, "blend") if name.encode() in from_kit]
    from_lot = answers(service, lot("placebo-1"))
    assert [number for number in range(3) if kit(number).encode() in from_lot] == [0, 2]


def test_a_site_that_takes_part_later_hears_of_no_root_and_no_case(service: Service) -> None:
    study(service)
    service.publish(opened("r", "blend"))
    service.settle()
    service.publish(registered("hospital-b"))
    service.settle()
    own = [told for told in service.told("r") if told.topic.startswith("pharmaloop.traceability.hospital-")]
    assert {told.topic.split(".")[2] for told in own} == {SITE, "hospital-b"}
    assert {told.case for told in own} == {""}
    assert all(b"blend" not in told.message.SerializeToString() for told in own)
    assert {announced.root for announced in service.announced("r")} == {lot("blend")}
