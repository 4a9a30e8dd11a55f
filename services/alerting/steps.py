"""The steps: one finds confirmed deviations without a run, one escalates alerts that nobody takes.

Being late itself must not raise an alert: after a pause the confirmation may
be folded before the run that answered it long ago. So the step notes where
the log ends, and judges only once the fold has passed that place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from pharmaloop.alerting.v1 import events_pb2 as events
from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.endings import ESCALATE_STEP
from services.alerting.handlers import NO_RUN_STEP
from services.kit.app import App
from services.kit.bus.protocol import Partition
from services.kit.runners.step import Again, StepFunction
from services.kit.work import Step

RUNNER = "alerting.alerts"
_LOOK_SECONDS = 0.05


def steps(app: App) -> Mapping[str, StepFunction]:
    async def no_run(step: Step) -> Again | None:
        if "cut" not in step.payload:
            return Again(0.0, {"cut": await _cut(app)})
        if not await _passed(app, step.payload["cut"]):
            return Again(_LOOK_SECONDS)
        trigger = production.DeviationConfirmed(deviation=step.key)
        request_id = f"{NO_RUN_STEP}/{step.key}/{step.due}"
        await app.decider.submit("ReportMissingRun", trigger, request_id=request_id, actor="platform")
        return None

    async def escalate(step: Step) -> None:
        over = events.AlertEscalated(alert=step.key, level=int(step.payload["level"]))
        request_id = f"{ESCALATE_STEP}/{step.key}/{step.payload['level']}/{step.due}"
        await app.decider.submit("EscalateAlert", over, request_id=request_id, actor="platform")

    return {NO_RUN_STEP: no_run, ESCALATE_STEP: escalate}


async def _cut(app: App) -> str:
    """Where everything that alerting reads ends now."""
    topics = next(runner.topics for runner in app.runners if runner.name == RUNNER)
    ends = await asyncio.to_thread(app.bus.log().ends, topics)
    return json.dumps([[topic, number, end] for (topic, number), end in sorted(ends.items()) if end])


async def _passed(app: App, cut: str) -> bool:
    at = await app.positions.of(RUNNER)
    return all(at.get(Partition(topic, number), 0) >= end for topic, number, end in json.loads(cut))
