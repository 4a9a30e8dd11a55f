"""Cox regression with Efron's ties: stratified by site, from sums of gradients; and on an agreed grid.

Of a stratum and a time of death t, with d deaths D among those at risk R, and
f = l / d for l = 0 .. d - 1 (Efron, J Am Stat Assoc 1977;72:557):

    a = S0_R - f S0_D,  v = S1_R - f S1_D,  S2 alike;  S_k = sums of exp(zb), z exp(zb), zz' exp(zb)
    log-likelihood   sum_D zb - sum_l log a
    gradient         sum_D z - sum_l v / a
    information      sum_l [(S2_R - f S2_D) / a - vv' / a^2]

`cox`: each site is its own stratum (and so is each level of `strata` within it).
Only the sums over t leave a site: no time of a death does. This is the default.

`cox_grid`: one baseline for all sites. The sums over sites are needed at each
time of death, so times are agreed beforehand: a time counts as the next grid time
from it on. The estimate is that of the pooled rows with their times so rounded.
Before the first fit the deaths of each grid time are summed; where fewer people
died than agreed, grid times are joined with their neighbours or the job refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns, grid
from services.exchange.domain.stats.fitted import (
    Fitted,
    Learnt,
    Point,
    Regression,
    Solved,
    Sums,
    scaling,
)
from services.exchange.domain.stats.inference import wald
from services.exchange.domain.stats.newton import Evaluation, square, triangle
from services.exchange.domain.stats.protocol import Columns, Part, Result, State, Vector, part
from services.exchange.domain.stats.reading import Fields, Levels, levels


@dataclass(frozen=True)
class Survival:
    """The columns of time and event, strata within a site, and the grid (empty: none)."""

    time: str
    event: str
    strata: Levels | None = None
    grid: tuple[float, ...] = ()
    risk_at_most: float = 0.0


class _Cox(Fitted):
    has_intercept = False

    def outcome(self, spec: Regression, table: Columns) -> tuple[Vector, Vector]:
        return columns.times(table, spec.own.time), columns.zero_one(table, spec.own.event)

    def enough(self, spec: Regression, events: int) -> None:
        """Raises Unfit for fewer events than agreed, or none."""
        least = max(spec.rules.cells_at_least, 1)
        if events < least:
            raise Unfit("SMALL_CELL", f"fewer than {least} events were seen", "event")

    def conclude(self, spec: Regression, state: State, solved: Solved) -> Result:
        back, _ = solved.point.frame.back(False)
        beta, whole = back @ solved.beta, back @ solved.bread @ back.T
        errors = np.sqrt(np.maximum(np.diag(whole), 0.0))
        tables: dict[str, Any] = {"standardisation": scaling(spec, solved.point.frame)}
        tables.update(state.memo["known"])
        if solved.last.value != solved.last.log_likelihood:
            tables["penalised_log_likelihood"] = solved.last.value
        return Result(
            self.name,
            tuple(
                wald(name, float(value), float(error), spec.level)
                for name, value, error in zip(solved.names, beta, errors, strict=True)
            ),
            int(state.memo["n"]),
            state.round,
            state.memo["events"],
            solved.last.log_likelihood,
            solved.flags,
            tuple(tuple(row) for row in whole.tolist()) if np.all(np.isfinite(whole)) else (),
            tables,
        )


class Cox(_Cox):
    """Stratified by site."""

    name = "cox"

    def read_own(self, fields: Fields) -> Survival:
        time, event = fields.text("time"), fields.text("event")
        inner = fields.inner("strata")
        if inner is None:
            return Survival(time, event)
        found = levels(inner, 1)
        fields.out["strata"] = inner.out
        return Survival(time, event, found)

    def outcome(self, spec: Regression, table: Columns) -> tuple[Vector, Vector]:
        if spec.own.strata is not None:
            columns.places(table, spec.own.strata)
        return super().outcome(spec, table)

    def own_moment_parts(self, spec: Regression) -> list[Part]:
        return [part("events", 1, spec.rules.rows_at_most)]

    def own_moments(self, spec: Regression, table: Columns) -> Sums:
        return {"events": np.array([self.outcome(spec, table)[1].sum()])}

    def learn(self, spec: Regression, total: Sums, n: float) -> Learnt:
        events = round(float(total["events"][0]))
        self.enough(spec, events)
        return Learnt(events, known={})

    def fit_parts(self, spec: Regression, point: Point) -> list[Part]:
        reach = point.frame.reach(spec.terms, False)
        most, eta = spec.rules.rows_at_most, float(np.abs(point.beta) @ reach)
        size = len(reach)
        return [
            part("log_likelihood", 1, most * (2 * eta + math.log(most) + 1)),
            part("gradient", size, 2 * most * reach),
            part("information", size * (size + 1) // 2, 2 * most * triangle(np.outer(reach, reach))),
        ]

    def fit(self, spec: Regression, point: Point, raw: Vector, table: Columns) -> Sums:
        z = point.frame.scaled(raw, False)
        time, event = self.outcome(spec, table)
        strata = spec.own.strata
        where = columns.places(table, strata) if strata else np.zeros(len(time), dtype=np.intp)
        size = z.shape[1]
        value, gradient, information = 0.0, np.zeros(size), np.zeros((size, size))
        for stratum in np.unique(where):
            among = where == stratum
            found = partial(z[among], time[among], event[among], point.beta)
            value, gradient = value + found[0], gradient + found[1]
            information = information + found[2]
        return {
            "log_likelihood": np.array([value]),
            "gradient": gradient,
            "information": triangle(information),
        }

    def evaluation(self, spec: Regression, point: Point, total: Sums) -> Evaluation:
        value = float(total["log_likelihood"][0])
        return Evaluation(value, total["gradient"], square(total["information"], len(point.beta)), value)


def partial(z: Vector, time: Vector, event: Vector, beta: Vector) -> tuple[float, Vector, Vector]:
    """Efron's log partial likelihood of one stratum, its gradient and information; zeros without events."""
    size = z.shape[1]
    if not event.any():
        return 0.0, np.zeros(size), np.zeros((size, size))
    order = np.argsort(-time, kind="stable")
    z, time, event = z[order], time[order], event[order] == 1
    eta = z @ beta
    # The likelihood does not change by a factor common to all risks; without it exp stays in range.
    eta = eta - eta.max()
    risk = np.exp(eta)
    died, which = np.unique(time[event], return_inverse=True)
    deaths = np.bincount(which)
    # Latest first, those at risk at t are the rows up to the last one with a time of t or later.
    last = np.searchsorted(-time, -died, side="right") - 1
    s0 = np.cumsum(risk)[last]
    s1 = np.cumsum(risk[:, None] * z, axis=0)[last]
    tied0 = np.bincount(which, weights=risk[event])
    tied1 = np.zeros((len(died), size))
    np.add.at(tied1, which, risk[event][:, None] * z[event])
    # One row for each death: its time, and the part f of the tied deaths that has left the risk set.
    at = np.repeat(np.arange(len(died)), deaths)
    f = (np.arange(len(at)) - np.repeat(np.cumsum(deaths) - deaths, deaths)) / deaths[at]
    a = s0[at] - f * tied0[at]
    mean = (s1[at] - f[:, None] * tied1[at]) / a[:, None]
    value = float(eta[event].sum() - np.log(a).sum())
    gradient = z[event].sum(axis=0) - mean.sum(axis=0)
    # The sum over t of S2 / a is one weighted z z': row i is at risk at each t up to its own time.
    per_time = np.bincount(at, weights=1 / a, minlength=len(died))
    leaving = np.bincount(at, weights=f / a, minlength=len(died))
    up_to = np.concatenate([[0.0], np.cumsum(per_time)])
    weight = risk * up_to[np.searchsorted(died, time, side="right")]
    weight[event] -= risk[event] * leaving[which]
    information = (z * weight[:, None]).T @ z - mean.T @ mean
    return value, gradient, information


