"""Composition root of alerting."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from pharmaloop.alerting.v1 import service_pb2_grpc as api_grpc
from services.alerting.api import AlertingApi
from services.alerting.domain.escalation import KINDS as ALERT_KINDS
from services.alerting.domain.escalation import ROLES, TOP, Ladder
from services.alerting.endings import Desk
from services.alerting.handlers import commands_of, events_of
from services.alerting.steps import steps
from services.alerting.views import KINDS, MATTERS, RUNS, TRIGGERS
from services.kit.app import App, ServiceSpec, main
from services.kit.runners.reactor import Reactor
from services.kit.settings import ServiceSettings


class AlertingSettings(ServiceSettings):
    """How long an alert waits for each role, in minutes of platform time, and which roles these are."""

    escalate_critical_minutes: float = Field(default=5.0, gt=0, description="for a critical alert")
    escalate_major_minutes: float = Field(default=15.0, gt=0, description="for a major one")
    escalate_minor_minutes: float = Field(default=60.0, gt=0, description="for a minor one")
    escalate_kind_minutes: dict[str, float] = Field(
        default_factory=dict, description="for a kind of alert, whatever its severity, JSON"
    )
    escalate_roles: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: dict(ROLES), description="who is asked about a kind of alert, in order, JSON"
    )

    @field_validator("escalate_kind_minutes", "escalate_roles")
    @classmethod
    def _of_known_kinds(cls, given: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(given) - set(ALERT_KINDS))
        if unknown:
            raise ValueError(f"there is no kind of alert {unknown[0]!r}; there are {', '.join(ALERT_KINDS)}")
        return given

    @field_validator("escalate_kind_minutes")
    @classmethod
    def _minutes(cls, given: dict[str, float]) -> dict[str, float]:
        if not all(0 < minutes < float("inf") for minutes in given.values()):
            raise ValueError("give minutes above 0")
        return given

    @field_validator("escalate_roles")
    @classmethod
    def _at_most(cls, given: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not all(1 <= len(roles) <= TOP and all(roles) for roles in given.values()):
            raise ValueError(f"name 1 to {TOP} roles of a kind")
        return given


def ladder_of(settings: Any) -> Ladder:
    """Whom alerts ask, and after how long, as the settings say."""
    return Ladder(
        critical=settings.escalate_critical_minutes,
        major=settings.escalate_major_minutes,
        minor=settings.escalate_minor_minutes,
        of_kind=settings.escalate_kind_minutes,
        roles=settings.escalate_roles,
    )


def _servicer(app: App, server: Any) -> None:
    api_grpc.add_AlertingServiceServicer_to_server(AlertingApi(app), server)


def make_spec() -> ServiceSpec:
    """The service; its handlers are told the settings before any of them is called."""
    desk = Desk()

    def connect(app: App) -> None:
        desk.ladder = ladder_of(app.settings)

    return ServiceSpec(
        name="alerting",
        rpc_names=("pharmaloop.alerting.v1.AlertingService",),
        connect=connect,
        servicer=_servicer,
        kinds=KINDS,
        reactors=(Reactor("alerts", events_of(desk), views=(TRIGGERS, RUNS, MATTERS)),),
        commands=commands_of(desk),
        steps=steps,
        settings=AlertingSettings,
    )


SPEC = make_spec()

if __name__ == "__main__":
    main(SPEC)
