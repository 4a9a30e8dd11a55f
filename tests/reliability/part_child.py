"""A service of the transfer or the evidence loop as a process that a test kills in the middle of its work.

`python -m tests.reliability.part_child plant|exchange|agent|evaluator`. The
plant's twin answers at once, a hospital's cohort is made up, and the lease of a
dead process's step is over after seconds; all else is the product's own.
With `PHARMALOOP_TEST_ROUND=2` the exchange or the agent dies, without clean-up,
in the second round of a job; with `PHARMALOOP_TEST_FIT=2` either of them or the
evaluator in the second round of a coalition's fit.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any
from unittest import mock

from services.kit.app import main
from services.kit.runners import step

ROUND, FIT = "PHARMALOOP_TEST_ROUND", "PHARMALOOP_TEST_FIT"


def _die_in(round_: int, variable: str = ROUND) -> None:
    if str(round_) == os.environ.get(variable, ""):
        os.kill(os.getpid(), signal.SIGKILL)


def _plant() -> None:
    from services.production import main as production
    from services.production import steps
    from tests.reliability import dying_twin
    from tests.unit.production.transfer_story import FakeTwin

    made = steps.Twin(dying_twin.adapt, FakeTwin().advise)
    mock.patch.object(steps, "Twin", return_value=made).start()
    main(production.SPEC)


def _exchange() -> None:
    from services.exchange import main as exchange
    from services.exchange.coordinator.conductor import Conductor
    from services.exchange.coordinator.desk import Desk

    attempt, ask_sites = Conductor._attempt, Desk.ask

    async def attempted(conductor: Conductor, ask: Any, number: int) -> Any:
        total = await attempt(conductor, ask, number)
        _die_in(ask.round)
        return total

    async def asked(desk: Desk, said: Any) -> Any:
        vectors = await ask_sites(desk, said)
        _die_in(said.round, FIT)
        return vectors

    mock.patch.object(Conductor, "_attempt", attempted).start()
    mock.patch.object(Desk, "ask", asked).start()
    main(exchange.SPEC)


def _agent() -> None:
    from services.exchange.site.main import make_spec
    from services.exchange.site.session import Session
    from tests.unit.exchange.hospitals import Hospital

    answer, evaluate = Session.answer, Session.evaluate

    async def answered(session: Session, task: Any) -> Any:
        masked = await answer(session, task)
        _die_in(task.round)
        return masked

    async def evaluated(session: Session, task: Any) -> Any:
        vector = await evaluate(session, task)
        _die_in(task.round, FIT)
        return vector

    mock.patch.object(Session, "answer", answered).start()
    mock.patch.object(Session, "evaluate", evaluated).start()
    main(make_spec(lambda app: Hospital(app.site)))


def _evaluator() -> None:
    from services.exchange.evaluator import main as evaluator
    from services.exchange.evaluator.agent import Evaluator

    ask_sites = Evaluator._asked

    async def asked(made: Evaluator, job: str, ticket: bytes, coalition: Any, ask: Any, *more: Any) -> Any:
        vectors = await ask_sites(made, job, ticket, coalition, ask, *more)
        _die_in(ask.round, FIT)
        return vectors

    mock.patch.object(Evaluator, "_asked", asked).start()
    main(evaluator.SPEC)


if __name__ == "__main__":
    step._LEASE_SECONDS, step._RENEW_SECONDS = 3.0, 1.0
    parts = {"plant": _plant, "exchange": _exchange, "agent": _agent, "evaluator": _evaluator}
    parts[sys.argv.pop(1)]()
