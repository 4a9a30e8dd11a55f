"""A service of the transfer or the evidence loop as a process that a test kills in the middle of its work.

`python -m tests.reliability.part_child plant|exchange|agent`. The plant's twin
answers at once, a hospital's cohort is made up, and the lease of a dead
process's step is over after seconds; all else is the product's own.
With `PHARMALOOP_TEST_ROUND=2` the exchange or the agent dies, without clean-up,
in the second round of a job.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any
from unittest import mock

from services.kit.app import main
from services.kit.runners import step

ROUND = "PHARMALOOP_TEST_ROUND"


def _die_in(round_: int) -> None:
    if str(round_) == os.environ.get(ROUND, ""):
        os.kill(os.getpid(), signal.SIGKILL)


def _plant() -> None:
    from services.production import main as production
    from services.production import steps
    from tests.reliability.sim.twin import twin

    mock.patch.object(steps, "Twin", twin).start()
    main(production.SPEC)


def _exchange() -> None:
    from services.exchange import main as exchange
    from services.exchange.coordinator.conductor import Conductor

    attempt = Conductor._attempt

    async def attempted(conductor: Conductor, ask: Any, number: int) -> Any:
        total = await attempt(conductor, ask, number)
        _die_in(ask.round)
        return total

    mock.patch.object(Conductor, "_attempt", attempted).start()
    main(exchange.SPEC)


def _agent() -> None:
    from services.exchange.site.main import make_spec
    from services.exchange.site.session import Session
    from tests.unit.exchange.hospitals import Hospital

    answer = Session.answer

    async def answered(session: Session, task: Any) -> Any:
        masked = await answer(session, task)
        _die_in(task.round)
        return masked

    mock.patch.object(Session, "answer", answered).start()
    main(make_spec(lambda app: Hospital(app.site)))


if __name__ == "__main__":
    step._LEASE_SECONDS, step._RENEW_SECONDS = 3.0, 1.0
    {"plant": _plant, "exchange": _exchange, "agent": _agent}[sys.argv.pop(1)]()
