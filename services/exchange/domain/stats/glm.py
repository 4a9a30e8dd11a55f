"""Linear, logistic and Poisson regression: equal to the fit of all rows in one place.

With eta = z b (and the logarithm of the exposure), r = y - mean, w = variance:

    gradient sum z r,   information sum w z z',   third derivatives sum w' z z z (Firth)

    linear     mean = eta of the scaled outcome, w = 1; t with n - p degrees of freedom, G - 1 of G lots
    logistic   mean = 1 / (1 + exp(-eta)), w = mean (1 - mean)
    poisson    mean = exp(eta), w = mean

The log-likelihoods are complete (with the terms that do not depend on b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import clusters, columns
from services.exchange.domain.stats.clusters import Count
from services.exchange.domain.stats.fitted import (
    Fitted,
    Learnt,
    Point,
    Regression,
    Solved,
    Sums,
    scaling,
    third_places,
)
from services.exchange.domain.stats.inference import wald
from services.exchange.domain.stats.newton import Evaluation, square, triangle
from services.exchange.domain.stats.protocol import Columns, Part, Result, State, Vector, part
from services.exchange.domain.stats.reading import Fields, Measured, measured
from services.refusals import Malformed


@dataclass(frozen=True, eq=False)
class Rows:
    """Of each row: residual, variance, derivative of the variance, log-likelihood."""

    residual: Vector
    weight: Vector
    slope: Vector
    log_likelihood: Vector


class Glm(Fitted):
    """What the three have in common."""

    errors = ("model", "robust", "cluster")

    def rows(self, spec: Regression, point: Point, eta: Vector, table: Columns) -> Rows | None:
        raise NotImplementedError

    def bounds(self, spec: Regression, point: Point, eta: float) -> tuple[float, float, float]:
        """The largest residual, weight and absolute log-likelihood of a row, of |eta| up to `eta`."""
        raise NotImplementedError

    def residual_bound(self, spec: Regression, point: Point) -> float:
        return self.bounds(spec, point, self._eta(spec, point))[0]

    def _eta(self, spec: Regression, point: Point) -> float:
        return float(np.abs(point.beta) @ point.frame.reach(spec.terms, spec.intercept))

    def fit_parts(self, spec: Regression, point: Point) -> list[Part]:
        reach = point.frame.reach(spec.terms, spec.intercept)
        most = spec.rules.rows_at_most
        residual, weight, log_likelihood = self.bounds(spec, point, self._eta(spec, point))
        size = len(reach)
        found = [
            part("log_likelihood", 1, most * log_likelihood),
            part("gradient", size, most * residual * reach),
            part("information", size * (size + 1) // 2, most * weight * triangle(np.outer(reach, reach))),
        ]
        if point.firth:
            places = third_places(size)
            third = np.array([reach[i] * reach[j] * reach[k] for i, j, k in places])
            found.append(part("third", len(places), most * weight * third))
        return found

    def fit(self, spec: Regression, point: Point, raw: Vector, table: Columns) -> Sums | None:
        z = point.frame.scaled(raw, spec.intercept)
        row = self.rows(spec, point, z @ point.beta, table)
        if row is None:
            return None
        found = {
            "log_likelihood": np.array([row.log_likelihood.sum()]),
            "gradient": z.T @ row.residual,
            "information": triangle((z * row.weight[:, None]).T @ z),
        }
        if point.firth:
            found["third"] = np.array(
                [np.sum(row.slope * z[:, i] * z[:, j] * z[:, k]) for i, j, k in third_places(z.shape[1])]
            )
        return found

    def evaluation(self, spec: Regression, point: Point, total: Sums) -> Evaluation:
        value = float(total["log_likelihood"][0])
        return Evaluation(value, total["gradient"], square(total["information"], len(point.beta)), value)

    def scores(self, spec: Regression, point: Point, raw: Vector, table: Columns) -> tuple[Vector, float]:
        z = point.frame.scaled(raw, spec.intercept)
        row = self.rows(spec, point, z @ point.beta, table)
        if row is None:
            raise Unfit("OVERFLOW", "a mean is beyond what the layout allows; narrow the ranges", "terms")
        return z * row.residual[:, None], self.residual_bound(spec, point)

    def covariance(
        self, spec: Regression, state: State, solved: Solved, variance: float
    ) -> tuple[Vector, Count | None]:
        """Of the scaled coefficients, and the count of clusters; None where errors are not by cluster."""
        found, memo = spec.clusters, state.memo
        if found is None:
            return solved.bread * variance, None
        covariance, count = clusters.sandwich(
            found,
            solved.bread,
            memo["scores"],
            memo["clusters"],
            memo["clusters_exposed"],
            memo["n"],
            solved.names.index(found.exposure) if found.exposure in solved.names else None,
        )
        return covariance, count if found.column else None

    def told(
        self,
        spec: Regression,
        state: State,
        solved: Solved,
        covariance: Vector,
        shift: float = 0.0,
        stretch: float = 1.0,
        count: Count | None = None,
        degrees: float | None = None,
        log_likelihood: float | None = None,
        tables: dict[str, Any] | None = None,
    ) -> Result:
        """The result in the units of the data; `degrees` of Student's t where there are no clusters."""
        back, constant = solved.point.frame.back(spec.intercept, shift, stretch)
        beta = back @ solved.beta + constant
        whole = back @ covariance @ back.T
        errors = np.sqrt(np.maximum(np.diag(whole), 0.0))
        value = solved.last.log_likelihood if log_likelihood is None else log_likelihood
        more = {"standardisation": scaling(spec, solved.point.frame), **(tables or {})}
        own: dict[str, float] = {}
        if count is not None and spec.clusters is not None:
            degrees = count.clusters - 1
            more |= {**count.tables(), "degrees_of_freedom": degrees}
            own_degrees = count.degrees()
            if own_degrees is not None:
                own[spec.clusters.exposure] = own_degrees
                more["degrees_of_freedom_exposure"] = own_degrees
        if solved.last.value != solved.last.log_likelihood:
            more["penalised_log_likelihood"] = solved.last.value
        return Result(
            self.name,
            _estimates(solved.names, beta, errors, spec.level, degrees, own),
            int(state.memo["n"]),
            state.round,
            state.memo["events"],
            value,
            solved.flags,
            tuple(tuple(row) for row in whole.tolist()) if np.all(np.isfinite(whole)) else (),
            more,
        )


