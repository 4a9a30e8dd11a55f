"""Findings of studies: which rule takes them up, what hypothesis each is about, what candidates make of them.

A finding is taken up at once where a rule can say what it claims: its first
effect has an estimate with an interval, of a fit that converged, about a
product that is registered. Any other waits for a person.

What a study looks for are harms: adverse events, and laboratory values that
rise. So the claim is that the exposed have less of it. An interval wholly on
the other side contradicts the claim and speaks against the product's molecule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.rnd.v1 import events_pb2 as events
from services.refusals import Absent, Malformed, Refusal
from services.rnd.domain.catalogue import Product
from services.rnd.domain.errors import named
from services.rnd.domain.hypotheses.insight import Hypothesis, Insight, Scale
from services.rnd.domain.hypotheses.verdict import RULE, Assessment, judge
from services.sayings import kept, saying

#: Who takes up by the rule.
PLATFORM = "platform"
_RATIOS = ("log-odds", "log-rate", "log-hazard")
#: The effect of the exposure, and the scales on which 0 is no effect of it. A claim is about nothing else.
_EXPOSED, _SCALES = "exposed", (*_RATIOS, "difference")
_NOT_CONVERGED = "NOT_CONVERGED"
_STATES = {
    "supported": events.HYPOTHESIS_STATE_SUPPORTED,
    "contradicted": events.HYPOTHESIS_STATE_CONTRADICTED,
    "needs data": events.HYPOTHESIS_STATE_NEEDS_DATA,
}
FindingState: TypeAlias = Literal["waiting", "taken_up", "declined"]


@dataclass(frozen=True)
class Finding:
    """A published insight: its event's id, moment (ISO, UTC), case and run, and itself as it was."""

    insight: str
    event: str
    at: str
    case: str
    run: str
    published: bytes

    def message(self) -> exchange.InsightPublished:
        return exchange.InsightPublished.FromString(self.published)


@dataclass(frozen=True)
class Belief:
    """A hypothesis: what it claims, the findings that it took up in order, where it stands."""

    hypothesis: str
    product: str
    insights: tuple[str, ...]
    updated: bytes

    def message(self) -> events.HypothesisUpdated:
        return events.HypothesisUpdated.FromString(self.updated)


@dataclass(frozen=True)
class Declined:
    """A finding that a person declined."""

    insight: str
    actor: str
    reason: str


@dataclass(frozen=True)
class FindingRow:
    """A finding as people page through them; `actor` declined it, and `meaning` is what that means;
    `sayings` are the parts of the statement."""

    insight: str
    study: str = ""
    product: str = ""
    statement: str = ""
    state: FindingState = "waiting"
    reason: str = ""
    hypothesis: str = ""
    at: str = ""
    actor: str = ""
    meaning: str = ""
    sayings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class BeliefRow:
    """A hypothesis as people page through them; `state` is the number of its HypothesisState."""

    hypothesis: str
    product: str
    state: int
    insights: tuple[str, ...]
    at: str
    updated: bytes


def published(told: exchange.InsightPublished, event: str, at: str, case: str, run: str) -> Finding:
    return Finding(told.insight, event, at, case, run, told.SerializeToString(deterministic=True))


def waits_for(told: exchange.InsightPublished, product: Product | None) -> str:
    """Why no rule can take the finding up; empty where one can."""
    return _waits(told, product)[0]


def waiting_sayings(told: exchange.InsightPublished, product: Product | None) -> list[common.Saying]:
    """The same in parts; where a rule could take it up now, that none could when it came."""
    return [_waits(told, product)[1] or saying("NO_RULE_THEN")]


def _waits(told: exchange.InsightPublished, product: Product | None) -> tuple[str, common.Saying | None]:
    if product is None:
        said = f"the product {told.product!r} is not registered here"
        return said, saying("PRODUCT_NOT_REGISTERED", product=told.product)
    first = told.effects[0] if told.effects else None
    if first is None or not _measured(first):
        why = first.estimate.reason if first is not None else ""
        said = f"its first effect has no estimate with an interval{f' ({why})' if why else ''}"
        return said, saying("NO_INTERVAL_FOR", word=why) if why else saying("NO_INTERVAL")
    if not _of_exposure(first):
        said = f"its first effect is {first.term!r} as {first.scale!r}, which is no effect of the exposure"
        return said, saying("NOT_OF_EXPOSURE", term=first.term, scale=f"scale.{first.scale}")
    if _NOT_CONVERGED in told.flags:
        return "its fit did not converge", saying("FIT_NOT_CONVERGED")
    return "", None


