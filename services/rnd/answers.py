"""What is stored, as it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.rpc.status import timestamp
from services.rnd.domain.calibration import TransferOutcome
from services.rnd.domain.candidates import RankingRow
from services.rnd.domain.catalogue import Molecule
from services.rnd.domain.findings import BeliefRow, FindingRow
from services.rnd.domain.insights import InsightView
from services.rnd.domain.parameter_sets.rows import AskedRow, ReleaseRow, VersionRow
from services.rnd.domain.trials import TrialRow
from services.sayings import told

SET_STATES = {
    "draft": api.PARAMETER_SET_STATE_DRAFT,
    "reviewed": api.PARAMETER_SET_STATE_REVIEWED,
    "released": api.PARAMETER_SET_STATE_RELEASED,
    "superseded": api.PARAMETER_SET_STATE_SUPERSEDED,
    "withdrawn": api.PARAMETER_SET_STATE_WITHDRAWN,
}

FINDING_STATES = {
    "waiting": api.FINDING_STATE_WAITING,
    "taken_up": api.FINDING_STATE_TAKEN_UP,
    "declined": api.FINDING_STATE_DECLINED,
}


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
        statement_sayings=told(view.sayings),
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
        withdrawal_meaning=row.withdrawal_meaning,
        reviews=[_asked(one) for one in row.asked],
    )


def trial(row: TrialRow) -> api.VirtualTrial:
    completed = events.TrialCompleted.FromString(row.completed)
    return api.VirtualTrial(completed=completed, at=stamp(row.at))


def outcome(held: TransferOutcome) -> api.TransferOutcome:
    """A lot's outcome with its gaps: to what was predicted, and to what the twin predicted by itself."""
    asked = held.message()
    shown = api.TransferOutcome(
        transfer=asked.transfer, set=asked.set, version=asked.version, lot=asked.lot, at=stamp(held.at)
    )
    for one in asked.outcomes:
        gap = one.actual - one.predicted.value
        shown.gaps.add(
            attribute=one.attribute,
            unit=one.unit,
            predicted=one.predicted,
            calibrated_by=one.calibrated_by,
            actual=one.actual,
            gap=gap,
            gap_before=gap + one.calibrated_by,
        )
    return shown


def finding(row: FindingRow, reason: str, why: Sequence[common.Saying] = ()) -> api.Finding:
    return api.Finding(
        insight=row.insight,
        study=row.study,
        product=row.product,
        statement=row.statement,
        state=FINDING_STATES[row.state],
        reason=reason,
        hypothesis=row.hypothesis,
        at=stamp(row.at),
        actor=row.actor,
        meaning=row.meaning,
        statement_sayings=told(row.sayings),
        reason_sayings=why,
    )


def hypothesis(row: BeliefRow) -> api.Hypothesis:
    latest = events.HypothesisUpdated.FromString(row.updated)
    return api.Hypothesis(latest=latest, insights=row.insights, at=stamp(row.at))


def ranking(row: RankingRow) -> api.CandidateRanking:
    return api.CandidateRanking(ranked=events.CandidatesRanked.FromString(row.ranked), at=stamp(row.at))


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
    return api.RequestedReview(
        reason=row.reason,
        capa=row.capa,
        parameter=row.parameter,
        at=stamp(row.at),
        reason_sayings=told(row.sayings),
    )
