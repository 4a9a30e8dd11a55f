"""`feed materials`: which lot was made from which."""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.cli.feed.columns import Column, Layout, Values
from services.cli.feed.moments import message_of
from services.cli.feed.noun import Noun
from services.cli.feed.parts import lot_columns, lot_of, quantity_columns, quantity_of
from services.cli.feed.values import IDENTITY, MOMENT, TEXT
from services.kit.ids import derived_id

_COLUMNS = (
    *lot_columns(),
    Column(
        "input_lot",
        IDENTITY,
        "A lot that it was made from: one a row, as many rows as it has inputs; empty for what was bought",
        "R-0007",
        synonyms=("input", "from lot", "原料批号", "投料批号", "物料批号"),
    ),
    Column("input_owner", IDENTITY, "Who made the input lot", "supplier-3"),
    Column("input_scheme", IDENTITY, "What the input's item number is", "item"),
    Column("input_item", IDENTITY, "Item number of the input", "lactose", synonyms=("原料编码", "投料编码")),
    Column(
        "at",
        MOMENT,
        "When the lot was made, or came",
        "2026-03-05T14:02:00+08:00",
        required=True,
        synonyms=("time", "date", "made", "生产日期", "日期", "时间"),
    ),
    *quantity_columns(),
    *quantity_columns("input_", "of the input went into it"),
    Column(
        "record",
        TEXT,
        "Number of the record at its source",
        "WO-4711",
        synonyms=("work order", "工单号", "生产指令号"),
    ),
    Column("source", TEXT, "Which system recorded it; you, where it is not given", "maker-1/mes"),
)


def _message(values: Values, layout: Layout) -> events.MaterialRecorded:
    made = events.MaterialRecorded(
        lot=lot_of(values), at=message_of(values["at"]), source=values.get("source") or ""
    )
    if quantity := quantity_of(values, layout):
        made.quantity.CopyFrom(quantity)
    if input_lot := lot_of(values, "input_"):
        taken = made.inputs.add(lot=input_lot)
        if quantity := quantity_of(values, layout, "input_"):
            taken.quantity.CopyFrom(quantity)
    # One record of the source may fill several rows, and each row is a fact of its own.
    own = derived_id("feed-material", made.SerializeToString(deterministic=True).hex())
    made.record = f"{values['record']}#{own[:8]}" if values.get("record") else own
    return made


def _request(id: str, _: str, materials: Sequence[events.MaterialRecorded]) -> api.RecordMaterialRequest:
    return api.RecordMaterialRequest(request_id=id, materials=materials)


MATERIALS = Noun(
    name="materials",
    tells="Which lot was made from which lots.",
    columns=_COLUMNS,
    message=_message,
    request=_request,
    method=lambda session, _: session.traceability.RecordMaterial,
)
