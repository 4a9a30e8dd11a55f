"""The health-hazard evaluation of a run: how dangerous it is, and what patients are told.

Until a person has signed it nobody is told and nobody is asked: plans are
drafts. It is given once for a run; a run that follows a sealed one is about
the same lot and deviation, and takes over its evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.evidence import Evidence
from services.refusals import Absent, Malformed, Refusal

_LONGEST_WORDS = 4000


@dataclass(frozen=True)
class Hazard:
    """The evaluation of a run; `evaluated` keeps its HazardEvaluated as it was."""

    evaluated: bytes

    def message(self) -> events.HazardEvaluated:
        return events.HazardEvaluated.FromString(self.evaluated)


def decide_evaluate(
    held: Hazard | None, evidence: Evidence | None, asked: events.HazardEvaluated
) -> list[events.HazardEvaluated]:
    """Evaluate the hazard of a run that is known here, once."""
    if asked.hazard_class not in events.HazardClass.values()[1:]:
        raise Malformed("REQUIRED", "say how dangerous it is: class I, II or III", "hazard_class")
    for field, ask in _WORDS.items():
        words = getattr(asked, field)
        if not words.strip():
            raise Malformed("REQUIRED", ask, field)
        if len(words) > _LONGEST_WORDS:
            raise Malformed("TOO_LONG", f"at most {_LONGEST_WORDS} characters", field)
    if evidence is None or not evidence.root:
        said = "no such run of the safety loop is known here; `pharmaloop run list` lists runs and lots,"
        raise Absent("UNKNOWN_RUN", f"{said} GetLot of a lot the runs that are known here", "run")
    if held is not None:
        said = f"it was evaluated before, by {held.message().actor}; patients were told those words"
        raise Refusal("ALREADY_EVALUATED", said, "run")
    return [of_run(asked, evidence)]


_WORDS = {
    "text": "write what the patient is told",
    "instruction": "write what the patient should do",
    "meaning": "say what the signature means",
}


def of_run(evaluated: events.HazardEvaluated, evidence: Evidence) -> events.HazardEvaluated:
    """The same evaluation for a run."""
    mine = events.HazardEvaluated()
    mine.CopyFrom(evaluated)
    mine.run, mine.lot = evidence.run, evidence.root
    return mine


def evolve(held: Hazard | None, event: object) -> Hazard:
    """The evaluation after its event."""
    assert isinstance(event, events.HazardEvaluated)
    return Hazard(event.SerializeToString(deterministic=True))
