"""Who belongs to a study and what is asked of them, read from the shared definition.

A site reads the definition as every other site does, and refuses one that it
cannot answer: a site that guessed would answer another question than its
peers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.exchange.v1 import cohort_pb2 as exchange
from services.clinical.domain.vocabulary import TERMS
from services.refusals import Malformed

BAND, GENOTYPE, LOTS = (
    exchange.EXPOSURE_KIND_PARAMETER_BAND,
    exchange.EXPOSURE_KIND_GENOTYPE,
    exchange.EXPOSURE_KIND_LOTS,
)
ADVERSE, LAB = exchange.OUTCOME_KIND_ADVERSE_EVENT, exchange.OUTCOME_KIND_LAB_CHANGE
_LONGEST_DAYS = 3650
_OLDEST_YEARS = 130


@dataclass(frozen=True)
class Definition:
    """A checked definition. `message` is as it was shared; `begin` <= first dose < `end`, UTC."""

    message: exchange.CohortDefinition
    begin: datetime
    end: datetime
    window: timedelta

    @property
    def product(self) -> str:
        return self.message.product

    @property
    def exposure(self) -> exchange.CohortExposure:
        return self.message.exposure

    @property
    def outcome(self) -> exchange.CohortOutcome:
        return self.message.outcome

    def asks(self, covariate: exchange.Covariate) -> bool:
        return covariate in self.message.covariates


def read(message: exchange.CohortDefinition) -> Definition:
    """The definition; Malformed names the field that breaks a rule."""
    if not message.product:
        raise Malformed("REQUIRED", "name the product that members received", "product")
    begin, end = _moment(message, "from"), _moment(message, "until")
    if end <= begin:
        raise Malformed("LOW_ABOVE_HIGH", "the first dose is from a moment until a later one", "until")
    _check_exposure(message.exposure)
    _check_outcome(message.outcome)
    _check_covariates(message)
    return Definition(message, begin, end, timedelta(days=message.outcome.days))


def _moment(message: exchange.CohortDefinition, field: str) -> datetime:
    if not message.HasField(field):
        raise Malformed("REQUIRED", "say between which moments the first dose lies", field)
    stamp: Timestamp = getattr(message, field)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        said = "the moment is none between the years 1 and 9999"
        raise Malformed("OUT_OF_RANGE", said, field) from None


def _check_exposure(exposure: exchange.CohortExposure) -> None:
    if exposure.kind == BAND:
        _check_band(exposure)
    elif exposure.kind == GENOTYPE:
        if not exposure.genotype:
            raise Malformed("REQUIRED", "name the genotype that makes members exposed", "exposure.genotype")
    elif exposure.kind == LOTS:
        if not exposure.lots:
            raise Malformed("REQUIRED", "name the lots that make members exposed", "exposure.lots")
    else:
        raise Malformed("REQUIRED", "say what makes members exposed", "exposure.kind")


def _check_band(exposure: exchange.CohortExposure) -> None:
    if not exposure.tag:
        raise Malformed("REQUIRED", "name the tag whose band makes members exposed", "exposure.tag")
    if not exposure.unit:
        raise Malformed("REQUIRED", "give the band's unit as a UCUM code", "exposure.unit")
    ends = [end for end in ("low", "high") if exposure.HasField(end)]
    if not ends:
        raise Malformed("REQUIRED", "give the band's lower or upper end", "exposure.low")
    for end in ends:
        if not math.isfinite(getattr(exposure, end)):
            raise Malformed("NOT_FINITE", "an end of the band is a finite number", f"exposure.{end}")
    if len(ends) == 2 and exposure.low >= exposure.high:
        said = "the band's lower end lies below its upper end; exchange them"
        raise Malformed("LOW_ABOVE_HIGH", said, "exposure.low")


def _check_outcome(outcome: exchange.CohortOutcome) -> None:
    if outcome.kind not in (ADVERSE, LAB):
        raise Malformed("REQUIRED", "say what is looked for", "outcome.kind")
    if not 0 < outcome.days <= _LONGEST_DAYS:
        said = f"members are observed for 1 to {_LONGEST_DAYS} days"
        raise Malformed("OUT_OF_RANGE", said, "outcome.days")
    for n, term in enumerate(outcome.terms):
        if term not in TERMS:
            said = f"{term!r} is no term of the vocabulary; GetVocabulary shows it"
            raise Malformed("UNKNOWN_CODE", said, f"outcome.terms[{n}]")
    if outcome.kind == LAB:
        if not outcome.lab:
            raise Malformed("REQUIRED", "give the LOINC code of the laboratory value", "outcome.lab")
        if not outcome.unit:
            raise Malformed("REQUIRED", "give the value's unit as a UCUM code", "outcome.unit")


def _check_covariates(message: exchange.CohortDefinition) -> None:
    seen: set[int] = set()
    for n, covariate in enumerate(message.covariates):
        field = f"covariates[{n}]"
        if covariate not in exchange.Covariate.values()[1:]:
            raise Malformed("UNKNOWN_CODE", "the covariate is of a later contract, or none", field)
        if covariate in seen:
            raise Malformed("DUPLICATE", "a covariate is named once", field)
        seen.add(covariate)
    if exchange.COVARIATE_AGE_BAND in seen:
        _check_ages(list(message.age_bands))
    if exchange.COVARIATE_GENOTYPE in seen and not message.genotype:
        raise Malformed("REQUIRED", "name the genotype that is the covariate", "genotype")
    if exchange.COVARIATE_LAB_BEFORE in seen and message.outcome.kind != LAB:
        said = (
            "the value before is that of a laboratory outcome; leave it out, or look for a laboratory value"
        )
        raise Malformed("CONTRADICTS", said, "covariates")


def _check_ages(bands: list[int]) -> None:
    if len(bands) < 2:
        said = "give the lower ends of two bands at least; the first is the reference"
        raise Malformed("REQUIRED", said, "age_bands")
    if any(not 0 <= age <= _OLDEST_YEARS for age in bands) or any(b <= a for a, b in pairwise(bands)):
        raise Malformed(
            "OUT_OF_RANGE", f"the bands begin at rising ages of 0 to {_OLDEST_YEARS}", "age_bands"
        )