def _estimates(
    names: Sequence[str],
    beta: Vector,
    errors: Vector,
    level: float,
    degrees: float | None,
    own: Mapping[str, float],
) -> tuple[Any, ...]:
    """`own`: degrees of freedom of the estimates that have others than the rest."""
    return tuple(
        wald(name, float(value), float(error), level, own.get(name, degrees))
        for name, value, error in zip(names, beta, errors, strict=True)
    )


class Linear(Glm):
    """The outcome is scaled as the columns are: y = shift + stretch times what is fitted."""

    name = "linear"

    def read_own(self, fields: Fields) -> Measured:
        inner = fields.needed("outcome")
        found = measured(inner)
        fields.out["outcome"] = inner.out
        return found

    def outcome(self, spec: Regression, table: Columns) -> Vector:
        return columns.within(table, spec.own)

    def own_moment_parts(self, spec: Regression) -> list[Part]:
        most = spec.rules.rows_at_most
        return [part("outcome", 1, most), part("outcome_square", 1, most)]

    def own_moments(self, spec: Regression, table: Columns) -> Sums:
        u = (self.outcome(spec, table) - spec.own.middle) / spec.own.half
        return {"outcome": np.array([u.sum()]), "outcome_square": np.array([(u**2).sum()])}

    def learn(self, spec: Regression, total: Sums, n: float) -> Learnt:
        mean = float(total["outcome"][0]) / n
        variance = float(total["outcome_square"][0]) / n - mean**2
        if variance < 1e-10:
            said = "the outcome does not vary over all rows (or hardly within its range)"
            raise Unfit("CONSTANT_OUTCOME", said, "outcome")
        if n <= len(spec.terms) + spec.intercept:
            raise Unfit("TOO_MANY_PARAMETERS", "a linear fit needs more rows than parameters", "terms")
        shift = spec.own.middle + spec.own.half * mean if spec.intercept else 0.0
        return Learnt(own=(shift, math.sqrt(variance) * spec.own.half))

    def takes(self, spec: Regression, own: tuple[float, ...]) -> bool:
        return len(own) == 2 and own[1] > 0

    def bounds(self, spec: Regression, point: Point, eta: float) -> tuple[float, float, float]:
        shift, stretch = point.own
        far = max(abs(spec.own.low - shift), abs(spec.own.high - shift)) / stretch + eta
        return far, 1.0, far**2 / 2

    def rows(self, spec: Regression, point: Point, eta: Vector, table: Columns) -> Rows:
        shift, stretch = point.own
        residual = (self.outcome(spec, table) - shift) / stretch - eta
        return Rows(residual, np.ones(len(eta)), np.zeros(len(eta)), -(residual**2) / 2)

    def conclude(self, spec: Regression, state: State, solved: Solved) -> Result:
        shift, stretch = solved.point.own
        n, width = state.memo["n"], len(solved.beta)
        squares = -2 * solved.last.log_likelihood
        variance = squares / (n - width)
        covariance, count = self.covariance(spec, state, solved, variance)
        degrees = n - width
        mean_square = squares * stretch**2 / n
        log_likelihood = -n / 2 * (math.log(2 * math.pi * mean_square) + 1) if mean_square > 0 else None
        tables = {"residual_variance": variance * stretch**2, "degrees_of_freedom": degrees}
        return self.told(
            spec, state, solved, covariance, shift, stretch, count, degrees, log_likelihood, tables
        )


