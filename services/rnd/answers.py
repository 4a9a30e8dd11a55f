"""What is stored, as it is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid
from services.kit.rpc.status import timestamp
from services.rnd.domain.catalogue import Molecule
from services.rnd.domain.insights import InsightView
from services.rnd.domain.parameter_sets.rows import AskedRow, ReleaseRow, VersionRow

SET_STATES = {
    "draft": api.PARAMETER_SET_STATE_DRAFT,
    "reviewed": api.PARAMETER_SET_STATE_REVIEWED,
    "released": api.PARAMETER_SET_STATE_RELEASED,
    "superseded": api.PARAMETER_SET_STATE_SUPERSEDED,
    "withdrawn": api.PARAMETER_SET_STATE_WITHDRAWN,
}


def name(states: dict[str, Any], value: int) -> str:
    """The stored name of a state; empty for all of them."""
    if not value:
        return ""
    for known, number in states.items():
        if number == value:
            return known
    raise Invalid("OUT_OF_RANGE", f"{value} is not a state", "state")


def stamp(at: str) -> Timestamp | None:
    """A stored moment; None for one that has not come."""
    return timestamp(datetime.fromisoformat(at)) if at else None


def insight(view: InsightView) -> api.Insight:
    return api.Insight(
        insight=view.insight,
        product=view.product,
        parameter=view.parameter,
        statement=view.statement,
        run=view.run,
        lot=view.lot,
        at=stamp(view.at),
    )


def molecule(held: Molecule) -> events.MoleculeRegistered:
    """A molecule without its sealed structure."""
    shown = held.message()
    shown.ClearField("structure")
    return shown


def version(row: VersionRow) -> api.ParameterSetVersion:
    return api.ParameterSetVersion(
        set=row.set,
        version=row.version,
        product=row.product,
        state=SET_STATES[row.state],
        trial=row.trial,
        content_hash=bytes.fromhex(row.content_hash),
        changes=row.changes,
        drafter=row.drafter,
        drafted=stamp(row.drafted),
        reviewer=row.reviewer,
        review_meaning=row.review_meaning,
        reviewed=stamp(row.reviewed),
        releases=[_release(one) for one in row.releases],
        withdrawn_by=row.withdrawn_by,
        withdrawal_reason=row.withdrawal_reason,
        withdrawn=stamp(row.withdrawn),
        reviews=[_asked(one) for one in row.asked],
    )


def _release(row: ReleaseRow) -> api.PlantRelease:
    return api.PlantRelease(
        plant=row.plant,
        payload_hash=bytes.fromhex(row.payload_hash),
        actor=row.actor,
        meaning=row.meaning,
        at=stamp(row.at),
        superseded_by=row.superseded_by,
    )


def _asked(row: AskedRow) -> api.RequestedReview:
    return api.RequestedReview(reason=row.reason, capa=row.capa, parameter=row.parameter, at=stamp(row.at))
