"""What is stored, as it is answered."""

from __future__ import annotations

from datetime import datetime

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services import sayings
from services.kit.ids import LotParts, product_of
from services.kit.rpc.status import timestamp
from services.production.domain.lists import CapaRow, DecisionRow, DeviationRow, Happened, ResultRow
from services.production.domain.record import Deviation, Investigation, Lot
from services.production.domain.transfer import parts_of
from services.production.domain.transfer_rows import Moment, TransferRow

LOT_STATES = {
    "started": api.LOT_STATE_STARTED,
    "completed": api.LOT_STATE_COMPLETED,
    "held": api.LOT_STATE_HELD,
    "released": api.LOT_STATE_RELEASED,
    "rejected": api.LOT_STATE_REJECTED,
}
#: Those that somebody, or a rule, decided on.
DECIDED_STATES = (api.LOT_STATE_HELD, api.LOT_STATE_RELEASED, api.LOT_STATE_REJECTED)
DEVIATION_STATES = {
    "open": api.DEVIATION_STATE_OPEN,
    "confirmed": api.DEVIATION_STATE_CONFIRMED,
    "rejected": api.DEVIATION_STATE_REJECTED,
    "under_investigation": api.DEVIATION_STATE_UNDER_INVESTIGATION,
    "capa_required": api.DEVIATION_STATE_CAPA_REQUIRED,
    "closed": api.DEVIATION_STATE_CLOSED,
}
CAPA_STATES = {
    "proposed": api.CAPA_STATE_PROPOSED,
    "approved": api.CAPA_STATE_APPROVED,
    "effective": api.CAPA_STATE_EFFECTIVE,
    "closed": api.CAPA_STATE_CLOSED,
    "refused": api.CAPA_STATE_REFUSED,
}
RESULT_STATES = {
    "recorded": api.RESULT_STATE_RECORDED,
    "investigated": api.RESULT_STATE_INVESTIGATED,
    "void": api.RESULT_STATE_VOID,
    "out_of_specification": api.RESULT_STATE_OUT_OF_SPECIFICATION,
    "out_of_trend": api.RESULT_STATE_OUT_OF_TREND,
}
TRANSFER_STATES = {
    "adapted": api.TRANSFER_STATE_ADAPTED,
    "refused": api.TRANSFER_STATE_REFUSED,
    "proposed": api.TRANSFER_STATE_PROPOSED,
    "in_change_control": api.TRANSFER_STATE_IN_CHANGE_CONTROL,
    "effective": api.TRANSFER_STATE_EFFECTIVE,
    "concluded": api.TRANSFER_STATE_CONCLUDED,
    "ended": api.TRANSFER_STATE_ENDED,
}
_OUTCOMES = {
    "open": events.INVESTIGATION_OUTCOME_UNSPECIFIED,
    "laboratory_error": events.INVESTIGATION_OUTCOME_LABORATORY_ERROR,
    "confirmed": events.INVESTIGATION_OUTCOME_CONFIRMED,
}


def lot(held: Lot, parts: LotParts) -> api.Lot:
    shown = api.Lot(
        lot=held.lot,
        key=common.LotKey(owner=parts.owner, scheme=parts.scheme, item=parts.item, lot=parts.lot),
        product=held.product or product_of(held.lot),
        equipment=held.equipment,
        state=LOT_STATES[held.state],
        reason=held.reason,
        deviations=[deviation(one) for one in held.deviations],
        runs=held.runs,
        investigations=[_investigation(one) for one in held.investigations],
        transfer=held.transfer,
        actor=held.actor,
        meaning=held.meaning,
        reason_sayings=sayings.told(held.sayings),
    )
    if held.started:
        shown.started.CopyFrom(timestamp(datetime.fromisoformat(held.started)))
    if held.completed:
        shown.completed.CopyFrom(timestamp(datetime.fromisoformat(held.completed)))
    return shown


def since(shown: api.Lot, row: DecisionRow) -> None:
    """Say since when a lot is as it is; a row that lags behind the lot says nothing."""
    if LOT_STATES[row.state] == shown.state:
        shown.since.CopyFrom(timestamp(datetime.fromisoformat(row.since)))


def deviation(held: Deviation) -> api.Deviation:
    detected = events.DeviationDetected.FromString(held.detected)
    if not held.detected:
        detected.deviation = held.deviation
    return api.Deviation(
        detected=detected,
        state=DEVIATION_STATES[held.state],
        actor=held.actor,
        reason=held.reason,
        severity=events.Severity.Name(held.severity),
        impact=held.impact,
        capa=held.capa,
        reason_sayings=sayings.told(held.sayings),
        updated=events.DeviationUpdated.FromString(held.updated) if held.updated else None,
    )


def deviation_row(row: DeviationRow) -> api.Deviation:
    """A deviation with its history."""
    shown = deviation(row)
    shown.history.extend(map(_happened, row.history))
    return shown


def _happened(held: Happened) -> api.RecordMoment:
    return api.RecordMoment(
        at=timestamp(datetime.fromisoformat(held.at)),
        event=held.event,
        actor=held.actor,
        statement=held.statement,
        meaning=held.meaning,
        statement_sayings=sayings.told(held.sayings),
    )


def capa(row: CapaRow) -> api.Capa:
    shown = api.Capa(
        proposed=events.CapaProposed.FromString(row.proposed), state=CAPA_STATES[row.state], actor=row.actor
    )
    if row.validated:
        shown.validated.ParseFromString(row.validated)
    if row.filing:
        shown.filing.ParseFromString(row.filing)
    if row.check:
        shown.check.ParseFromString(row.check)
    if row.refused:
        shown.refused.ParseFromString(row.refused)
    shown.history.extend(map(_happened, row.history))
    return shown


def result(row: ResultRow) -> api.TestResult:
    return api.TestResult(
        result=row.result,
        recorded=events.TestResultRecorded.FromString(row.recorded) if row.recorded else None,
        state=RESULT_STATES[row.state],
        investigation=row.investigation,
        rule=row.rule,
        actor=row.actor,
        reason=row.reason,
        rule_saying=common.Saying.FromString(row.rule_saying) if row.rule_saying else None,
    )


def transfer(row: TransferRow) -> api.Transfer:
    set, plant = parts_of(row.transfer)
    newest = row.newest
    shown = api.Transfer(
        transfer=row.transfer,
        run=newest.run,
        set=set,
        version=newest.version,
        plant=plant,
        state=TRANSFER_STATES[row.state],
        at=timestamp(datetime.fromisoformat(row.at)),
        working_version=row.working.version if row.working else 0,
    )
    for field in ("adapted", "refused", "proposed", "decided", "validated", "filing", "outcome", "ended"):
        kept = getattr(newest, field)
        if kept:
            getattr(shown, field).ParseFromString(kept)
    return shown


def moment(held: Moment) -> api.TransferMoment:
    return api.TransferMoment(
        at=timestamp(datetime.fromisoformat(held.at)),
        version=held.version,
        event=held.event,
        actor=held.actor,
        statement=held.statement,
        meaning=held.meaning,
    )


def _investigation(held: Investigation) -> api.Investigation:
    return api.Investigation(
        investigation=held.investigation,
        result=held.result,
        test=held.test,
        rule=held.rule,
        outcome=_OUTCOMES[held.outcome],
        retest=held.retest,
        actor=held.actor,
        reason=held.reason,
    )
