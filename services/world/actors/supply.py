"""The maker's execution system: which lot was made from which lots."""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.entities import Material
from services.world.ids import moment
from services.world.platform_api import check_facts

_BATCH = 100


async def record_materials(desk: Desk, materials: Sequence[Material]) -> None:
    """Record all material, in bulk; a raw lot that was received is made from nothing."""
    for start in range(0, len(materials), _BATCH):
        step = f"material:{start}"
        if desk.progress.is_done(step):
            continue
        request = api.RecordMaterialRequest(
            request_id=desk.request(step),
            materials=[_message(desk, material) for material in materials[start : start + _BATCH]],
        )
        answer = await desk.call(desk.platform.traceability.RecordMaterial, request)
        check_facts(answer.receipt, "RecordMaterial")
        desk.progress.finish(step)
    desk.say(f"material: {len(materials)} lots recorded")


def _message(desk: Desk, material: Material) -> events.MaterialRecorded:
    return events.MaterialRecorded(
        lot=material.lot,
        inputs=[events.MaterialInput(lot=lot) for lot in material.inputs],
        quantity=common.Quantity(value=material.amount, unit=material.unit),
        at=moment(material.at),
        record=desk.request("material", material.lot),
        source=desk.actor,
    )
