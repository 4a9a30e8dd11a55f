"""Corrective actions: from patients' evidence to a changed limit, and the check that it helped.

    proposed -> approved -> validated and filing assessed, in either order -> effective -> closed
             -> refused

A proposal tightens one limit and says what it rests on. A person signs it,
which opens change control, or refuses it and says why: then nothing changes,
and its run gets no other. The limit changes, and research is told, in the
commit that records the later of validation and filing assessment. The check
of its effectiveness closes the action. What is told beyond the platform never
lets a small group of patients be counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import pooled
from services.production.domain.change_control import check_filing, check_validation
from services.production.domain.evidence import Evidence
from services.production.domain.record import given
from services.refusals import Absent, Malformed, Refusal
from services.sayings import saying

CapaState: TypeAlias = Literal["proposed", "approved", "effective", "closed", "refused"]
_OUTCOMES = (events.EFFECTIVENESS_OUTCOME_EFFECTIVE, events.EFFECTIVENESS_OUTCOME_NOT_EFFECTIVE)
#: The smallest count of patients that is published.
SMALLEST_COUNT = 10


@dataclass(frozen=True)
class Capa:
    """A corrective action; `proposed`, `validated`, `filing`, `check` and `refused` keep the events of these
    names as they were, empty before they happened. `actor` approved it."""

    capa: str
    proposed: bytes
    state: CapaState = "proposed"
    actor: str = ""
    validated: bytes = b""
    filing: bytes = b""
    check: bytes = b""
    refused: bytes = b""

    def message(self) -> events.CapaProposed:
        return events.CapaProposed.FromString(self.proposed)


C = TypeVar("C", bound=Capa)


class InForce(NamedTuple):
    """What the limit of a corrective action's tag is now, and what a change of it is called."""

    limit: float
    version: int
    insight: str


def decide_propose(
    held: Capa | None,
    evidence: Evidence,
    capa: str,
    limit_before: float,
    limit_after: float,
    narrowest: float = 0.0,
) -> list[Message]:
    """Propose once for a run. `narrowest` is the smallest limit that may be."""
    if held is not None:
        return []
    moves = (
        f"goes from {limit_before:.2f} to {limit_after:.2f}"
        if limit_after < limit_before
        else f"stays at {limit_before:.2f}"
    )
    said = (
        f"{pooled.said(evidence.releases)}, after {evidence.tag} left its golden run; "
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
            reason_sayings=[
                *pooled.sayings(evidence.tag, evidence.releases),
                _moves(limit_before, limit_after),
            ],
            answered=evidence.answered,
            affected=evidence.affected,
            evidence=pooled.evidence(evidence.releases),
            kept=events.LIMIT_KEPT_UNSPECIFIED
            if limit_after < limit_before
            else _kept(evidence, narrowest >= limit_before),
        )
    ]


def _moves(before: float, after: float) -> common.Saying:
    """What becomes of the limit."""
    if after < before:
        return saying("LIMIT_GOES", before=round(before, 2), after=round(after, 2))
    return saying("LIMIT_STAYS_AT", limit=round(after, 2))


def _kept(evidence: Evidence, narrowest: bool) -> events.LimitKept:
    """What the evidence lacks for a narrower limit; `narrowest`: a narrower one may not be."""
    followed = pooled.followed(evidence.releases)
    if not followed:
        return events.LIMIT_KEPT_NOBODY_FOLLOWED
    if all(one.exposed.cases is None for one in followed):
        return events.LIMIT_KEPT_WITHHELD
    if not evidence.answered:
        return events.LIMIT_KEPT_NO_ANSWERS
    if not evidence.affected:
        return events.LIMIT_KEPT_NO_COMPLAINTS
    return events.LIMIT_KEPT_NARROWEST if narrowest else events.LIMIT_KEPT_TOO_FEW


def decide_approve(held: Capa | None, actor: str, meaning: str) -> list[Message]:
    """A person signs; from now on the change is under control."""
    found = _in(held, "proposed", "approved")
    if not meaning.strip():
        raise Malformed("REQUIRED", "say what the signature means", "meaning")
    run = found.message().run
    return [events.CapaApproved(capa=found.capa, run=run, actor=actor, meaning=meaning)]


def decide_refuse(held: Capa | None, actor: str, reason: str, meaning: str) -> list[Message]:
    """A person refuses what is proposed; it is closed with that."""
    found = _in(held, "proposed", "refused")
    given(reason, "reason", "say why the corrective action is refused")
    if not meaning.strip():
        raise Malformed("REQUIRED", "say what the signature means", "meaning")
    run = found.message().run
    return [events.CapaRefused(capa=found.capa, run=run, actor=actor, reason=reason, meaning=meaning)]