class Logistic(Glm):
    """Of an outcome that is 0 or 1."""

    name = "logistic"
    fallbacks = ("refuse", "ridge", "firth")
    default_fallback = "firth"

    def read_own(self, fields: Fields) -> str:
        inner = fields.needed("outcome")
        column = inner.text("column")
        fields.out["outcome"] = inner.finish()
        return column

    def outcome(self, spec: Regression, table: Columns) -> Vector:
        return columns.zero_one(table, spec.own)

    def own_moment_parts(self, spec: Regression) -> list[Part]:
        return [part("events", 1, spec.rules.rows_at_most)]

    def own_moments(self, spec: Regression, table: Columns) -> Sums:
        return {"events": np.array([self.outcome(spec, table).sum()])}

    def learn(self, spec: Regression, total: Sums, n: float) -> Learnt:
        events = round(float(total["events"][0]))
        rarer = min(events, round(n) - events)
        if rarer < max(spec.rules.cells_at_least, 1):
            said = f"fewer than {max(spec.rules.cells_at_least, 1)} rows have one of the two outcomes"
            raise Unfit("SMALL_CELL", said, "outcome")
        return Learnt(events, intercept=math.log(events / (n - events)))

    def bounds(self, spec: Regression, point: Point, eta: float) -> tuple[float, float, float]:
        return 1.0, 0.25, eta + math.log(2)

    def rows(self, spec: Regression, point: Point, eta: Vector, table: Columns) -> Rows:
        y = self.outcome(spec, table)
        mean = special.expit(eta)
        # 1 - mean loses its digits where mean is near 1: the tail is computed by itself.
        other = special.expit(-eta)
        weight = mean * other
        log_likelihood = -np.logaddexp(0.0, np.where(y == 1, -eta, eta))
        return Rows(np.where(y == 1, other, -mean), weight, weight * (other - mean), log_likelihood)

    def conclude(self, spec: Regression, state: State, solved: Solved) -> Result:
        covariance, count = self.covariance(spec, state, solved, 1.0)
        return self.told(spec, state, solved, covariance, count=count)


@dataclass(frozen=True)
class Counted:
    """A count up to `high`, and the time or number it was counted in, if rows differ in it."""

    outcome: Measured
    exposure: Measured | None

    @property
    def mean_at_most(self) -> float:
        """A fitted mean beyond this is no fit: the step is halved instead."""
        return 10 * (self.outcome.high + 1)


class Poisson(Glm):
    """Of a count, with an exposure whose logarithm has the coefficient 1."""

    name = "poisson"

    def read_own(self, fields: Fields) -> Counted:
        inner = fields.needed("outcome")
        outcome = measured(inner, 0.0)
        fields.out["outcome"] = inner.out
        exposure = None
        within = fields.inner("exposure")
        if within is not None:
            exposure = measured(within)
            if exposure.low <= 0:
                said = "an exposure is greater than 0, and so is its low"
                raise Malformed("OUT_OF_RANGE", said, within.field("low"))
            fields.out["exposure"] = within.out
        return Counted(outcome, exposure)

    def outcome(self, spec: Regression, table: Columns) -> tuple[Vector, Vector]:
        y = columns.counts(table, spec.own.outcome)
        if spec.own.exposure is None:
            return y, np.ones(len(y))
        return y, columns.within(table, spec.own.exposure)

    def own_moment_parts(self, spec: Regression) -> list[Part]:
        most, exposure = spec.rules.rows_at_most, spec.own.exposure
        return [
            part("events", 1, most * spec.own.outcome.high),
            part("exposure", 1, most * (exposure.high if exposure else 1.0)),
        ]

    def own_moments(self, spec: Regression, table: Columns) -> Sums:
        y, exposure = self.outcome(spec, table)
        return {"events": np.array([y.sum()]), "exposure": np.array([exposure.sum()])}

    def learn(self, spec: Regression, total: Sums, n: float) -> Learnt:
        events = round(float(total["events"][0]))
        if events < max(spec.rules.cells_at_least, 1):
            said = f"fewer than {max(spec.rules.cells_at_least, 1)} events were counted"
            raise Unfit("SMALL_CELL", said, "outcome")
        return Learnt(events, intercept=math.log(events / float(total["exposure"][0])))

    def bounds(self, spec: Regression, point: Point, eta: float) -> tuple[float, float, float]:
        most, high, exposure = spec.own.mean_at_most, spec.own.outcome.high, spec.own.exposure
        ends = (exposure.low, exposure.high) if exposure else (1.0,)
        log_mean = eta + max(abs(math.log(end)) for end in ends)
        return most, most, high * log_mean + most + math.lgamma(high + 1)

    def rows(self, spec: Regression, point: Point, eta: Vector, table: Columns) -> Rows | None:
        y, exposure = self.outcome(spec, table)
        log_mean = eta + np.log(exposure)
        if len(eta) and log_mean.max() > math.log(spec.own.mean_at_most):
            return None
        mean = np.exp(log_mean)
        return Rows(y - mean, mean, mean, y * log_mean - mean - special.gammaln(y + 1))

    def conclude(self, spec: Regression, state: State, solved: Solved) -> Result:
        covariance, count = self.covariance(spec, state, solved, 1.0)
        return self.told(spec, state, solved, covariance, count=count)
