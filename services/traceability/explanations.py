"""A person explains a dispense that names no patient; the run may be sealed then."""

from __future__ import annotations

from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from services.kit.errors import Rejected, Unknown
from services.kit.words import check_words
from services.kit.work import Work
from services.traceability import journal
from services.traceability.domain.entries import UNATTRIBUTED, entry_id
from services.traceability.outside import Outside
from services.traceability.views import ENTRIES, RUNS


def explain(
    outside: Outside, work: Work, request: api.ExplainUnattributedRequest
) -> api.ExplainUnattributedResponse:
    """Invalid, Unknown or Rejected says why it cannot be explained; a second time changes nothing."""
    for field in ("reason", "meaning"):
        check_words(getattr(request, field), field)
    run = work.get(RUNS, request.run)
    if run is None:
        said = f"no exposure run {request.run!r} is known here; `pharmaloop run list` lists the runs"
        raise Unknown("UNKNOWN_RUN", said, "run")
    entry = work.get(ENTRIES, entry_id(run.run, request.dispense, UNATTRIBUTED))
    if entry is None or not entry.open:
        said = "the run has no such dispense without a patient; ListUnattributed shows what there is"
        raise Unknown("NOT_UNATTRIBUTED", said, "dispense")
    if entry.explained:
        return api.ExplainUnattributedResponse()
    if run.over:
        raise Rejected("RUN_OVER", f"the run is {run.phase}: nothing joins it any more", "run")
    told = events.UnattributedExplained(
        run=run.run,
        dispense=request.dispense,
        reason=request.reason,
        actor=work.cause.actor,
        meaning=request.meaning,
    )
    journal.explain(work, outside, run, told)
    return api.ExplainUnattributedResponse()
