"""The gRPC face of alerting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any, cast

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
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
    for event in (events.AlertRaised, events.AlertRepeated, events.AlertEscalated, events.AlertAcknowledged)
]
_SNAPSHOT_PAGE = 200
_OPEN = {api.ALERT_STATE_OPEN: True, api.ALERT_STATE_TAKEN: False}


class AlertingApi(Api, api_grpc.AlertingServiceServicer):
    async def ListAlerts(self, request: api.ListAlertsRequest, context: Any) -> api.ListAlertsResponse:
        filters = {
            "open": _open(request),
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


def _open(request: api.ListAlertsRequest) -> bool | None:
    """Only those that nobody took, only those that somebody took, or all."""
    if request.state not in (api.ALERT_STATE_UNSPECIFIED, *_OPEN):
        raise Invalid("UNKNOWN_STATE", "ask for open alerts, for taken ones, or for all", "state")
    wanted = _OPEN.get(request.state)
    if request.only_open and wanted is False:
        said = "only_open and the state of taken alerts contradict each other; leave one of them out"
        raise Invalid("CONTRADICTION", said, "state")
    return True if request.only_open else wanted


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
        level=state.level,
        asked=state.asked,
        severity=cast("events.AlertSeverity", state.severity),
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
    if state.next_escalation:
        alert.next_escalation.CopyFrom(timestamp(datetime.fromisoformat(state.next_escalation)))
    return alert
