"""Corrective actions: proposed from patients' evidence, approved by a person.

A proposal tightens one limit and says what it rests on. Approving it changes
the limit and tells research, in one commit. What is told beyond the platform
never lets a small group of patients be counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.errors import Absent, Malformed, Refusal
from services.production.domain.evidence import Evidence

#: The smallest count of patients that is published.
SMALLEST_COUNT = 10


@dataclass(frozen=True)
class Capa:
    """A corrective action; `proposed` keeps its CapaProposed as it was."""

    capa: str
    proposed: bytes
    state: Literal["proposed", "approved"] = "proposed"
    actor: str = ""

    def message(self) -> events.CapaProposed:
        return events.CapaProposed.FromString(self.proposed)


def decide_propose(
    held: Capa | None, evidence: Evidence, capa: str, limit_before: float, limit_after: float
) -> list[Message]:
    """Propose once for a run."""
    if held is not None:
        return []
    moves = (
        f"goes from {limit_before:.2f} to {limit_after:.2f}"
        if limit_after < limit_before
        else f"stays at {limit_before:.2f}"
    )
    said = (
        f"{evidence.answered} of {evidence.plans} patients with a plan answered, "
        f"{evidence.affected} of them with a complaint, after {evidence.tag} left its golden run; "
        f"the limit {moves} residual standard deviations"
    )
    return [
        events.CapaProposed(
            capa=capa,
            run=evidence.run,
            deviation=evidence.deviation,
            lot=evidence.root,
            product=evidence.product,
            tag=evidence.tag,
            limit_before=limit_before,
            limit_after=limit_after,
            reason=said,
            answered=evidence.answered,
            affected=evidence.affected,
        )
    ]


def decide_approve(
    held: Capa | None, actor: str, meaning: str, limit_now: float, insight: str
) -> list[Message]:
    """Approve: the limit changes and research hears of it. A limit is never loosened here:
    where another action has tightened it further since, that one stays."""
    if held is None:
        raise Absent("UNKNOWN_CAPA", "no such corrective action; list them with ListCapas", "capa")
    if held.state != "proposed":
        raise Refusal("ILLEGAL_TRANSITION", f"it was approved before, by {held.actor}", "capa")
    if not meaning.strip():
        raise Malformed("REQUIRED", "say what the signature means", "meaning")
    proposed = held.message()
    limit = min(limit_now, proposed.limit_after)
    return [
        events.CapaApproved(capa=held.capa, run=proposed.run, actor=actor, meaning=meaning),
        events.ProcessLimitChanged(
            product=proposed.product,
            tag=proposed.tag,
            limit_before=limit_now,
            limit_after=limit,
            capa=held.capa,
            run=proposed.run,
        ),
        _insight(proposed, insight, limit_now, limit),
    ]


class Counts(NamedTuple):
    """Counts as they may be published."""

    answered: int
    affected: int
    suppressed: bool


def publishable(answered: int, affected: int) -> Counts:
    """The one rule of what may be published of a group of patients.

    A count from 1 to 9 lets people be singled out, and so does one that can be
    worked out from two others. So both counts are withheld when fewer than 10
    answered, when 1 to 9 of them were affected, or when 1 to 9 were not.
    Nobody affected, or everybody, among 10 or more is published.
    """
    small = range(1, SMALLEST_COUNT)
    if answered < SMALLEST_COUNT or affected in small or answered - affected in small:
        return Counts(0, 0, True)
    return Counts(answered, affected, False)


def _insight(
    proposed: events.CapaProposed, insight: str, before: float, after: float
) -> events.InsightPublished:
    counts = publishable(proposed.answered, proposed.affected)
    return events.InsightPublished(
        insight=insight,
        product=proposed.product,
        parameter=proposed.tag,
        statement=_statement(proposed.tag, counts, before, after),
        capa=proposed.capa,
        run=proposed.run,
        lot=proposed.lot,
        answered=counts.answered,
        affected=counts.affected,
        suppressed=counts.suppressed,
    )


def _statement(tag: str, counts: Counts, before: float, after: float) -> str:
    if counts.suppressed:
        who = f"Counts of patients are withheld (a group is smaller than {SMALLEST_COUNT})"
    else:
        share = 100 * counts.affected / counts.answered
        who = f"{counts.affected} of {counts.answered} patients who answered ({share:.0f} %) had a complaint"
    moved = f"was tightened from {before:.2f} to {after:.2f}" if after < before else f"stays at {after:.2f}"
    return f"{who} after {tag} left its golden run; its limit {moved} residual standard deviations."


def evolve(held: Capa | None, event: Message) -> Capa:
    """The corrective action after one of its own events."""
    if isinstance(event, events.CapaProposed):
        return Capa(event.capa, event.SerializeToString(deterministic=True))
    assert held is not None, f"{type(event).__name__} before its proposal"
    if isinstance(event, events.CapaApproved):
        return replace(held, state="approved", actor=event.actor)
    return held