def decide_validate(
    held: Capa | None, asked: events.ChangeValidated, now: Callable[[], InForce]
) -> list[Message]:
    """Record the validation of an approved change; with its filing assessment it takes effect."""
    found = _in(held, "approved", "validated")
    if found.validated:
        raise _again("validation")
    check_validation(asked)
    asked.run = found.message().run
    return [asked, *(_takes_effect(found, now()) if found.filing else [])]


def decide_assess_filing(
    held: Capa | None, asked: events.ChangeFilingAssessed, now: Callable[[], InForce]
) -> list[Message]:
    """Record whether an approved change must be filed; with its validation it takes effect.

    One that needs prior approval is assessed when the authority has approved it: before, it must
    not take effect.
    """
    found = _in(held, "approved", "assessed for filing")
    if found.filing:
        raise _again("filing assessment")
    check_filing(asked)
    asked.run = found.message().run
    return [asked, *(_takes_effect(found, now()) if found.validated else [])]


def decide_check(held: Capa | None, asked: events.CapaEffectivenessChecked) -> list[Message]:
    """Record whether a change in effect was effective; the action is closed with it."""
    found = _in(held, "effective", "closed")
    if asked.outcome not in _OUTCOMES:
        raise Malformed("REQUIRED", "say whether the action was effective", "outcome")
    given(asked.statement, "statement", "say what it rests on")
    asked.run = found.message().run
    return [asked]


def _in(held: Capa | None, state: CapaState, to: str) -> Capa:
    """The action, which must be in the state to become `to`."""
    if held is None:
        raise Absent("UNKNOWN_CAPA", "no such corrective action; list them with ListCapas", "capa")
    if held.state != state:
        said = f"a corrective action that is {held.state}{_by(held)} cannot become {to}; it must be {state}"
        raise Refusal("ILLEGAL_TRANSITION", said, "capa")
    return held


def _by(held: Capa) -> str:
    """Who decided what is proposed: of two people who decide at once, the second is told of the first."""
    if held.state == "refused":
        return f" (by {events.CapaRefused.FromString(held.refused).actor})"
    return f" (by {held.actor})" if held.state == "approved" else ""


def _again(what: str) -> Refusal:
    return Refusal("ALREADY_RECORDED", f"the {what} is on record; it is not changed", "capa")


def _takes_effect(held: Capa, now: InForce) -> list[Message]:
    """The limit changes and research hears of it. A limit is never loosened here: where another
    action has tightened it further since, that one stays."""
    proposed = held.message()
    limit = min(now.limit, proposed.limit_after)
    return [
        events.ProcessLimitChanged(
            product=proposed.product,
            tag=proposed.tag,
            limit_before=now.limit,
            limit_after=limit,
            capa=held.capa,
            run=proposed.run,
            version=now.version,
        ),
        _insight(proposed, now.insight, now.limit, limit),
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
        statement_sayings=[_learnt(proposed.tag, counts), _moves(before, after)],
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


def _learnt(tag: str, counts: Counts) -> common.Saying:
    if counts.suppressed:
        return saying("NUMBERS_WITHHELD", tag=tag, smallest=SMALLEST_COUNT)
    share = round(100 * counts.affected / counts.answered)
    return saying("HAD_A_COMPLAINT", affected=counts.affected, answered=counts.answered, share=share, tag=tag)


def evolve(held: Capa | None, event: Message) -> Capa:
    """The corrective action after one of its own events."""
    if isinstance(event, events.CapaProposed):
        return Capa(event.capa, event.SerializeToString(deterministic=True))
    assert held is not None, f"{type(event).__name__} before its proposal"
    return changed(held, event)


def changed(held: C, event: Message) -> C:
    """The action after one of its events but the first."""
    told = event.SerializeToString(deterministic=True)
    match event:
        case events.CapaApproved():
            after = replace(held, state="approved", actor=event.actor)
        case events.CapaRefused():
            after = replace(held, state="refused", refused=told)
        case events.ChangeValidated():
            after = replace(held, validated=told)
        case events.ChangeFilingAssessed():
            after = replace(held, filing=told)
        case events.ProcessLimitChanged():
            after = replace(held, state="effective")
        case events.CapaEffectivenessChecked():
            after = replace(held, state="closed", check=told)
        case _:
            after = held
    return after
