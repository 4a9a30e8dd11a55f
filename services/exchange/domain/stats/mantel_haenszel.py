"""Mantel-Haenszel estimates of a 0/1 outcome and a 0/1 exposure over strata and sites.

Of a stratum, a and b are exposed with and without the outcome, c and d the others;
n1 = a + b, n0 = c + d, m = a + c, N = n1 + n0:

    odds ratio        R = a d / N, S = b c / N, P = (a + d) / N, Q = (b + c) / N;  OR = sum R / sum S
                      var(ln OR) = sum PR / 2R^2 + sum (PS + QR) / 2RS + sum QS / 2S^2, R and S summed
                      (Robins, Breslow and Greenland, Biometrics 1986;42:311)
    risk ratio        R' = a n0 / N, S' = c n1 / N;  RR = sum R' / sum S'
                      var(ln RR) = sum (n1 n0 m - a c N) / N^2 / (sum R' sum S')
    risk difference   sum (a n0 - c n1) / N over W = sum n1 n0 / N
                      var = sum (a b n0^3 + c d n1^3) / (n1 n0 N^2) / W^2
                      (Greenland and Robins, Biometrics 1985;41:55, both)
    test              (sum a - n1 m / N)^2 / sum n1 n0 m (N - m) / (N^2 (N - 1)), no continuity correction

With `by_site` (the default) no stratum spans two sites, so the terms themselves
add and no cell leaves a site, only the margins of all rows. Without it the cells
of the agreed strata are summed first, and a stratum is that of all sites together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns
from services.exchange.domain.stats.inference import chi_square, ratio, wald
from services.exchange.domain.stats.protocol import Columns, Estimate, Part, Result, Vector, part
from services.exchange.domain.stats.reading import Fields, Levels, levels
from services.exchange.domain.stats.summed import Job, Summed, Sums, enough

#: The terms of a stratum, in the order of the columns of `terms`.
TERMS = ("r", "s", "pr", "ps_qr", "qs", "risk_r", "risk_s", "risk_p", "d", "w", "q", "u", "v")


@dataclass(frozen=True)
class Crossed:
    """Columns of outcome and exposure, and the columns whose combinations are the strata."""

    outcome: str
    exposure: str
    strata: tuple[Levels, ...]
    by_site: bool

    @property
    def count(self) -> int:
        return math.prod(len(one.levels) for one in self.strata)


class MantelHaenszel(Summed):
    """Odds ratio, risk ratio, risk difference and the test of no association."""

    name = "mantel_haenszel"

    def read_own(self, fields: Fields) -> Crossed:
        strata: tuple[Levels, ...] = ()
        if fields.said.get("strata") is not None:
            inner = fields.list_of("strata")
            strata = tuple(levels(one, 1) for one in inner)
            fields.out["strata"] = [one.out for one in inner]
        outcome, exposure = fields.text("outcome"), fields.text("exposure")
        return Crossed(outcome, exposure, strata, fields.flag("by_site", True))

    def parts(self, job: Job, phase: str) -> list[Part]:
        most = job.rules.rows_at_most
        if job.own.by_site:
            return [part("margins", 4, most), part("terms", len(TERMS), most)]
        return [part("cells", (job.own.count, 4), most)]

    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        own: Crossed = job.own
        outcome, exposure = columns.zero_one(table, own.outcome), columns.zero_one(table, own.exposure)
        stratum = np.zeros(len(outcome), dtype=np.intp)
        for one in own.strata:
            stratum = stratum * len(one.levels) + columns.places(table, one)
        cells = np.zeros((own.count, 4))
        np.add.at(cells, (stratum, ((1 - exposure) * 2 + (1 - outcome)).astype(np.intp)), 1.0)
        if not own.by_site:
            return {"cells": cells}
        a, b, c, d = cells.sum(axis=0)
        return {"margins": np.array([a + b, c + d, a + c, b + d]), "terms": terms(cells).sum(axis=0)}

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        rules = job.rules
        if job.own.by_site:
            margins, summed = np.round(totals["margins"]), totals["terms"]
        else:
            cells = np.round(totals["cells"])
            small = (cells > 0) & (cells < rules.cells_at_least)
            if small.any():
                said = (
                    f"{int(small.sum())} cells of strata hold fewer than {rules.cells_at_least} people; "
                    "agree on fewer strata, or stratify by site"
                )
                raise Unfit("SMALL_CELL", said, "strata")
            a, b, c, d = cells.sum(axis=0)
            margins, summed = np.array([a + b, c + d, a + c, b + d]), terms(cells).sum(axis=0)
        n = enough(margins[0] + margins[1], rules)
        least = max(rules.cells_at_least, 1)
        if margins.min() < least:
            said = f"fewer than {least} people are exposed, not exposed, with or without the outcome"
            raise Unfit("SMALL_CELL", said, "exposure")
        found, flags = estimates(dict(zip(TERMS, map(float, summed), strict=True)), job.level)
        return Result(self.name, found, n, rounds, int(margins[2]), flags=flags)


def terms(cells: Vector) -> Vector:
    """The terms of each stratum, shape (strata, terms); of one without both arms, zeros."""
    a, b, c, d = cells[(cells[:, 0] + cells[:, 1] > 0) & (cells[:, 2] + cells[:, 3] > 0)].T
    n1, n0, m = a + b, c + d, a + c
    n = n1 + n0
    r, s, p, q = a * d / n, b * c / n, (a + d) / n, (b + c) / n
    return np.column_stack(
        [
            r,
            s,
            p * r,
            p * s + q * r,
            q * s,
            a * n0 / n,
            c * n1 / n,
            (n1 * n0 * m - a * c * n) / n**2,
            (a * n0 - c * n1) / n,
            n1 * n0 / n,
            (a * b * n0**3 + c * d * n1**3) / (n1 * n0 * n**2),
            a - n1 * m / n,
            n1 * n0 * m * (n - m) / (n**2 * (n - 1)),
        ]
    )


def estimates(t: Mapping[str, float], level: float) -> tuple[tuple[Estimate, ...], tuple[str, ...]]:
    """The four estimates, and a flag for each that the data do not give. Nothing is added to empty cells."""
    found: list[Estimate] = []
    flags: list[str] = []
    variance = math.nan
    if t["r"] > 0 and t["s"] > 0:
        variance = t["pr"] / (2 * t["r"] ** 2) + t["ps_qr"] / (2 * t["r"] * t["s"])
        variance += t["qs"] / (2 * t["s"] ** 2)
    found.append(_ratio("odds_ratio", t["r"], t["s"], variance, level, flags))
    variance = t["risk_p"] / (t["risk_r"] * t["risk_s"]) if t["risk_r"] > 0 and t["risk_s"] > 0 else math.nan
    found.append(_ratio("risk_ratio", t["risk_r"], t["risk_s"], variance, level, flags))
    if t["w"] > 0:
        found.append(wald("risk_difference", t["d"] / t["w"], math.sqrt(max(t["q"], 0.0)) / t["w"], level))
    else:
        found.append(_none("risk_difference", flags))
    if t["v"] > 0:
        statistic = t["u"] ** 2 / t["v"]
        p_value = chi_square(statistic, 1)
        found.append(Estimate("chi_square", statistic, statistic=statistic, p_value=p_value))
    else:
        found.append(_none("chi_square", flags))
    return tuple(found), tuple(flags)


def _ratio(
    name: str, above: float, below: float, variance: float, level: float, flags: list[str]
) -> Estimate:
    if not math.isfinite(variance):
        return _none(name, flags, 0.0 if below > 0 else None)
    return ratio(name, math.log(above / below), math.sqrt(max(variance, 0.0)), level)


def _none(name: str, flags: list[str], value: float | None = None) -> Estimate:
    flags.append(f"NO_INTERVAL:{name}" if value is not None else f"NO_ESTIMATE:{name}")
    return Estimate(name, value)
