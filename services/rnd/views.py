"""Stored states of rnd."""

from __future__ import annotations

from services.kit.store.kinds import Kind
from services.rnd.domain import insights

RECORDS: Kind[insights.InsightRecord] = Kind("insight_record", insights.InsightRecord, evolve=insights.evolve)
INSIGHTS: Kind[insights.InsightView] = Kind("insight", insights.InsightView, ("product", "parameter", "at"))
KINDS = (RECORDS, INSIGHTS)
