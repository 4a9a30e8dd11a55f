"""The quality of a delivery: five ratios, each with its numerator and denominator, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction

from pharmaloop.exchange.v1 import events_pb2 as events
from services.refusals import Malformed


@dataclass(frozen=True, slots=True)
class Ratio:
    """`good` of `all_`; no value where there was nothing to judge."""

    good: int
    all_: int

    def __post_init__(self) -> None:
        if not 0 <= self.good <= self.all_:
            raise Malformed("BAD_RATIO", f"{self.good} of {self.all_} is no ratio of counts", "quality")

    @property
    def value(self) -> Fraction | None:
        return Fraction(self.good, self.all_) if self.all_ else None


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one delivery.

    completeness  required values that are there, of required values
    validity      rules that passed, of rules applied
    timeliness    records within the promised lag, of records
    uniqueness    records that repeat no other, of records
    consistency   coded values that are in their code list (CDISC), of coded values
    """

    completeness: Ratio
    validity: Ratio
    timeliness: Ratio
    uniqueness: Ratio
    consistency: Ratio

    def ratios(self) -> dict[str, Ratio]:
        return {
            "completeness": self.completeness,
            "validity": self.validity,
            "timeliness": self.timeliness,
            "uniqueness": self.uniqueness,
            "consistency": self.consistency,
        }


def of_measures(measures: Iterable[events.QualityMeasure]) -> Quality:
    """What a site told of its data; a ratio that it did not tell has no value. Malformed for one beyond 1."""
    told = {one.measure: Ratio(one.numerator, one.denominator) for one in measures}
    return Quality(**{one.name: told.get(one.name, Ratio(0, 0)) for one in fields(Quality)})


def score(quality: Quality, weights: Mapping[str, int] | None = None) -> Fraction | None:
    """The weighted mean of the ratios that have a value, 0 to 1; None when none has.

    Equal weights unless the contract says otherwise.
    """
    ratios = quality.ratios()
    given = dict.fromkeys(ratios, 1) if weights is None else weights
    strangers = set(given) - set(ratios)
    if strangers or any(weight < 0 for weight in given.values()):
        raise Malformed(
            "BAD_WEIGHTS",
            f"weights are non-negative, for {', '.join(ratios)}; not for {sorted(strangers)}",
            "weights",
        )
    judged = {name: ratio.value for name, ratio in ratios.items() if ratio.value is not None}
    total = sum(given.get(name, 0) for name in judged)
    if not total:
        return None
    return sum((given.get(name, 0) * value for name, value in judged.items()), Fraction(0)) / total


def score_of(measures: Iterable[events.QualityMeasure]) -> float | None:
    """The mean of the ratios that a site told; None where it told none, or no ratios."""
    try:
        found = score(of_measures(measures))
    except Malformed:
        return None
    return None if found is None else float(found)
