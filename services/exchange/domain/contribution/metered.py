"""From values of coalitions to what is metered: each site's share, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain.contribution import shapley
from services.exchange.domain.contribution.evaluation import (
    Evaluation,
    NotValued,
    Utility,
    agreed,
    begin,
    told,
    valued,
)
from services.exchange.domain.contribution.explained import MODELS
from services.exchange.domain.contribution.shapley import Coalition
from services.refusals import Malformed


def why_not(study: events.StudyRequested, consents: Sequence[str], sites: Sequence[str]) -> str:
    """Why a study's contributions are not valued; empty where an evaluator may be asked."""
    if not study.valued:
        return "NOT_ASKED"
    if set(study.sites) - set(consents):
        return "NOT_ALL_CONSENT"
    if study.model not in MODELS:
        return "MODEL_NOT_VALUED"
    if not study.evaluator_key:
        return "NO_EVALUATOR"
    if study.evaluator in study.sites:
        return "EVALUATOR_NOT_APART"
    return "NUMBER_OF_SITES" if len(sites) > shapley.MOST_SITES else ""


def with_shares(
    meters: Sequence[events.ContributionMetered],
    values: Mapping[Coalition, float],
    digits: int,
    evaluator: str,
    coordinator: str,
) -> list[events.ContributionMetered]:
    """The meters with each site's share of what all explain together.

    Malformed, or Refusal, where the values are not those of all coalitions of
    these sites, or not bounded and rounded as they are told. All shares are 0
    where no site has a positive value.
    """
    sites = [one.site for one in meters]
    found: Evaluation | NotValued = agreed(
        meters[0].job, sites, sites, evaluator, coordinator, Utility.EXPLAINED, digits
    )
    if isinstance(found, NotValued):
        raise Malformed(found.reason, found.description, "sites")
    for coalition, value in values.items():
        found = valued(begin(found, coalition), coalition, value)
    shares = shapley.shares(shapley.exact(found.owners, told(found)), found.unit)
    made = []
    for one in meters:
        meter = events.ContributionMetered()
        meter.CopyFrom(one)
        meter.valued, meter.share, meter.not_valued = True, float(shares[one.site]), ""
        made.append(meter)
    return made


def without_shares(
    meters: Sequence[events.ContributionMetered], why: str
) -> list[events.ContributionMetered]:
    """The meters, not valued, with the reason."""
    made = []
    for one in meters:
        meter = events.ContributionMetered()
        meter.CopyFrom(one)
        meter.not_valued = why
        made.append(meter)
    return made