def _measured(effect: exchange.Effect) -> bool:
    estimate = effect.estimate
    ends = [name for name in ("value", "lower", "upper") if estimate.HasField(name)]
    return len(ends) == 3 and all(math.isfinite(getattr(estimate, name)) for name in ends)


def _of_exposure(effect: exchange.Effect) -> bool:
    return effect.term == _EXPOSED and effect.scale in _SCALES


# -- what a finding is about ------------------------------------------------------


def scale_of(told: exchange.InsightPublished) -> Scale:
    return "ratio" if told.effects and told.effects[0].scale in _RATIOS else "difference"


def claim_of(told: exchange.InsightPublished) -> str:
    """In a sentence; findings of one product, exposure, outcome and scale are about one claim."""
    more = "less often" if scale_of(told) == "ratio" else "to a lesser extent"
    return f"{told.exposure} goes {more} with {told.outcome}"


def claim_saying(told: exchange.InsightPublished) -> common.Saying | None:
    """The same in parts; None for a finding of before its exposure and outcome had any."""
    if not (told.HasField("exposure_saying") and told.HasField("outcome_saying")):
        return None
    code = "LESS_OFTEN_WITH" if scale_of(told) == "ratio" else "TO_A_LESSER_EXTENT_WITH"
    return saying(code, exposure=told.exposure_saying, outcome=told.outcome_saying)


def _hypothesis(id: str, told: exchange.InsightPublished, molecule: str) -> Hypothesis:
    # A product without a known molecule is judged as well; it moves no candidate.
    return Hypothesis(id, molecule or told.product, claim_of(told), scale_of(told), "below")


def _insight(id: str, finding: Finding) -> Insight | None:
    """The finding as evidence; None where it has no estimate of the exposure's effect, or a wrong one."""
    told = finding.message()
    if not told.effects or not _measured(told.effects[0]) or not _of_exposure(told.effects[0]):
        return None
    scale, estimate = scale_of(told), told.effects[0].estimate
    try:
        turn = math.exp if scale == "ratio" else float
        return Insight(
            insight=told.insight,
            event=finding.event,
            at=datetime.fromisoformat(finding.at),
            study=told.study,
            hypothesis=id,
            question=told.question or claim_of(told),
            scale=scale,
            effect=turn(estimate.value),
            low=turn(estimate.lower),
            high=turn(estimate.upper),
            n=told.members,
            sites=len(told.sites),
            model=told.model,
            epsilon=told.epsilon or None,
        )
    except (Malformed, OverflowError):
        return None


@dataclass(frozen=True)
class Judged:
    """A hypothesis in the domain's own terms, with its evidence."""

    hypothesis: Hypothesis
    insights: tuple[Insight, ...]

    def assess(self, as_of: datetime) -> Assessment:
        return judge(self.hypothesis, self.insights, as_of)


def judged(belief: str, molecule: str, findings: tuple[Finding, ...]) -> Judged:
    """What is believed, by the findings about it, of which there is one at least."""
    hypothesis = _hypothesis(belief, findings[0].message(), molecule)
    found = [one for finding in findings if (one := _insight(belief, finding)) is not None]
    return Judged(hypothesis, tuple(found))


def decide_take_up(
    held: Belief | None,
    belief: str,
    product: Product,
    finding: Finding,
    earlier: tuple[Finding, ...],
    actor: str,
    now: datetime,
) -> list[events.HypothesisUpdated]:
    """The hypothesis with one finding more; a finding is taken up once."""
    if held is not None and finding.insight in held.insights:
        return []
    told = finding.message()
    evidence = judged(belief, product.molecule, (*earlier, finding))
    moments = [datetime.fromisoformat(one.at) for one in (*earlier, finding)]
    found = evidence.assess(max(now, *moments))
    return [
        events.HypothesisUpdated(
            hypothesis=belief,
            claim=claim_of(told),
            product=told.product,
            target=product.target,
            insight=told.insight,
            study=told.study,
            state=_STATES[found.state],
            statement=_said(found),
            actor=actor,
            claim_saying=claim_saying(told),
            statement_sayings=_sayings(found, evidence.hypothesis),
        )
    ]


def _said(found: Assessment) -> str:
    """The state, the numbers it rests on, and the rule."""
    size = "no finding counts"
    if found.estimate is not None:
        size = f"{found.estimate:.3f} ({found.low:.3f} to {found.high:.3f}) in {found.n} patients"
    left = [f"{one.insight} does not count: {one.reason}" for one in found.counted if one.reason]
    needed = f"; about {found.needed_n} patients in all might decide" if found.needed_n else ""
    notes = "".join(f"; {one}" for one in left)
    return f"{found.state}: {found.reason}; {size}{needed}{notes}. Rule: {RULE}."


