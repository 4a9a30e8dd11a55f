"""The makers' and traders' systems: which lot was made from which lots, and where its packs went.

Everybody records their own: a maker what it made, the contract maker what it
packed again or worked in, a giver what it sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.world.actors.calendar import Due, keep
from services.world.actors.desk import Desk
from services.world.entities import Material, Shipment
from services.world.ids import moment, short
from services.world.platform_api import check_facts

_BATCH = 500


class Supply:
    """`desk_for` gives each source a desk of its own."""

    def __init__(
        self,
        desk_for: Callable[[str], Desk],
        materials: Sequence[Material],
        shipments: Sequence[Shipment],
    ) -> None:
        self._desk_for = desk_for
        self._materials, self._shipments = materials, shipments

    async def record_past(self) -> None:
        """All that is on time, in bulk; a raw lot that was received is made from nothing."""
        on_time = [item for item in self._materials if item.late is None]
        for source in _sources(on_time):
            await self._send_materials(source, [item for item in on_time if item.source == source])
        for source in _sources(self._shipments):
            await self._send_shipments(source, [item for item in self._shipments if item.source == source])
        said = f"{len(on_time)} records of material and {len(self._shipments)} of shipments"
        self._desk_for("world").say(f"supply: {said}")

    async def record_late(self) -> None:
        """Records that come late, each at its own time after the runs began."""
        for source in _sources(item for item in self._materials if item.late):
            desk = self._desk_for(source)
            late = [item for item in self._materials if item.late and item.source == source]
            await keep(desk, [self._due(desk, item) for item in late])

    def _due(self, desk: Desk, item: Material) -> Due:
        assert item.late

        async def send() -> None:
            await self._materials_of(desk, f"late:{item.record}", [item])

        said = f"{item.source}: the record of {short(item.lot)} came late"
        return Due(item.late, f"material:late:{item.record}", send, said)

    async def _send_materials(self, source: str, materials: Sequence[Material]) -> None:
        desk = self._desk_for(source)
        for start in range(0, len(materials), _BATCH):
            step = f"material:{source}:{start}"
            if not desk.progress.is_done(step):
                await self._materials_of(desk, step, materials[start : start + _BATCH])
                desk.progress.finish(step)

    async def _materials_of(self, desk: Desk, step: str, materials: Sequence[Material]) -> None:
        request = api.RecordMaterialRequest(
            request_id=desk.request(step), materials=[_material(item) for item in materials]
        )
        answer = await desk.call(desk.platform.traceability.RecordMaterial, request)
        check_facts(answer.receipt, "RecordMaterial")

    async def _send_shipments(self, source: str, shipments: Sequence[Shipment]) -> None:
        desk = self._desk_for(source)
        for start in range(0, len(shipments), _BATCH):
            step = f"shipment:{source}:{start}"
            if desk.progress.is_done(step):
                continue
            request = api.RecordShipmentsRequest(
                request_id=desk.request(step),
                shipments=[_shipment(item) for item in shipments[start : start + _BATCH]],
            )
            answer = await desk.call(desk.platform.traceability.RecordShipments, request)
            check_facts(answer.receipt, "RecordShipments")
            desk.progress.finish(step)


def _sources(items: Iterable[Material] | Iterable[Shipment]) -> list[str]:
    return sorted({item.source for item in items})


def _material(item: Material) -> events.MaterialRecorded:
    return events.MaterialRecorded(
        lot=item.lot,
        inputs=[events.MaterialInput(lot=lot) for lot in item.inputs],
        quantity=common.Quantity(value=item.amount, unit=item.unit),
        at=moment(item.at),
        record=item.record,
        source=item.source,
    )


def _shipment(item: Shipment) -> events.ShipmentRecorded:
    return events.ShipmentRecorded(
        lot=item.lot,
        from_place=item.from_place,
        to_place=item.to_place,
        quantity=common.Quantity(value=item.amount, unit=item.unit),
        at=moment(item.at),
        record=item.record,
        source=item.source,
    )
