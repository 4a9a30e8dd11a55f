"""What the exchange does with events and commands, on one page."""

from __future__ import annotations

from collections.abc import Mapping

from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.handlers import commands, lists, runs
from services.kit.runners.decider import Command
from services.kit.runners.reactor import Events, Rows

EVENTS: Events = {
    loops.EvidenceRunOpened: runs.on_run_opened,
    loops.LoopClosed: runs.on_loop_closed,
}

LISTS: Rows = lists.ROWS_OF

#: The first five are asked by people and sites, the last one by the evaluator; the others are submitted
#: by the steps of this service alone.
COMMANDS: Mapping[str, Command] = {
    "RegisterDataset": commands.register_dataset,
    "RequestStudy": commands.request_study,
    "ApproveStudy": commands.approve_study,
    "RefuseStudy": commands.refuse_study,
    "StopStudy": commands.stop_study,
    "ExpireStudy": commands.expire_study,
    "OpenJob": commands.open_job,
    "FreezeCohort": commands.freeze_cohort,
    "AuditJob": commands.audit_job,
    "EndJob": commands.end_job,
    "PublishInsight": commands.publish_insight,
    "MeterContributions": commands.meter_contributions,
    "RegisterEvaluator": commands.register_evaluator,
}