class CoxGrid(_Cox):
    """One baseline for all sites, on agreed times."""

    name = "cox_grid"

    def read_own(self, fields: Fields) -> Survival:
        time, event, times = fields.text("time"), fields.text("event"), fields.rising("grid")
        return Survival(time, event, None, times, fields.number("log_risk_at_most", 0.1, 50.0, 10.0))

    def outcome(self, spec: Regression, table: Columns) -> tuple[Vector, Vector]:
        time, event = super().outcome(spec, table)
        grid.cells(time, event, spec.own.grid, spec.own.time)
        return time, event

    def own_moment_parts(self, spec: Regression) -> list[Part]:
        return [part("deaths", len(spec.own.grid), spec.rules.rows_at_most)]

    def own_moments(self, spec: Regression, table: Columns) -> Sums:
        time, event = self.outcome(spec, table)
        where = grid.cells(time, event, spec.own.grid, spec.own.time)
        return {"deaths": np.bincount(where[event == 1], minlength=len(spec.own.grid)).astype(float)}

    def learn(self, spec: Regression, total: Sums, n: float) -> Learnt:
        deaths = np.round(total["deaths"])
        self.enough(spec, int(deaths.sum()))
        joined = grid.joined(deaths[:, None], spec.rules)
        times = [spec.own.grid[end] for end in joined]
        counted = grid.added(deaths, joined)
        # Grid times without a death add nothing; the last has to stay, it bounds the rows.
        own = tuple(times)
        known = {"grid": times, "deaths": [int(count) for count in counted]}
        return Learnt(int(deaths.sum()), own, known=known)

    def takes(self, spec: Regression, own: tuple[float, ...]) -> bool:
        """Agreed times, joined at most: others would tell when a patient died."""
        return bool(own) and set(own) <= set(spec.own.grid) and list(own) == sorted(set(own))

    def fit_parts(self, spec: Regression, point: Point) -> list[Part]:
        reach = point.frame.reach(spec.terms, False)
        eta = min(float(np.abs(point.beta) @ reach), spec.own.risk_at_most)
        most, size, count = spec.rules.rows_at_most, len(reach), len(point.own)
        risk = most * math.exp(eta)
        upper = triangle(np.outer(reach, reach))
        found = [part("deaths", count, most), part("death_sum", size, most * reach)]
        for who in ("risk", "tied"):
            found += [
                part(f"{who}0", count, risk),
                part(f"{who}1", (count, size), np.tile(risk * reach, (count, 1))),
                part(f"{who}2", (count, len(upper)), np.tile(risk * upper, (count, 1))),
            ]
        return found

    def fit(self, spec: Regression, point: Point, raw: Vector, table: Columns) -> Sums | None:
        z = point.frame.scaled(raw, False)
        time, event = self.outcome(spec, table)
        died = event == 1
        eta = z @ point.beta
        if np.abs(eta).max(initial=0.0) > spec.own.risk_at_most:
            return None
        where = grid.cells(time, event, point.own, spec.own.time)
        count = len(point.own)
        risk = np.exp(eta)
        found = {
            "deaths": np.bincount(where[died], minlength=count)[:count].astype(float),
            "death_sum": z[died].sum(axis=0),
        }
        at_risk = _by_cell(where, risk, z, count + 1)
        tied = _by_cell(where[died], risk[died], z[died], count)
        for level, (all_, dead) in enumerate(zip(at_risk, tied, strict=True)):
            # At risk at a grid time are all whose own is not before it.
            found[f"risk{level}"] = np.cumsum(all_[::-1], axis=0)[::-1][:count]
            found[f"tied{level}"] = dead
        return found

    def evaluation(self, spec: Regression, point: Point, total: Sums) -> Evaluation:
        size = len(point.beta)
        value = float(total["death_sum"] @ point.beta)
        gradient, information = total["death_sum"].copy(), np.zeros(size * (size + 1) // 2)
        for at, count in enumerate(np.round(total["deaths"]).astype(int)):
            if count == 0:
                continue
            f = np.arange(count) / count
            a = total["risk0"][at] - f * total["tied0"][at]
            mean = (total["risk1"][at] - f[:, None] * total["tied1"][at]) / a[:, None]
            value -= float(np.log(a).sum())
            gradient -= mean.sum(axis=0)
            information += total["risk2"][at] * (1 / a).sum() - total["tied2"][at] * (f / a).sum()
            information -= triangle(mean.T @ mean)
        return Evaluation(value, gradient, square(information, size), value)


def _by_cell(where: columns.Index, risk: Vector, z: Vector, count: int) -> tuple[Vector, Vector, Vector]:
    """Sums of exp(zb), z exp(zb) and the upper triangle of zz' exp(zb) in each grid cell."""
    size = z.shape[1]
    first = np.zeros((count, size))
    second = np.zeros((count, size * (size + 1) // 2))
    place = 0
    for i in range(size):
        weighted = risk * z[:, i]
        first[:, i] = np.bincount(where, weights=weighted, minlength=count)
        for j in range(i, size):
            second[:, place] = np.bincount(where, weights=weighted * z[:, j], minlength=count)
            place += 1
    zeroth = np.asarray(np.bincount(where, weights=risk, minlength=count), dtype=float)
    return zeroth, first, second
