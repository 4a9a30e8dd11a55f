"""From what a job found to the answer that is published: effects, counts, flags, a sentence."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain import bands, definitions
from services.exchange.domain.stats.protocol import Estimate, Result, canonical
from services.sayings import saying

SCALES = {
    "linear": "difference",
    "logistic": "log-odds",
    "poisson": "log-rate",
    "cox": "log-hazard",
    "cox_grid": "log-hazard",
}
EXPOSED = "exposed"
_DESCRIBED = {
    bands.TOO_FEW: f"it is only described, for the lots are fewer than {bands.FEWEST_LOTS} inside or outside",
    bands.NOT_COUNTED: "it is only described, for the lots were not counted (clusters.exposure)",
}
#: Models whose answer is no list of estimates, and what is told of it.
_DESCRIPTIONS = ("counts", "moments", "histogram", "quantiles", "kaplan_meier")
_TOLD = ("by", "cells", "moments", "bins", "curves", "noise")
#: A count of patients from 1 to one less is not told.
SMALLEST_COUNT = 10


def insight(
    name: str, study: events.StudyRequested, job: events.JobOpened, sites: Sequence[str], result: Result
) -> events.InsightPublished:
    """The answer; `name` is its id, `sites` those that answered. The effect of the exposure comes first."""
    estimates = sorted(result.estimates, key=lambda one: one.name != EXPOSED)
    inside, outside = bands.lots(result.tables)
    by_lot = study.definition.exposure.kind == cohort.EXPOSURE_KIND_PARAMETER_BAND
    only = bands.described(inside, outside) if by_lot else None
    flags = [*result.flags, *([only] if only else [])]
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
        effects=[_effect(_bare(one) if only else one, study.model) for one in estimates],
        members=members,
        events=found,
        sites=sites,
        epsilon=study.epsilon,
        flags=flags,
        parameters_hash=job.parameters_hash,
        rounds=result.rounds,
        lots=inside or 0,
        tables=_tables(result),
        exposure_saying=definitions.exposure_saying(study.definition.exposure),
        outcome_saying=definitions.outcome_saying(study.definition.outcome),
    )
    told.statement = statement(told) + _noise_in_words(result)
    told.statement_sayings.extend([_answer(told), *_described(told), *_noise(result)])
    return told


def _noise_in_words(result: Result) -> str:
    """What noise is in the numbers, and what it costs a patient; empty where there is none."""
    noise = result.tables.get("noise")
    if noise is None:
        return ""
    return (
        f" Every sum has noise of standard deviation {noise['standard_deviation']:.3g} for differential "
        f"privacy: epsilon {noise['epsilon']:g}, delta {noise['delta']:g} ({noise['accountant']})."
    )


def _tables(result: Result) -> str:
    """What a description found, its small cells joined or withheld already; what a fit keeps for itself is
    not told."""
    told = {name: result.tables[name] for name in _TOLD if name in result.tables}
    return canonical(told) if told and result.model in _DESCRIPTIONS else ""


def _bare(one: Estimate) -> Estimate:
    """What was seen, without what it would claim of others."""
    return Estimate(one.name, one.value)


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
    who = f"In {told.members or 'few'} patients of {len(told.sites)} sites, {told.outcome}"
    first = told.effects[0] if told.effects else None
    if first is None or not first.estimate.HasField("value"):
        return f"{who}: the data give no estimate for {told.exposure}."
    name = "" if first.term == EXPOSED else f"{first.term}, "
    size = f"{name}{first.scale} {first.estimate.value:.3f}"
    only = _DESCRIBED.keys() & set(told.flags)
    if only:
        return f"{who}: {told.exposure}: {size} was seen; {_DESCRIBED[only.pop()]}."
    if first.estimate.HasField("lower"):
        size += f" (95 % interval {first.estimate.lower:.3f} to {first.estimate.upper:.3f})"
    if first.HasField("p_value"):
        size += f", p = {first.p_value:.2g}"
    return f"{who}, by {told.exposure}: {size}."


def _answer(told: events.InsightPublished) -> common.Saying:
    """The answer in parts."""
    about: dict[str, common.Saying | int] = {
        "members": told.members or saying("FEW"),
        "sites": len(told.sites),
        "exposure": told.exposure_saying,
        "outcome": told.outcome_saying,
    }
    first = told.effects[0] if told.effects else None
    if first is None or not first.estimate.HasField("value"):
        return saying("NO_ESTIMATE_OF", **about)
    scale: str | common.Saying = f"scale.{first.scale}"
    if first.term != EXPOSED:
        scale = saying("SCALE_OF", term=first.term, scale=scale)
    code, values = "EFFECT", {"value": round(first.estimate.value, 3)}
    if _only(told):
        return saying("ONLY_SEEN", **about, effect=saying(code, scale=scale, **values))
    if first.estimate.HasField("lower"):
        code += "_WITHIN"
        values |= {"low": round(first.estimate.lower, 3), "high": round(first.estimate.upper, 3)}
    if first.HasField("p_value"):
        code += "_P"
        values |= {"p": float(f"{first.p_value:.2g}")}
    return saying("STUDY_FOUND", **about, effect=saying(code, scale=scale, **values))


def _only(told: events.InsightPublished) -> str:
    """The flag for which an answer is only described; empty where it is estimated."""
    return next((flag for flag in told.flags if flag in _DESCRIBED), "")


def _described(told: events.InsightPublished) -> list[common.Saying]:
    only = _only(told)
    if not only or not told.effects or not told.effects[0].estimate.HasField("value"):
        return []
    if only == bands.TOO_FEW:
        return [saying("FEW_LOTS", fewest=bands.FEWEST_LOTS)]
    return [saying("LOTS_NOT_COUNTED")]


def _noise(result: Result) -> list[common.Saying]:
    noise = result.tables.get("noise")
    if noise is None:
        return []
    return [
        saying(
            "NOISE",
            deviation=float(f"{noise['standard_deviation']:.3g}"),
            epsilon=float(noise["epsilon"]),
            delta=f"{noise['delta']:g}",
            accountant=str(noise["accountant"]),
        )
    ]


def sum_hash(total: bytes, seeds: Mapping[str, bytes]) -> bytes:
    """HMAC-SHA256 of a round's sum under the masks that the sites opened for it (by site, 32 bytes each).

    A sum may be a few small counts: a hash of it alone would be tried out by whoever reads the record,
    those counts included that are withheld. The sites together can still show what was summed.
    """
    key = hashlib.sha256(b"".join(seeds[site] for site in sorted(seeds))).digest()
    return hmac.digest(key, total, "sha256")
