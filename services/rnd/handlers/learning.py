"""What plants, studies and virtual trials teach: predictions are calibrated, hypotheses move, candidates are
ranked anew."""

from __future__ import annotations

from typing import cast

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.envelope import Event
from services.kit.ids import derived_id
from services.kit.refused import refusals
from services.kit.store.kinds import Get, Where
from services.kit.work import Work, moment_text
from services.rnd.domain import calibration, candidates, findings
from services.rnd.domain.catalogue import Product
from services.rnd.domain.findings import PLATFORM, Belief, Finding, Judged
from services.rnd.views import (
    CALIBRATIONS,
    DECLINED,
    FINDINGS,
    HYPOTHESES,
    OUTCOMES,
    PRODUCTS,
    RANKINGS,
    TRIAL_EVIDENCE,
)


def on_transfer_outcome_recorded(work: Work, event: Event) -> None:
    """A transferred lot is tested: the next prediction for the plant learns from it."""
    told = cast(production.TransferOutcomeRecorded, event.message)
    outcome = calibration.recorded(told, event.id, moment_text(event.time))
    id = outcome.calibration
    work.load_all([Get(CALIBRATIONS, id), Where(OUTCOMES, "calibration", id)])
    work.put(OUTCOMES, f"{told.transfer}|{told.lot}", outcome)
    known = work.where(OUTCOMES, "calibration", id).values()
    for learned in calibration.decide_calibrate(work.get(CALIBRATIONS, id), outcome, known):
        work.apply(CALIBRATIONS, id, learned, case=told.transfer, run=told.run)


def on_insight_published(work: Work, event: Event) -> None:
    """A study's answer is kept, and taken up at once where the rule can."""
    told = cast(exchange.InsightPublished, event.message)
    at = moment_text(event.time)
    finding = findings.published(told, event.id, at, event.case, event.run)
    work.put(FINDINGS, told.insight, finding)
    product = work.get(PRODUCTS, told.product)
    if product is not None and not findings.waits_for(told, product):
        _take_up(work, product, finding, PLATFORM)


def on_trial_completed(work: Work, event: Event) -> None:
    """A virtual trial is evidence about its molecule in every indication of it."""
    completed = cast(events.TrialCompleted, event.message)
    if not completed.molecule:
        return
    found = candidates.of_trial(completed, event.id, moment_text(event.time))
    work.put(TRIAL_EVIDENCE, completed.trial, found)
    products = work.where(PRODUCTS, "molecule", completed.molecule).values()
    for indication in sorted({product.indication for product in products}):
        _rank(work, indication)


@refusals()
def take_up_insight(work: Work, request: api.TakeUpInsightRequest) -> api.TakeUpInsightResponse:
    finding = _waiting(work, request.insight)
    product = work.get(PRODUCTS, finding.message().product)
    _take_up(work, findings.check_product(finding, product), finding, work.cause.actor)
    return api.TakeUpInsightResponse()


@refusals()
def decline_insight(work: Work, request: api.DeclineInsightRequest) -> api.DeclineInsightResponse:
    finding = _waiting(work, request.insight)
    for event in findings.decide_decline(finding, work.cause.actor, request.reason):
        work.apply(DECLINED, finding.insight, event, case=finding.case, run=finding.run)
    return api.DeclineInsightResponse()


def _waiting(work: Work, insight: str) -> Finding:
    """The finding, held: who takes it up and who declines it at the same moment write different states."""
    work.hold(FINDINGS, [insight])
    finding = work.get(FINDINGS, insight)
    belief = work.get(HYPOTHESES, _belief(finding)) if finding else None
    return findings.check_waiting(finding, belief, work.get(DECLINED, insight))


def _belief(finding: Finding) -> str:
    """Id of the hypothesis that a finding is about."""
    told = finding.message()
    return derived_id("hypothesis", told.product, told.exposure, told.outcome, findings.scale_of(told))


def _take_up(work: Work, product: Product, finding: Finding, actor: str) -> None:
    id = _belief(finding)
    held = work.get(HYPOTHESES, id)
    earlier = _findings(work, held) if held else ()
    decided = findings.decide_take_up(held, id, product, finding, earlier, actor, work.now)
    for event in decided:
        work.apply(HYPOTHESES, id, event, case=finding.case, run=finding.run)
        _rank(work, product.indication, id, finding)


def _findings(work: Work, belief: Belief) -> tuple[Finding, ...]:
    work.load(FINDINGS, belief.insights)
    found = [work.get(FINDINGS, insight) for insight in belief.insights]
    return tuple(one for one in found if one is not None)


def _rank(work: Work, indication: str, hypothesis: str = "", finding: Finding | None = None) -> None:
    """Rank the indication's candidates by all that is known of them now."""
    products = work.where(PRODUCTS, "indication", indication)
    molecules = sorted({product.molecule for product in products.values()})
    work.load_all(
        [Where(HYPOTHESES, "product", product) for product in products]
        + [Where(TRIAL_EVIDENCE, "molecule", molecule) for molecule in molecules]
        + [Get(RANKINGS, indication)]
    )
    trials = [
        one for molecule in molecules for one in work.where(TRIAL_EVIDENCE, "molecule", molecule).values()
    ]
    decided = candidates.decide_rank(
        indication,
        products.values(),
        trials,
        _judged(work, list(products.values())),
        work.now,
        hypothesis=hypothesis,
        insight=finding.insight if finding else "",
    )
    case, run = (finding.case, finding.run) if finding else ("", "")
    for event in decided:
        work.apply(RANKINGS, indication, event, case=case, run=run)


def _judged(work: Work, products: list[Product]) -> dict[str, Judged]:
    """What is believed of the products, with its evidence."""
    beliefs = [
        (product, belief)
        for product in products
        for belief in work.where(HYPOTHESES, "product", product.product).values()
    ]
    work.load(FINDINGS, [insight for _, belief in beliefs for insight in belief.insights])
    found: dict[str, Judged] = {}
    for product, belief in beliefs:
        known = _findings(work, belief)
        if known:
            found[belief.hypothesis] = findings.judged(belief.hypothesis, product.molecule, known)
    return found
