"""Alerting on real engines: alerts are raised, listed and taken; a trigger without a run is noticed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.alerting.v1 import service_pb2 as api
from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.main import SPEC
from services.alerting.steps import RUNNER
from services.kit.app import App
from services.kit.clock import ensure_clock
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.testing.service import running_service

DEVIATION, NO_RUN = events.ALERT_KIND_DEVIATION, events.ALERT_KIND_NO_RUN


class Others:
    """Plays production and loops, for one lot."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.lot = f"maker/gtin/A/{uuid.uuid4().hex}"

    async def say(self, *messages: Message) -> common.PositionVector:
        """Publish, each message as an aggregate of its own; answers where the last stands."""
        records = []
        for message in messages:
            topic, key = contract().route(message)
            id, now = str(uuid.uuid4()), self._app.clock.now()
            event = Event(id, "/svc/other/test", id, now, message, key=key, seq=1, case=self.lot)
            records.append(to_record(event, topic))
        place = (await asyncio.wrap_future(self._app.producer.publish(records)))[-1]
        told = common.LogPosition(topic=place.topic, partition=place.partition, offset=place.offset)
        return common.PositionVector(positions=[told])

    def detected(self, deviation: str) -> Message:
        return production.DeviationDetected(
            deviation=deviation,
            lot=self.lot,
            equipment="plant-1/dryer-1",
            tag="DryerTemp",
            magnitude=6.3,
            limit=4,
        )

    def critical(self, deviation: str) -> Message:
        severity = production.SEVERITY_CRITICAL
        return production.DeviationDetected(
            deviation=deviation, lot=self.lot, tag="DryerTemp", proposed_severity=severity
        )

    def confirmed(self, deviation: str) -> Message:
        return production.DeviationConfirmed(deviation=deviation, lot=self.lot)

    def classified(self, deviation: str) -> Message:
        return production.DeviationClassified(
            deviation=deviation, lot=self.lot, severity=production.SEVERITY_CRITICAL, impact="i", actor="qa-1"
        )

    def rejected(self, deviation: str) -> Message:
        return production.DeviationRejected(deviation=deviation, lot=self.lot, actor="qa-2", reason="probe")

    def opened(self, deviation: str) -> Message:
        return loops.SafetyRunOpened(run=str(uuid.uuid4()), case=self.lot, lot=self.lot, deviation=deviation)


async def _alerts(
    stub: api_grpc.AlertingServiceAsyncStub, lot: str, done: Callable[[list[api.Alert]], bool]
) -> list[api.Alert]:
    """The lot's alerts, newest first, once they are as wanted."""
    async with asyncio.timeout(60):
        while True:
            answer = await stub.ListAlerts(api.ListAlertsRequest(page_size=1000), timeout=10)
            alerts = [alert for alert in answer.alerts if alert.raised.lot == lot]
            if done(alerts):
                return alerts
            await asyncio.sleep(0.05)


