"""A twin that is killed at its work, in its own child process, once: `PHARMALOOP_TEST_TWIN` is the file that
says that it has been."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.production.twins import Adapted, Place, Refusals
from tests.reliability.sim.twin import adapt as answer

TWIN = "PHARMALOOP_TEST_TWIN"


def adapt(content: sets.ParameterSetContent, place: Place, seed: int) -> Adapted | Refusals:
    """What the simulated twin answers, where it lives to do so."""
    told = os.environ.get(TWIN, "")
    if told and not Path(told).exists():
        Path(told).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(content, place, seed)
