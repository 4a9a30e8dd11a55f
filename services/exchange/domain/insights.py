"""From what a job found to the answer that is published: effects, counts, flags, a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain import definitions
from services.exchange.domain.stats.protocol import Estimate, Result

SCALES = {
    "linear": "difference",
    "logistic": "log-odds",
    "poisson": "log-rate",
    "cox": "log-hazard",
    "cox_grid": "log-hazard",
}
EXPOSED = "exposed"
#: A count of patients from 1 to one less is not told.
SMALLEST_COUNT = 10
#: With fewer lots, what is seen of a process band may be one lot's.
_FEWEST_LOTS = 10


def insight(
    name: str, study: events.StudyRequested, job: events.JobOpened, sites: Sequence[str], result: Result
) -> events.InsightPublished:
    """The answer; `name` is its id, `sites` those that answered. The effect of the exposure comes first."""
    estimates = sorted(result.estimates, key=lambda one: one.name != EXPOSED)
    lots = int(result.tables.get("clusters", 0))
    flags = list(result.flags)
    by_lot = study.definition.exposure.kind == cohort.EXPOSURE_KIND_PARAMETER_BAND
    if by_lot and 0 < lots < _FEWEST_LOTS:
        flags.append("LOTS_TOO_FEW")
    if by_lot and not lots:
        flags.append("LOTS_NOT_COUNTED")
    members, found = result.n, result.events or 0
    if study.profile != events.DISCLOSURE_PROFILE_PUBLIC_DATA:
        members, found, withheld = _publishable(members, found, counted=result.events is not None)
        flags += ["COUNTS_WITHHELD"] * withheld
    told = events.InsightPublished(
        insight=name,
        study=study.study,
        job=job.job,
        question=study.question,
        product=study.product,
        exposure=definitions.exposure_in_words(study.definition.exposure),
        outcome=definitions.outcome_in_words(study.definition.outcome),
        model=study.model,
        effects=[_effect(one, study.model) for one in estimates],
        members=members,
        events=found,
        sites=sites,
        epsilon=study.epsilon,
        flags=flags,
        parameters_hash=job.parameters_hash,
        rounds=result.rounds,
        lots=lots,
    )
    told.statement = statement(told)
    return told


def _publishable(members: int, found: int, *, counted: bool) -> tuple[int, int, bool]:
    """Members and events as they may be told: a count from 1 to 9 lets people be singled out, and so does one
    that can be worked out from two others."""
    small = range(1, SMALLEST_COUNT)
    if members in small:
        return 0, 0, True
    if counted and (found in small or members - found in small):
        return members, 0, True
    return members, found, False


def _effect(one: Estimate, model: str) -> events.Effect:
    estimate = common.Estimate(value=one.value, lower=one.lower, upper=one.upper)
    if one.value is None:
        estimate.reason = "NOT_ESTIMABLE"
    return events.Effect(
        term=one.name,
        scale=SCALES.get(model, "estimate"),
        estimate=estimate,
        standard_error=one.standard_error,
        p_value=one.p_value,
    )


def statement(told: events.InsightPublished) -> str:
    """The answer in a sentence with its numbers."""
    who = f"{told.members or 'few'} patients of {len(told.sites)} sites"
    first = told.effects[0] if told.effects else None
    if first is None or not first.estimate.HasField("value"):
        return f"In {who}, the data give no estimate for {told.exposure}."
    size = f"{first.scale} {first.estimate.value:.3f}"
    if first.estimate.HasField("lower"):
        size += f" (95 % interval {first.estimate.lower:.3f} to {first.estimate.upper:.3f})"
    if first.HasField("p_value"):
        size += f", p = {first.p_value:.2g}"
    return f"In {who}, {told.exposure} goes with {told.outcome}: {first.term} {size}."


def sum_hash(total: bytes) -> bytes:
    """SHA-256 of a round's sum, for the record."""
    return hashlib.sha256(total).digest()
