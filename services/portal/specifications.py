"""A specification to begin with: that of a model over the columns which a cohort's definition makes.

Sites name the columns: `exposed`; `event` and `time_days` where adverse events are looked for, `change` where
a laboratory value is; `age_65` and the like, `female`, `genotype` for covariates. A person completes it: the
range of a value is agreed before anybody looks at the data, and the errors by lot name the lots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Thresholds of protection as the platform has them; a study may ask for stricter ones.
_PROTECTION = {
    "contributing_at_least": 3,
    "sites_at_least": 2,
    "cells_at_least": 3,
    "parameters_per_row": 0.33,
}
#: How far a laboratory value is taken to change, until a person says it.
_CHANGE = 10.0
_WEEK = 7


@dataclass(frozen=True)
class Asked:
    """What of a definition a specification depends on."""

    #: Is the change of a laboratory value looked for, and not an event?
    change: bool
    days: int
    #: Columns of covariates that are yes or no.
    indicators: Sequence[str] = ()

    @property
    def measured(self) -> dict[str, Any]:
        """The column of numbers that the definition makes, with its range."""
        if self.change:
            return {"column": "change", "low": -_CHANGE, "high": _CHANGE}
        return {"column": "time_days", "low": 0.0, "high": float(self.days)}

    @property
    def weeks(self) -> list[int]:
        """Times on which sites agree: every week, and the last day."""
        return [*range(_WEEK, self.days, _WEEK), self.days]


_LEVELS = ["0", "1"]
_EXPOSED = {"column": "exposed", "levels": _LEVELS}
_TIME = {"time": "time_days", "event": "event"}


def _terms(asked: Asked) -> dict[str, Any]:
    return {"terms": [{"column": one, "low": 0.0, "high": 1.0} for one in ("exposed", *asked.indicators)]}


def _counts(asked: Asked) -> dict[str, Any]:
    return {"by": [_EXPOSED, *([] if asked.change else [{"column": "event", "levels": _LEVELS}])]}


_MADE: Mapping[str, Callable[[Asked], dict[str, Any]]] = {
    "counts": _counts,
    "moments": lambda asked: {"columns": [asked.measured]},
    "histogram": lambda asked: {**asked.measured, "width": 1.0},
    "quantiles": lambda asked: {**asked.measured, "width": 1.0, "at": [0.25, 0.5, 0.75]},
    "linear": lambda asked: {"outcome": asked.measured, **_terms(asked)},
    "logistic": lambda asked: {"outcome": {"column": "event"}, **_terms(asked)},
    "poisson": lambda asked: {"outcome": {"column": "event", "high": 1.0}, **_terms(asked)},
    "cox": lambda asked: {**_TIME, **_terms(asked)},
    "cox_grid": lambda asked: {**_TIME, "grid": asked.weeks, **_terms(asked)},
    "kaplan_meier": lambda asked: {**_TIME, "groups": _EXPOSED, "grid": asked.weeks},
    "log_rank": lambda asked: {**_TIME, "groups": _EXPOSED},
    "mantel_haenszel": lambda asked: {"outcome": "event", "exposure": "exposed"},
}
#: Models by the names that exchange gives them.
MODELS = tuple(_MADE)


def proposed(model: str, asked: Asked) -> dict[str, Any]:
    """The specification of a model; empty for one that is not known here."""
    made = _MADE.get(model)
    return made(asked) | _PROTECTION if made else {}
