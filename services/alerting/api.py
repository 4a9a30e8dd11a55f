"""The gRPC face of alerting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, cast

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
from pharmaloop.common.v1 import types_pb2 as common
from services.alerting.domain.alerts import Alert
from services.alerting.views import ALERTS
from services.kit.contracts import event_type
from services.kit.errors import Invalid, Unknown
from services.kit.rpc.api import Api
from services.kit.rpc.changes import as_they_stand, of_types
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp

_ALERT_EVENTS = [
    event_type(event)
    for event in (
        events.AlertRaised,
        events.AlertRepeated,
        events.AlertEscalated,
        events.AlertAcknowledged,
        events.AlertSeverityRaised,
        events.AlertResolved,
    )
]
_SNAPSHOT_PAGE = 200
#: What is filtered by for the alerts of a state.
_STATES: Mapping[int, Mapping[str, bool]] = {
    api.ALERT_STATE_UNSPECIFIED: {},
    api.ALERT_STATE_OPEN: {"open": True},
    api.ALERT_STATE_TAKEN: {"open": False, "over": False},
    api.ALERT_STATE_RESOLVED: {"over": True},
}


class AlertingApi(Api, api_grpc.AlertingServiceServicer):
    async def ListAlerts(self, request: api.ListAlertsRequest, context: Any) -> api.ListAlertsResponse:
        filters = {
            **_STATES[_state(request)],
            "kind": request.kind or None,
            "run": request.run,
            "lot": request.lot,
        }
        await self.reach(request)
        page = await self.page(request, ALERTS, filters, "at", descending=True)
        return api.ListAlertsResponse(
            alerts=[shown(item.state) for item in page.items], next_page_token=page.token
        )

    async def WatchAlerts(
        self, request: api.WatchAlertsRequest, context: Any
    ) -> AsyncIterator[api.WatchAlertsResponse]:
        watching = self.app.watching
        topics = watching.topics(_ALERT_EVENTS)
        following = watching.follow(topics, request.after, of_types(_ALERT_EVENTS), actor=caller().actor)
        first = None if request.after.positions else self._open
        async with aclosing(as_they_stand(following, first, self._stored)) as standing:
            async for alert, position, lag in standing:
                yield api.WatchAlertsResponse(alert=alert, position=position, lag=lag)

    async def _open(self) -> AsyncIterator[api.Alert]:
        """The open alerts as they stand, the oldest first."""
        token = ""
        while True:
            page = await self.app.store.page(ALERTS, {"open": True}, "at", False, token, _SNAPSHOT_PAGE)
            for item in page.items:
                yield shown(item.state)
            if not (token := page.token):
                return

    async def _stored(self, alert: str) -> api.Alert | None:
        found = await self.app.store.get(ALERTS, alert)
        return shown(found.state) if found else None

    async def GetAlert(self, request: api.GetAlertRequest, context: Any) -> api.GetAlertResponse:
        await self.reach(request)
        stored = await self.app.store.get(ALERTS, request.alert)
        if stored is None:
            said = f"there is no alert {request.alert!r}; ListAlerts shows the alerts"
            raise Unknown("UNKNOWN_ALERT", said, "alert")
        return api.GetAlertResponse(alert=shown(stored.state))

    async def AcknowledgeAlert(
        self, request: api.AcknowledgeAlertRequest, context: Any
    ) -> api.AcknowledgeAlertResponse:
        return await self.decide("AcknowledgeAlert", request, api.AcknowledgeAlertResponse)


def _state(request: api.ListAlertsRequest) -> api.AlertState:
    """The state that is asked for; unspecified for all."""
    if request.state not in _STATES:
        raise Invalid("UNKNOWN_STATE", "ask for open, taken or resolved alerts, or for all", "state")
    if request.only_open and request.state not in (api.ALERT_STATE_UNSPECIFIED, api.ALERT_STATE_OPEN):
        said = "only_open and the state of taken or resolved alerts contradict each other; leave one out"
        raise Invalid("CONTRADICTION", said, "state")
    return api.ALERT_STATE_OPEN if request.only_open else request.state


def state_of(alert: Alert) -> api.AlertState:
    """Whether somebody has to look."""
    if alert.over:
        return api.ALERT_STATE_RESOLVED
    return api.ALERT_STATE_OPEN if alert.open else api.ALERT_STATE_TAKEN


def shown(state: Alert) -> api.Alert:
    """An alert as the contract says it."""
    alert = api.Alert(
        raised=events.AlertRaised.FromString(state.raised),
        actor=state.actor,
        note=state.note,
        meaning=state.meaning,
        count=state.count,
        latest=timestamp(datetime.fromisoformat(state.at)),
        latest_text=state.text,
        latest_sayings=[common.Saying.FromString(one) for one in state.sayings],
        level=state.level,
        asked=state.asked,
        severity=cast("events.AlertSeverity", state.severity),
        state=state_of(state),
        escalations=[
            events.AlertEscalated(
                alert=state.alert,
                level=step.level,
                to=step.to,
                at=timestamp(datetime.fromisoformat(step.at)),
            )
            for step in state.escalations
        ],
    )
    if state.acknowledged:
        alert.acknowledged.CopyFrom(timestamp(datetime.fromisoformat(state.acknowledged)))
    if state.over:
        alert.resolved.MergeFromString(state.ended)
    if state.next_escalation:
        alert.next_escalation.CopyFrom(timestamp(datetime.fromisoformat(state.next_escalation)))
    return alert
