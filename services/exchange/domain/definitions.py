"""Is a cohort's definition one that every site can read alike? And what it says, in words.

What only a site can know (its vocabulary, its lots) the site checks itself.
"""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from services.refusals import Malformed
from services.sayings import saying

_LONGEST_DAYS = 3650
_FEW_LOTS = 3


def encoded(definition: cohort.CohortDefinition) -> bytes:
    """The definition as bytes, the same wherever it is read."""
    return definition.SerializeToString(deterministic=True)


def digest(definition: cohort.CohortDefinition) -> bytes:
    """SHA-256 of the definition."""
    return hashlib.sha256(encoded(definition)).digest()


def parameters_hash(definition: cohort.CohortDefinition, model: str, specification: str) -> bytes:
    """SHA-256 of what a job computes: definition, model and specification, each with its length."""
    parts = (encoded(definition), model.encode(), specification.encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


def check(definition: cohort.CohortDefinition) -> None:
    """Raises Malformed that names the field and the rule."""
    if not definition.product:
        raise _lacks("product", "name the product that members received")
    if not (definition.HasField("from") and definition.HasField("until")):
        raise _lacks("from", "say between which moments the first dose lies")
    begin, end = getattr(definition, "from"), definition.until
    if (end.seconds, end.nanos) <= (begin.seconds, begin.nanos):
        raise Malformed("LOW_ABOVE_HIGH", "the first dose is from a moment until a later one", _at("until"))
    _check_exposure(definition.exposure)
    _check_outcome(definition.outcome)
    _check_covariates(definition)


def _check_exposure(exposure: cohort.CohortExposure) -> None:
    match exposure.kind:
        case cohort.EXPOSURE_KIND_PARAMETER_BAND:
            ends = [getattr(exposure, end) for end in ("low", "high") if exposure.HasField(end)]
            if not exposure.tag or not exposure.unit or not ends:
                raise _lacks("exposure", "a band has a tag, a unit and at least one end")
            if not all(map(math.isfinite, ends)) or ends != sorted(set(ends)):
                said = "the ends of the band are finite, the lower one first"
                raise Malformed("OUT_OF_RANGE", said, _at("exposure.low"))
        case cohort.EXPOSURE_KIND_GENOTYPE:
            if not exposure.genotype:
                raise _lacks("exposure.genotype", "name the genotype")
        case cohort.EXPOSURE_KIND_LOTS:
            if not exposure.lots:
                raise _lacks("exposure.lots", "name the lots")
        case _:
            raise _lacks("exposure.kind", "say what makes members exposed")


def _check_outcome(outcome: cohort.CohortOutcome) -> None:
    kinds = (cohort.OUTCOME_KIND_ADVERSE_EVENT, cohort.OUTCOME_KIND_LAB_CHANGE)
    if outcome.kind not in kinds:
        raise _lacks("outcome.kind", "say what is looked for")
    if not 0 < outcome.days <= _LONGEST_DAYS:
        said = f"members are observed for 1 to {_LONGEST_DAYS} days"
        raise Malformed("OUT_OF_RANGE", said, _at("outcome.days"))
    if outcome.kind == cohort.OUTCOME_KIND_LAB_CHANGE and not (outcome.lab and outcome.unit):
        raise _lacks("outcome.lab", "name the laboratory value and its unit")


def _check_covariates(definition: cohort.CohortDefinition) -> None:
    asked = list(definition.covariates)
    if len(set(asked)) < len(asked) or cohort.COVARIATE_UNSPECIFIED in asked:
        raise Malformed("BAD_COVARIATES", "each covariate is named once", _at("covariates"))
    if cohort.COVARIATE_AGE_BAND in asked:
        bands = list(definition.age_bands)
        if len(bands) < 2 or any(b <= a for a, b in pairwise(bands)):
            said = "give the lower ends of two bands or more, rising; the first is the reference"
            raise Malformed("BAD_BANDS", said, _at("age_bands"))
    if cohort.COVARIATE_GENOTYPE in asked and not definition.genotype:
        raise _lacks("genotype", "name the genotype of the covariate")


def _at(field: str) -> str:
    return f"definition.{field}"


def _lacks(field: str, said: str) -> Malformed:
    return Malformed("REQUIRED", said, _at(field))


# -- in words ----------------------------------------------------------------


def exposure_in_words(exposure: cohort.CohortExposure) -> str:
    """What the exposed were exposed to."""
    if exposure.kind == cohort.EXPOSURE_KIND_GENOTYPE:
        return f"genotype {exposure.genotype}"
    if exposure.kind == cohort.EXPOSURE_KIND_LOTS:
        return _lots_in_words(sorted(set(exposure.lots)))
    low = f"from {exposure.low:g}" if exposure.HasField("low") else ""
    high = f"below {exposure.high:g}" if exposure.HasField("high") else ""
    return f"{exposure.tag} {' and '.join(filter(None, (low, high)))} {exposure.unit}"


def _lots_in_words(lots: list[str]) -> str:
    """Other lots are other words: findings of the same words are pooled. Many are told by their number and
    the first 12 hexadecimal digits of the SHA-256 of their names."""
    if len(lots) == 1:
        return f"lot {lots[0]}"
    if len(lots) <= _FEW_LOTS:
        return f"one of the lots {', '.join(lots)}"
    return f"one of {len(lots)} lots ({_digest(lots)})"


def _digest(lots: list[str]) -> str:
    return hashlib.sha256("|".join(lots).encode()).hexdigest()[:12]


def outcome_in_words(outcome: cohort.CohortOutcome) -> str:
    """What was looked for."""
    if outcome.kind == cohort.OUTCOME_KIND_LAB_CHANGE:
        return f"change of {outcome.lab} in {outcome.unit} within {outcome.days} days"
    terms = ", ".join(outcome.terms) or "any adverse event"
    return f"{terms} within {outcome.days} days"


def exposure_saying(exposure: cohort.CohortExposure) -> common.Saying:
    """The same words in parts."""
    if exposure.kind == cohort.EXPOSURE_KIND_GENOTYPE:
        return saying("GENOTYPE", genotype=exposure.genotype)
    if exposure.kind == cohort.EXPOSURE_KIND_LOTS:
        lots = sorted(set(exposure.lots))
        if len(lots) == 1:
            return saying("OF_LOT", lot=lots[0])
        if len(lots) <= _FEW_LOTS:
            return saying("OF_LOTS", lots=", ".join(lots))
        return saying("OF_MANY_LOTS", lots=len(lots), digest=_digest(lots))
    ends = {end: getattr(exposure, end) for end in ("low", "high") if exposure.HasField(end)}
    code = {2: "BAND", 1: "BAND_FROM" if "low" in ends else "BAND_BELOW"}.get(len(ends), "BAND_OPEN")
    return saying(code, tag=exposure.tag, unit=exposure.unit, **ends)


def outcome_saying(outcome: cohort.CohortOutcome) -> common.Saying:
    """The same words in parts."""
    if outcome.kind == cohort.OUTCOME_KIND_LAB_CHANGE:
        return saying("LAB_CHANGE", lab=outcome.lab, unit=outcome.unit, days=outcome.days)
    if not outcome.terms:
        return saying("ANY_EVENT", days=outcome.days)
    return saying("EVENTS", terms=", ".join(outcome.terms), days=outcome.days)
