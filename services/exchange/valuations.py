"""The step `valuation`: after the answer, what each site contributed is valued, and then metered.

The answer does not wait for it. What is to be metered is stored with the
answer; a process that dies in between has lost the sites' sessions, and the
next one meters without shares.
"""

from __future__ import annotations

from collections.abc import Sequence

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.conductor import Conductor
from services.exchange.coordinator.desk import Desk, Values
from services.exchange.domain.contribution import metered
from services.exchange.valuing import COORDINATOR, DIGITS
from services.exchange.views import METERS
from services.kit.app import App
from services.kit.log import get_logger
from services.kit.work import Step
from services.refusals import Refusal

_log = get_logger("exchange.valuations")


class Valuations:
    """The answered jobs of this process that wait for their valuation, and the step that sees to it.

    `join_seconds` an evaluator that is not connected is waited for, `seconds` one that is.
    """

    def __init__(self, app: App, desk: Desk, join_seconds: float, seconds: float) -> None:
        self._app, self._desk = app, desk
        self._join_seconds, self._seconds = join_seconds, seconds
        self._answered: dict[str, Conductor] = {}

    def keep(self, conductor: Conductor) -> None:
        """The job is about to be answered; its sites keep their cohorts until it is valued."""
        self._answered[conductor.opened.study] = conductor

    def drop(self, conductor: Conductor) -> None:
        """It was not answered after all."""
        self._answered.pop(conductor.opened.study, None)

    async def step(self, step: Step) -> None:
        """Value and meter one study."""
        conductor = self._answered.pop(step.key, None)
        try:
            held = await self._app.store.get(METERS, step.key)
            if held is None:
                return
            meters = [events.ContributionMetered.FromString(one) for one in held.state.meters]
            said = await self._values(conductor)
            answered = api.AnsweredJob(contributions=_metered(conductor, meters, said))
            await self._app.decider.submit(
                "MeterContributions", answered, request_id=f"meter/{meters[0].job}", actor="platform"
            )
        finally:
            if conductor is not None:
                conductor.over()

    async def _values(self, conductor: Conductor | None) -> Values:
        if conductor is None:
            return Values(not_valued="COORDINATOR_RESTARTED")
        study = conductor.study
        return await self._desk.value(
            conductor.room,
            conductor.sites,
            (study.evaluator, study.evaluator_key),
            self._join_seconds,
            self._seconds,
        )


def _metered(
    conductor: Conductor | None, meters: Sequence[events.ContributionMetered], said: Values
) -> list[events.ContributionMetered]:
    if conductor is None or said.not_valued:
        return metered.without_shares(meters, said.not_valued)
    try:
        return metered.with_shares(meters, said.values, DIGITS, conductor.study.evaluator, COORDINATOR)
    except Refusal as refusal:
        _log.warning("values not usable", job=conductor.opened.job, reason=refusal.reason)
        return metered.without_shares(meters, "VALUES_NOT_USABLE")
