"""What stands beside lots and corrective actions, brought back from their own events.

The profile of a completed lot is due, and a changed limit is in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.recovery import Regain
from services.kit.store.kinds import Kind
from services.kit.work import Work, moment_text
from services.production.domain import limits
from services.production.views import CAPAS, LIMITS, LOTS, PROFILE_STEP


def of_lot(work: Work, event: Event) -> None:
    if isinstance(event.message, events.LotCompleted):
        work.due(PROFILE_STEP, event.subject, work.now)


def of_action(work: Work, event: Event) -> None:
    told = event.message
    if isinstance(told, events.ProcessLimitChanged):
        changed = limits.change(work.get(LIMITS, told.product), told, moment_text(event.time))
        work.put(LIMITS, told.product, changed)


REGAIN: Mapping[Kind[Any], Regain] = {LOTS: of_lot, CAPAS: of_action}
