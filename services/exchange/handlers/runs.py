"""The run of the evidence loop that a study is in: the exchange acts when it is opened."""

from __future__ import annotations

from typing import cast

from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.views import RUNS, StudyRun
from services.kit.envelope import Event
from services.kit.work import Work

#: The step that opens jobs of a study and computes them.
JOB_STEP = "job"
#: The step that ends a study whose time is over.
EXPIRY_STEP = "expiry"
#: The step that has contributions valued, and meters them.
VALUATION_STEP = "valuation"


def on_run_opened(work: Work, event: Event) -> None:
    opened = cast(loops.EvidenceRunOpened, event.message)
    known = work.get(RUNS, opened.study)
    if known is not None and known.run == opened.run:
        return
    work.put(RUNS, opened.study, StudyRun(opened.study, opened.run))
    work.due(JOB_STEP, opened.study, work.now)