def _sayings(found: Assessment, about: Hypothesis) -> list[common.Saying]:
    """The same in parts."""
    parts = [_state(found, about)]
    if found.estimate is None or found.low is None or found.high is None:
        parts.append(saying("NO_FINDING_COUNTS"))
    else:
        value, low, high = (round(one, 3) for one in (found.estimate, found.low, found.high))
        parts.append(saying("ESTIMATED_IN", value=value, low=low, high=high, patients=found.n))
    if found.needed_n:
        parts.append(saying("MIGHT_DECIDE", patients=found.needed_n))
    for one in found.counted:
        if one.left_out is not None:
            code, values = one.left_out
            parts.append(saying(f"DOES_NOT_COUNT_{code}", insight=one.insight, **values))
    return [*parts, saying("HYPOTHESIS_RULE")]


def _state(found: Assessment, about: Hypothesis) -> common.Saying:
    if found.state == "supported":
        return saying(f"SUPPORTED_{about.expected.upper()}")
    if found.state == "contradicted":
        return saying("CONTRADICTED_LEAST" if about.least else "CONTRADICTED")
    if found.estimate is None:
        return saying("NO_INSIGHT_COUNTS" if found.counted else "NO_INSIGHT")
    return saying("HOLDS_BOTH")


# -- what a person does --------------------------------------------------------------


def check_waiting(finding: Finding | None, belief: Belief | None, declined: Declined | None) -> Finding:
    """The finding, which must wait for a person. Raises Absent, Refusal."""
    if finding is None:
        raise Absent("UNKNOWN_INSIGHT", "no such finding; list them with ListFindings", "insight")
    if belief is not None and finding.insight in belief.insights:
        said = f"the finding is taken up by hypothesis {belief.hypothesis}; it is not decided again"
        raise Refusal("TAKEN_UP", said, "insight")
    if declined is not None:
        said = f"{declined.actor} declined the finding; it is not decided again"
        raise Refusal("DECLINED", said, "insight")
    return finding


def check_product(finding: Finding, product: Product | None) -> Product:
    """The product of a finding that is taken up."""
    if product is None:
        named_ = finding.message().product
        said = f"no product {named_!r} is registered; register it with RegisterProduct first, or decline"
        raise Refusal("UNKNOWN_PRODUCT", said, "insight")
    return product


def decide_decline(finding: Finding, actor: str, reason: str) -> list[events.InsightDeclined]:
    named(reason, "reason")
    told = finding.message()
    return [events.InsightDeclined(insight=told.insight, study=told.study, actor=actor, reason=reason)]


# -- states -----------------------------------------------------------------------------


def evolve(held: Belief | None, event: Message) -> Belief:
    """The hypothesis after one of its own events."""
    assert isinstance(event, events.HypothesisUpdated)
    insights = (*(held.insights if held else ()), event.insight)
    return Belief(event.hypothesis, event.product, insights, event.SerializeToString(deterministic=True))


def declined_evolve(held: Declined | None, event: Message) -> Declined:
    assert isinstance(event, events.InsightDeclined)
    return Declined(event.insight, event.actor, event.reason)


def belief_row(row: BeliefRow | None, event: events.HypothesisUpdated, at: str) -> BeliefRow:
    insights = (*(row.insights if row else ()), event.insight)
    kept = event.SerializeToString(deterministic=True)
    return BeliefRow(event.hypothesis, event.product, event.state, insights, at, kept)


def finding_row(row: FindingRow | None, told: exchange.InsightPublished, at: str) -> FindingRow:
    """Whatever was decided of it may be known before."""
    before = row or FindingRow(told.insight)
    sayings = kept(told.statement_sayings)
    return replace(
        before, study=told.study, product=told.product, statement=told.statement, at=at, sayings=sayings
    )


def decided_row(row: FindingRow | None, event: Message) -> FindingRow:
    """The row after a hypothesis took the finding up, or a person declined it."""
    if isinstance(event, events.HypothesisUpdated):
        before = row or FindingRow(event.insight, event.study, event.product)
        return replace(before, state="taken_up", hypothesis=event.hypothesis)
    assert isinstance(event, events.InsightDeclined)
    before = row or FindingRow(event.insight, event.study)
    return replace(before, state="declined", reason=event.reason, actor=event.actor, meaning=event.meaning)
