"""An effect that was published, and the hypothesis that it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import Literal, TypeAlias, get_args

from services.refusals import Malformed
from services.rnd.domain.errors import named, out_of_range

#: `ratio`: of risks, rates, odds or hazards, with no effect at 1; `difference`: no effect at 0.
Scale: TypeAlias = Literal["ratio", "difference"]
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Insight:
    """What an analysis of clinical use found. Raises Malformed.

    `effect` with its interval `low` to `high` of the stated `level`; `n` patients at `sites` sites. `model`
    is what computed it; `epsilon` the privacy budget spent, None where the statistics are exact (the
    interval holds the noise added). A later insight of the same `study` replaces its earlier ones.
    `event` is the id of the event that told it, `at` when. `provenance`: hashes and rounds, by name.
    """

    insight: str
    event: str
    at: datetime
    study: str
    hypothesis: str
    question: str
    scale: Scale
    effect: float
    low: float
    high: float
    n: int
    sites: int
    model: str
    level: float = 0.95
    epsilon: float | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("insight", "event", "study", "hypothesis", "question", "model"):
            named(getattr(self, name), name)
        dated(self.at, "at")
        check_scale(self.scale)
        least = 0.0 if self.scale == "ratio" else -math.inf
        if not least < self.low <= self.effect <= self.high < math.inf or self.low == self.high:
            said = "the effect lies in its interval, which is wider than a point"
            raise out_of_range(
                said + (", all above 0" if self.scale == "ratio" else ", all finite"), "effect"
            )
        if not 0.5 <= self.level < 1:
            raise out_of_range("the level of the interval is from 0.5 to below 1, for example 0.95", "level")
        if self.n < 1:
            raise out_of_range("an insight is about at least one patient", "n")
        if self.sites < 1:
            raise out_of_range("an insight comes from at least one site", "sites")
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise out_of_range("epsilon is above 0 and finite, or none for exact statistics", "epsilon")

    @property
    def estimate(self) -> float:
        """The effect where no effect is 0: the logarithm of a ratio."""
        return on_line(self.scale, self.effect)

    @property
    def error(self) -> float:
        """The standard error of the estimate, from the width of the interval."""
        width = on_line(self.scale, self.high) - on_line(self.scale, self.low)
        return width / (2 * _NORMAL.inv_cdf((1 + self.level) / 2))


@dataclass(frozen=True)
class Hypothesis:
    """What is believed of a candidate: that the effect is on the `expected` side. Raises Malformed.

    `expected` is `below` or `above` no effect (a ratio of bleedings is hoped to be below).
    `least_effect` is the smallest that matters, on the scale itself (0.9 for a ratio; None: any);
    an insight counts from `least_n` patients at `least_sites` sites on.
    """

    hypothesis: str
    candidate: str
    statement: str
    scale: Scale
    expected: Literal["below", "above"]
    least_effect: float | None = None
    least_n: int = 100
    least_sites: int = 2

    def __post_init__(self) -> None:
        for name in ("hypothesis", "candidate", "statement"):
            named(getattr(self, name), name)
        check_scale(self.scale)
        if self.expected not in ("below", "above"):
            raise Malformed("UNKNOWN", "the expected side is below or above", "expected")
        if self.least_n < 1 or self.least_sites < 1:
            field = "least_n" if self.least_n < 1 else "least_sites"
            raise out_of_range("an insight counts from at least 1 patient at 1 site on", field)
        if self.least_effect is not None:
            usable = math.isfinite(self.least_effect) and (
                self.scale == "difference" or self.least_effect > 0
            )
            if not usable or self.sign * on_line(self.scale, self.least_effect) < 0:
                raise out_of_range("the least effect lies on the expected side of no effect", "least_effect")

    @property
    def sign(self) -> int:
        return 1 if self.expected == "above" else -1

    @property
    def least(self) -> float:
        """The least effect where no effect is 0 and the expected side is above."""
        return 0.0 if self.least_effect is None else self.sign * on_line(self.scale, self.least_effect)


def on_line(scale: Scale, value: float) -> float:
    """The value where no effect is 0."""
    return math.log(value) if scale == "ratio" else value


def check_scale(scale: str) -> None:
    if scale not in get_args(Scale):
        raise Malformed("UNKNOWN", f"the scale is one of {', '.join(get_args(Scale))}", "scale")


def dated(at: datetime, field: str) -> None:
    """Raises Malformed for a moment without its offset from UTC."""
    if at.tzinfo is None:
        raise Malformed("MALFORMED", f"{field} is a moment with its offset from UTC", field)
