"""`feed results`: what the laboratory measured on lots, with the limits of its specification.

A result that is lost may let a bad lot out, so nothing merges two rows: one
record of the laboratory may hold several tests, or several measurements of
one, and each row is a result of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.cli.feed.columns import Column, Layout, Values
from services.cli.feed.moments import message_of
from services.cli.feed.noun import Noun
from services.cli.feed.parts import converted_at, lot_columns, lot_of, units_of
from services.cli.feed.units import unit_of
from services.cli.feed.values import IDENTITY, MOMENT, NUMBER, TEXT
from services.kit.errors import Invalid
from services.kit.ids import derived_id

_COLUMNS = (
    *lot_columns(),
    Column(
        "test",
        IDENTITY,
        "What was tested, named the same for every lot",
        "assay",
        required=True,
        synonyms=("test name", "parameter", "analysis", "检验项目", "检测项目"),
    ),
    Column(
        "value",
        NUMBER,
        "The result",
        "99.1",
        required=True,
        synonyms=("result", "检验结果", "结果", "测定值"),
    ),
    Column(
        "unit",
        TEXT,
        "UCUM unit of the result and its limits; its header may say it instead: value (mg/g)",
        "%",
        synonyms=("uom", "单位"),
    ),
    Column(
        "low",
        NUMBER,
        "Lower limit of the specification; empty where there is none",
        "95",
        expected=True,
        synonyms=("LSL", "lower limit", "specification low", "下限", "标准下限"),
    ),
    Column(
        "high",
        NUMBER,
        "Upper limit of the specification; empty where there is none",
        "105",
        expected=True,
        synonyms=("USL", "upper limit", "specification high", "上限", "标准上限"),
    ),
    Column(
        "at",
        MOMENT,
        "When it was tested",
        "2026-03-10T09:30:00+08:00",
        required=True,
        synonyms=("time", "date", "tested", "检验日期", "检验时间", "日期", "时间"),
    ),
    Column(
        "record",
        TEXT,
        "Number of the record at the laboratory; it may stand on several rows",
        "QC-2026-118",
        synonyms=("sample", "sample id", "sample number", "检验单号", "样品编号"),
    ),
    Column("source", TEXT, "Which system recorded it; you, where it is not given", "plant-1/lims"),
)


def _message(values: Values, layout: Layout) -> events.TestResultRecorded:
    told, unit = units_of(values, layout, "value", "unit")
    made = events.TestResultRecorded(
        lot=lot_of(values),
        test=values["test"],
        value=converted_at(values["value"], told, unit, "unit"),
        unit=unit,
        low=_limit("low", values, layout, told, unit),
        high=_limit("high", values, layout, told, unit),
        at=message_of(values["at"]),
        source=values.get("source") or "",
    )
    own = derived_id(
        "feed-result", values.get("record") or "", made.SerializeToString(deterministic=True).hex()
    )
    made.record = f"{values['record']}#{own[:8]}" if values.get("record") else own
    return made


def _limit(name: str, values: Values, layout: Layout, told: str, unit: str) -> float | None:
    """A limit in the unit of the result; it has the unit of its own header, else that of the result."""
    limit = values.get(name)
    if limit is None:
        return None
    own = layout.units.get(name) or layout.mapping.file_units.get(name)
    try:
        return converted_at(limit, unit_of(own) if own else told, unit, name)
    except Invalid as error:
        raise Invalid(error.reason, error.description, name) from None


def _request(id: str, _: str, results: Sequence[events.TestResultRecorded]) -> api.RecordTestResultsRequest:
    return api.RecordTestResultsRequest(request_id=id, results=results)


RESULTS = Noun(
    name="results",
    tells="What the laboratory measured on which lot.",
    columns=_COLUMNS,
    message=_message,
    request=_request,
    method=lambda session, _: session.production.RecordTestResults,
)
