"""Kaplan-Meier curves and the log-rank test from counts that add over sites.

On an agreed grid (`grid`: cells, joining) the deaths d and those at risk n of
each time are sums over sites, and everything else follows from them:

    survival    S = product of (1 - d / n) up to t (Kaplan and Meier 1958)
    variance    S^2 sum d / (n (n - d)) (Greenwood 1926)
    interval    S to the power exp(+-z sd(log(-log S))) (Kalbfleisch and Prentice)
    log-rank    O - E = sum d_g - d n_g / n,
                V_gh = sum d (n - d) / (n - 1) n_g / n (delta_gh - n_h / n) (Peto and Peto 1972)

Without a grid the log-rank test is stratified by site: each site gives away its
own sums of O, E and V, no times.

Curves take noise, for a patient is in one cell of time, group and ending. To the
variance of log S comes that of the noise in all deaths and censored rows, to the
first order. The log-rank test takes none: its statistic is no chi-square then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns, grid
from services.exchange.domain.stats.inference import chi_square, quantile
from services.exchange.domain.stats.newton import invert, square, triangle
from services.exchange.domain.stats.noised import Noised, whole
from services.exchange.domain.stats.protocol import Columns, Estimate, Part, Result, Vector, part
from services.exchange.domain.stats.reading import Fields, Levels, levels
from services.exchange.domain.stats.summed import Job, Summed, Sums, enough


@dataclass(frozen=True)
class Grouped:
    """Columns of time and event; groups, if any; the grid (empty: stratified by site)."""

    time: str
    event: str
    groups: Levels | None
    grid: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.groups.levels if self.groups else ("all",)


class _Survival(Summed):
    def outcome(self, job: Job, table: Columns) -> tuple[Vector, Vector, columns.Index]:
        """Time, event and the place of the group, of each row."""
        own: Grouped = job.own
        time, event = columns.times(table, own.time), columns.zero_one(table, own.event)
        where = columns.places(table, own.groups) if own.groups else np.zeros(len(time), dtype=np.intp)
        return time, event, where

    def life_parts(self, job: Job) -> list[Part]:
        shape, most = (len(job.own.grid), len(job.own.names)), job.rules.rows_at_most
        return [part("deaths", shape, most), part("censored", shape, most)]

    def life_sums(self, job: Job, table: Columns) -> Sums:
        """Deaths and censored rows by grid time and group; who is there after the last is censored at it."""
        time, event, group = self.outcome(job, table)
        times = job.own.grid
        cell = np.minimum(grid.cells(time, event, times, job.own.time), len(times) - 1)
        deaths, censored = np.zeros((2, len(times), len(job.own.names)))
        np.add.at(deaths, (cell[event == 1], group[event == 1]), 1.0)
        np.add.at(censored, (cell[event == 0], group[event == 0]), 1.0)
        return {"deaths": deaths, "censored": censored}

    def life_table(self, job: Job, totals: Mapping[str, Vector]) -> LifeTable:
        """Times, deaths and those at risk, after joining cells that are too small."""
        deaths, censored = np.round(totals["deaths"]), np.round(totals["censored"])
        ends = grid.joined(np.hstack([deaths, censored]), job.rules)
        deaths, censored = grid.added(deaths, ends), grid.added(censored, ends)
        at_risk = np.cumsum((deaths + censored)[::-1], axis=0)[::-1]
        times = tuple(job.own.grid[end] for end in ends)
        return LifeTable(times, deaths, at_risk, len(times) < len(job.own.grid))


@dataclass(frozen=True, eq=False)
class LifeTable:
    """`deaths` and `at_risk` are of shape (times, groups)."""

    times: tuple[float, ...]
    deaths: Vector
    at_risk: Vector
    joined: bool

    @property
    def flags(self) -> tuple[str, ...]:
        return ("GRID_JOINED",) if self.joined else ()


class KaplanMeier(_Survival):
    """One curve for all, or one for each group, and the median times.

    With noise a curve ends where those at risk are not five times the noise in their number.
    """

    name = "kaplan_meier"
    takes_noise = True

    def read_own(self, fields: Fields) -> Grouped:
        groups = fields.inner("groups")
        found = levels(groups, 1) if groups else None
        if groups:
            fields.out["groups"] = groups.out
        return Grouped(fields.text("time"), fields.text("event"), found, fields.rising("grid"))

    def parts(self, job: Job, phase: str) -> list[Part]:
        return self.life_parts(job)

    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        return self.life_sums(job, table)

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        life = self.life_table(job, totals)
        n = enough(float(life.at_risk[0].sum()), job.rules)
        curves, medians = [], []
        for at, name in enumerate(job.own.names):
            points = curve(life.times, life.deaths[:, at], life.at_risk[:, at], job.level)
            curves.append({"group": name, "points": points})
            lower, value, upper = (_half(points, which) for which in ("lower", "survival", "upper"))
            medians.append(Estimate(f"median:{name}", value, lower=lower, upper=upper))
        events = int(life.deaths.sum())
        tables = {"curves": curves}
        return Result(self.name, tuple(medians), n, rounds, events, flags=life.flags, tables=tables)

    def sensitivity(self, job: Job) -> float:
        return 1.0  # a patient is in one cell, of deaths or of censored rows

    def noised_parts(self, job: Job) -> list[Part]:
        return self.life_parts(job)

    def noised_sums(self, job: Job, table: Columns) -> Sums:
        return self.life_sums(job, table)

    def noised_result(self, job: Job, totals: Mapping[str, Vector], found: Noised) -> Result:
        deaths, censored, times = totals["deaths"], totals["censored"], job.own.grid
        curves, medians, flags = [], [], []
        for at, name in enumerate(job.own.names):
            points = noised_curve(times, deaths[:, at], censored[:, at], found.deviation, job.level)
            curves.append({"group": name, "points": points})
            lower, value, upper = (_half(points, which) for which in ("lower", "survival", "upper"))
            medians.append(Estimate(f"median:{name}", value, lower=lower, upper=upper))
            flags += [f"NOISE_TOO_LARGE:{name}"] * (len(points) < len(times))
        n, events = whole(float((deaths + censored).sum())), whole(float(deaths.sum()))
        return Result(self.name, tuple(medians), n, 0, events, flags=tuple(flags), tables={"curves": curves})


def curve(
    times: Sequence[float], deaths: Vector, at_risk: Vector, level: float
) -> list[dict[str, float | int | None]]:
    """The curve at each time with anybody at risk; no interval where S is 0 or 1."""
    z = quantile(level)
    survival, spread = 1.0, 0.0
    points: list[dict[str, float | int | None]] = []
    for time, died, held in zip(times, deaths, at_risk, strict=True):
        if held == 0:
            break
        survival *= 1 - died / held
        spread += died / (held * (held - died)) if held > died else math.inf
        point: dict[str, float | int | None] = {
            "time": float(time),
            "at_risk": int(held),
            "deaths": int(died),
            "survival": float(survival),
            "standard_error": None,
            "lower": None,
            "upper": None,
        }
        if 0 < survival < 1:
            width = z * math.sqrt(spread) / abs(math.log(survival))
            point["standard_error"] = float(survival * math.sqrt(spread))
            point["lower"] = float(survival ** math.exp(width))
            point["upper"] = float(survival ** math.exp(-width))
        points.append(point)
    return points


def noised_curve(
    times: Sequence[float], deaths: Vector, censored: Vector, noise: float, level: float
) -> list[dict[str, float | int | None]]:
    """The curve of noised counts, as far as those at risk are five times the noise in their number.

    With a = d / (n (n - d)) of each time, log S up to t changes with a count of time j by the
    sum of a up to the earlier of j and t, and with deaths by 1 / (n - d) less where j is up to t.
    """
    z = quantile(level)
    held = np.cumsum((deaths + censored)[::-1])[::-1]
    of_noise = noise * np.sqrt(2 * np.arange(len(held), 0, -1))
    until = int(np.argmin(np.append(held > 5 * of_noise, False)))
    held = held[:until]
    died = np.clip(deaths[:until], 0.0, 0.99 * held)
    logs = np.cumsum(np.log1p(-died / held))
    greenwood = np.cumsum(died / (held * (held - died)))
    points: list[dict[str, float | int | None]] = []
    for at in range(until):
        # Greenwood's sum is the sum of a; later counts are in every number at risk up to now.
        reach = greenwood[np.minimum(np.arange(len(deaths)), at)]
        of_deaths = reach.copy()
        of_deaths[: at + 1] -= 1 / (held - died)[: at + 1]
        error = math.sqrt(greenwood[at] + noise**2 * float((reach**2 + of_deaths**2).sum()))
        survival = math.exp(logs[at])
        width = z * error / -logs[at] if survival < 1 else math.inf
        points.append(
            {
                "time": float(times[at]),
                "at_risk": float(held[at]),
                "deaths": float(deaths[at]),
                "survival": survival,
                "standard_error": survival * error,
                "lower": math.exp(logs[at] * math.exp(width)) if width < 700 else 0.0,
                "upper": math.exp(logs[at] * math.exp(-width)),
            }
        )
    return points


def _half(points: Sequence[Mapping[str, float | int | None]], which: str) -> float | None:
    """The first time at which the line is at or below a half; None where it never is."""
    for point in points:
        value = point[which]
        if value is not None and value <= 0.5 + 1e-12:
            return point["time"]
    return None


class LogRank(_Survival):
    """The test that groups die alike: on a grid over all sites, or stratified by site without one."""

    name = "log_rank"

    def read_own(self, fields: Fields) -> Grouped:
        groups = fields.needed("groups")
        found = levels(groups, 2)
        fields.out["groups"] = groups.out
        times = fields.rising("grid") if fields.said.get("grid") is not None else ()
        return Grouped(fields.text("time"), fields.text("event"), found, times)

    def parts(self, job: Job, phase: str) -> list[Part]:
        if job.own.grid:
            return self.life_parts(job)
        count, most = len(job.own.names), job.rules.rows_at_most
        sizes = {"group_rows": count, "observed": count, "expected": count}
        pairs = count * (count + 1) // 2
        return [*(part(name, size, most) for name, size in sizes.items()), part("variance", pairs, most)]

    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        if job.own.grid:
            return self.life_sums(job, table)
        time, event, group = self.outcome(job, table)
        count = len(job.own.names)
        times = np.unique(time)
        cell = np.searchsorted(times, time)
        deaths, left = np.zeros((2, len(times), count))
        np.add.at(deaths, (cell[event == 1], group[event == 1]), 1.0)
        np.add.at(left, (cell, group), 1.0)
        observed, expected, variance = rank_sums(deaths, np.cumsum(left[::-1], axis=0)[::-1])
        return {
            "group_rows": np.bincount(group, minlength=count).astype(float),
            "observed": observed,
            "expected": expected,
            "variance": triangle(variance),
        }

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        flags: tuple[str, ...] = ()
        count = len(job.own.names)
        if job.own.grid:
            life = self.life_table(job, totals)
            rows, flags = life.at_risk[0], life.flags
            observed, expected, variance = rank_sums(life.deaths, life.at_risk)
        else:
            rows, observed, expected = (totals[name] for name in ("group_rows", "observed", "expected"))
            variance = square(totals["variance"], count)
        n, events = enough(float(rows.sum()), job.rules), round(float(observed.sum()))
        least = max(job.rules.cells_at_least, 1)
        if events < least:
            raise Unfit("SMALL_CELL", f"fewer than {least} events were seen", "event")
        held = np.flatnonzero(np.round(rows) > 0)
        flags += tuple(f"EMPTY_GROUP:{job.own.names[at]}" for at in range(count) if at not in held)
        free = held[:-1]
        inverse = invert(variance[np.ix_(free, free)]) if len(free) else None
        if inverse is None:
            said = "fewer than two groups have people at risk at a time of death; join groups"
            raise Unfit("NOTHING_TO_COMPARE", said, "groups")
        away = (observed - expected)[free]
        statistic = float(away @ inverse @ away)
        p_value = chi_square(statistic, len(free))
        groups = [
            {
                "group": name,
                "rows": round(float(rows[at])),
                "observed": observed[at],
                "expected": expected[at],
            }
            for at, name in enumerate(job.own.names)
        ]
        tables: dict[str, Any] = {"groups": groups, "degrees_of_freedom": len(free)}
        found = Estimate("chi_square", statistic, statistic=statistic, p_value=p_value)
        return Result(self.name, (found,), n, rounds, events, flags=flags, tables=tables)


def rank_sums(deaths: Vector, at_risk: Vector) -> tuple[Vector, Vector, Vector]:
    """O, E and V of the groups, summed over times; both tables of shape (times, groups)."""
    died, held = deaths.sum(axis=1), at_risk.sum(axis=1)
    counts = (died > 0) & (held > 0)
    died, held = died[counts], held[counts]
    share = at_risk[counts] / held[:, None]
    weight = np.where(held > 1, died * (held - died) / np.maximum(held - 1, 1), 0.0)
    expected = (died[:, None] * share).sum(axis=0)
    variance = np.diag(weight @ share) - (share * weight[:, None]).T @ share
    return deaths.sum(axis=0), expected, variance
