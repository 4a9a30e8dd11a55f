"""Stored states of alerting."""

from __future__ import annotations

from services.alerting.domain.alerts import Alert, evolve
from services.alerting.domain.matters import Matter
from services.alerting.domain.triggers import Run, Trigger
from services.kit.store.kinds import Kind

ALERTS: Kind[Alert] = Kind("alert", Alert, ("open", "over", "kind", "at", "lot", "run"), evolve=evolve)
TRIGGERS: Kind[Trigger] = Kind("trigger", Trigger, ("lot",))
RUNS: Kind[Run] = Kind("run", Run, ("lot",))
MATTERS: Kind[Matter] = Kind("matter", Matter)
KINDS = (ALERTS, TRIGGERS, RUNS, MATTERS)
