"""What a coalition's fit is worth: the share of the outcome's deviance that it explains, from sums alone.

    logistic, poisson   1 - exp(-(2 / n) (L - L0)), of Cox and Snell (Analysis of
                        Binary Data, 1989) and Maddala (1983)
    linear              1 - squares / squares of the mean alone, the same measure
                        with the variance fitted as well

L is the log-likelihood of all patients of the job at the coalition's estimate,
L0 that of the model without terms fitted to all of them, n their number. An AUC
needs each patient's score, which no site tells; this needs one more sum. It is
bounded, clipped to 0 to 1, so that no bad fit of a small site decides
everything; nobody's value is 0, that of the model without terms; and all
coalitions are measured on the same patients, so that values can be compared.
"""

from __future__ import annotations

import math

from services.exchange.domain.stats.protocol import Spec
from services.exchange.domain.stats.reading import PUBLIC

#: Models whose sums tell the log-likelihood, and at their first point that of the model without terms.
MODELS = frozenset({"linear", "logistic", "poisson"})
#: What only the errors of an estimate need, and not the estimate.
_ERRORS = ("errors", "clusters")


def specification(spec: Spec) -> Spec:
    """The job's specification as coalitions are fitted, alike at the evaluator and at every site.

    Without what only standard errors need; and without the least numbers of
    sites and cells, which the fit of one site would always break: its sums go
    to the evaluator alone. A term that no member has is left out.
    """
    kept = {name: value for name, value in spec.items() if name not in _ERRORS}
    return {**kept, **PUBLIC, "one_site": "drop"}


def explained(log_likelihood: float, null: float, n: float) -> float:
    """The share for logistic and poisson, 0 to 1; 0 where a number is not finite."""
    gain = 2 * (log_likelihood - null) / n if n > 0 else 0.0
    return _clipped(1 - math.exp(-gain)) if math.isfinite(gain) and gain > 0 else 0.0


def of_squares(residual: float, total: float) -> float:
    """The share for linear, from sums of squares in the same unit; 0 where a number is not finite."""
    return _clipped(1 - residual / total) if total > 0 and math.isfinite(residual) else 0.0


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))