async def test_an_alert_is_raised_listed_and_taken_by_one_person(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        stub: api_grpc.AlertingServiceAsyncStub = api_grpc.AlertingServiceStub(channel)
        others = Others(app)
        stalled = loops.LoopStalled(run="r", case=others.lot, stage="seal", waiting_for="a site")
        await others.say(others.detected(f"d-{others.lot}"))
        await _alerts(stub, others.lot, lambda alerts: len(alerts) == 1)
        await others.say(stalled)
        alerts = await _alerts(stub, others.lot, lambda alerts: len(alerts) == 2)
        assert [alert.raised.kind for alert in alerts] == [events.ALERT_KIND_LOOP_STALLED, DEVIATION]
        assert alerts[0].raised.at.ToDatetime() > alerts[1].raised.at.ToDatetime()
        await _take(stub, alerts[1].raised.alert)


async def _take(stub: api_grpc.AlertingServiceAsyncStub, alert: str) -> None:
    async def take(actor: str, which: str = alert) -> common.Receipt:
        request = api.AcknowledgeAlertRequest(request_id=str(uuid.uuid4()), alert=which, note="on it")
        return (await stub.AcknowledgeAlert(request, timeout=10, metadata=metadata(actor))).receipt

    assert len((await take("qa-1")).event_ids) == 1
    assert not (await take("qa-1")).event_ids
    for which, code, reason in (
        (alert, grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_ACKNOWLEDGED"),
        ("nowhere", grpc.StatusCode.NOT_FOUND, "UNKNOWN_ALERT"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await take("qa-2", which)
        assert (refused.value.code(), *reason_of(refused.value)) == (code, reason, "alert")
    request = api.ListAlertsRequest(kind=DEVIATION, page_size=1000)
    taken = {item.raised.alert: item for item in (await stub.ListAlerts(request, timeout=10)).alerts}
    assert (taken[alert].actor, taken[alert].note) == ("qa-1", "on it")
    assert taken[alert].HasField("acknowledged")
    request.only_open = True
    left = (await stub.ListAlerts(request, timeout=10)).alerts
    assert alert not in {item.raised.alert for item in left}


async def test_a_confirmed_deviation_without_a_run_is_noticed_and_one_with_a_run_is_not(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    ensure_clock(tmp_path, 3600)  # half an hour in half a second
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        stub: api_grpc.AlertingServiceAsyncStub = api_grpc.AlertingServiceStub(channel)
        missed, met = Others(app), Others(app)
        await met.say(met.opened(f"d-{met.lot}"))
        await met.say(met.confirmed(f"d-{met.lot}"))
        await missed.say(missed.confirmed(f"d-{missed.lot}"))
        alerts = await _alerts(stub, missed.lot, bool)
        assert [alert.raised.kind for alert in alerts] == [NO_RUN]
        await asyncio.sleep(0.5)
        assert not await _alerts(stub, met.lot, lambda alerts: True)


async def test_a_service_that_was_away_does_not_blame_the_loop(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    ensure_clock(tmp_path, 36_000)
    database = f"t{uuid.uuid4().hex[:12]}"
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (app, _):
        others = Others(app)
    async with running_service(SPEC, backbone, mongo, tmp_path, database=f"{database}x") as (app, _):
        # Said while the first service is away, and much longer ago than its patience.
        say = Others(app)
        say.lot = others.lot
        await say.say(say.confirmed(f"d-{say.lot}"))
        last = await say.say(say.opened(f"d-{say.lot}"))
        await asyncio.sleep(0.5)
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (_, channel):
        stub: api_grpc.AlertingServiceAsyncStub = api_grpc.AlertingServiceStub(channel)
        await stub.ListAlerts(api.ListAlertsRequest(min_position=last), timeout=10)
        await asyncio.sleep(0.5)
        assert not await _alerts(stub, others.lot, lambda alerts: True)


async def test_an_alert_is_escalated_over_a_restart_until_somebody_takes_it(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    ensure_clock(tmp_path, 60)  # five minutes in five seconds
    database = f"t{uuid.uuid4().hex[:12]}"
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (app, channel):
        stub: api_grpc.AlertingServiceAsyncStub = api_grpc.AlertingServiceStub(channel)
        others = Others(app)
        await others.say(others.critical(f"d-{others.lot}"))
        (raised,) = await _alerts(stub, others.lot, bool)
        assert (raised.level, raised.asked) == (1, "quality-engineer")
        assert raised.next_escalation.seconds - raised.raised.at.seconds == 300
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (_, channel):
        stub = api_grpc.AlertingServiceStub(channel)
        (risen,) = await _alerts(stub, others.lot, lambda alerts: alerts[0].level > 1)
        assert [(one.level, one.to) for one in risen.escalations] == [(2, "quality-head")]
        assert risen.escalations[0].at.seconds >= raised.next_escalation.seconds
        request = api.AcknowledgeAlertRequest(request_id=str(uuid.uuid4()), alert=raised.raised.alert)
        await stub.AcknowledgeAlert(request, timeout=10, metadata=metadata("qa-1"))
        await asyncio.sleep(6)
        taken = await stub.GetAlert(api.GetAlertRequest(alert=raised.raised.alert), timeout=10)
        assert (taken.alert.level, taken.alert.HasField("next_escalation")) == (2, False)
        of_lot = api.ListAlertsRequest(lot=others.lot, state=api.ALERT_STATE_TAKEN)
        assert [one.raised.alert for one in (await stub.ListAlerts(of_lot, timeout=10)).alerts] == [
            raised.raised.alert
        ]
        of_lot.state = api.ALERT_STATE_OPEN
        assert not (await stub.ListAlerts(of_lot, timeout=10)).alerts
        for asked, code in (
            (api.ListAlertsRequest(only_open=True, state=api.ALERT_STATE_TAKEN), "CONTRADICTION"),
            (api.ListAlertsRequest(state=9), "UNKNOWN_STATE"),  # type: ignore[arg-type]
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ListAlerts(asked, timeout=10)
            assert reason_of(refused.value) == (code, "state")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetAlert(api.GetAlertRequest(alert="nowhere"), timeout=10)
        assert reason_of(refused.value) == ("UNKNOWN_ALERT", "alert")


async def test_an_alert_ends_with_its_matter_over_a_restart_and_leaves_the_open_list(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    ensure_clock(tmp_path, 60)
    database = f"t{uuid.uuid4().hex[:12]}"
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (app, channel):
        stub: api_grpc.AlertingServiceAsyncStub = api_grpc.AlertingServiceStub(channel)
        others = Others(app)
        first, second = f"d-1-{others.lot}", f"d-2-{others.lot}"
        # The end of the second is told before it begins: it is remembered.
        await others.say(others.rejected(second))
        await others.say(others.detected(first))
        await _alerts(stub, others.lot, bool)
        await others.say(others.detected(second))
        (raised,) = await _alerts(stub, others.lot, lambda alerts: alerts[0].count == 2)
        assert (raised.state, raised.severity) == (api.ALERT_STATE_OPEN, events.ALERT_SEVERITY_MINOR)
        last = await others.say(others.classified(first))
    async with running_service(SPEC, backbone, mongo, tmp_path, database=database) as (app, channel):
        stub, others._app = api_grpc.AlertingServiceStub(channel), app
        asked = api.GetAlertRequest(alert=raised.raised.alert, min_position=last)
        worse = (await stub.GetAlert(asked, timeout=30)).alert
        assert worse.severity == events.ALERT_SEVERITY_CRITICAL
        assert worse.next_escalation.seconds <= raised.next_escalation.seconds
        stream = stub.WatchAlerts(api.WatchAlertsRequest(), timeout=60)
        await others.say(others.rejected(first))
        async for told in stream:
            if told.alert.raised.lot == others.lot and told.alert.state == api.ALERT_STATE_RESOLVED:
                break
        assert (told.alert.resolved.end, told.alert.resolved.actor) == (
            events.ALERT_END_DEVIATION_REJECTED,
            "qa-2",
        )
        assert not told.alert.HasField("next_escalation")
        level = told.alert.level
        for state, listed in (
            (api.ALERT_STATE_OPEN, 0),
            (api.ALERT_STATE_TAKEN, 0),
            (api.ALERT_STATE_RESOLVED, 1),
            (api.ALERT_STATE_UNSPECIFIED, 1),
        ):
            of_lot = api.ListAlertsRequest(lot=others.lot, state=state)
            assert len((await stub.ListAlerts(of_lot, timeout=10)).alerts) == listed
        request = api.AcknowledgeAlertRequest(request_id=str(uuid.uuid4()), alert=raised.raised.alert)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.AcknowledgeAlert(request, timeout=10, metadata=metadata("qa-1"))
        assert reason_of(refused.value) == ("ALREADY_RESOLVED", "alert")
        await _rebuilt(app)  # longer than the clock of a critical one: nobody is asked any more
        await asyncio.sleep(6)
        alert = (await stub.GetAlert(api.GetAlertRequest(alert=raised.raised.alert), timeout=10)).alert
        assert (alert.level, alert.resolved) == (level, told.alert.resolved)
        # What the views made anew remember ends an alert as before.
        third = f"d-3-{others.lot}"
        await others.say(others.rejected(third))
        await others.say(others.detected(third))
        alerts = await _alerts(stub, others.lot, lambda alerts: len(alerts) == 2)
        alerts = await _alerts(
            stub,
            others.lot,
            lambda alerts: all(one.state == api.ALERT_STATE_RESOLVED for one in alerts),
        )
        assert len(alerts) == 2


async def _rebuilt(app: App) -> None:
    """The views of the service are made anew from the log."""
    before = (await app.makings.progress(RUNNER)).live
    await app.makings.rebuild(RUNNER, "operator")
    async with asyncio.timeout(60):
        while True:
            now = await app.makings.progress(RUNNER)
            if now.live > before and not now.building:
                return
            await asyncio.sleep(0.1)
