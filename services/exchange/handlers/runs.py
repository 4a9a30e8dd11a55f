"""The run of the evidence loop that a study is in: the exchange acts when it is opened, or ended by hand."""

from __future__ import annotations

from typing import cast

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.views import RUNS, STUDIES, StudyRun
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


def on_loop_closed(work: Work, event: Event) -> None:
    """A person ended the run of a study: nothing more is computed, and no answer comes out of it."""
    ended = cast(loops.LoopClosed, event.message)
    by_hand = (loops.RUN_OUTCOME_CANCELLED, loops.RUN_OUTCOME_SUPERSEDED)
    if ended.loop != "evidence" or ended.outcome not in by_hand:
        return
    held = work.get(STUDIES, ended.study)
    if held is None or held.at_rest:
        return
    why = f"its run was ended: {ended.reason}"
    stopped = events.StudyStopped(study=ended.study, actor=ended.actor, reason=why, meaning=ended.meaning)
    work.apply(STUDIES, ended.study, stopped, case=ended.case, run=ended.run)
