"""Counts by agreed levels, moments, histograms and quantiles to the width of a bin.

No extreme is ever told: values beyond the agreed range are counted as below or
above it, and a quantile needs the agreed number of people on either side.

Counts, histograms and moments take noise. Then small cells are told as they are,
for it is the noise that hides who is in them; of a count the interval is that of
the noise, of a mean that of the noise and of the sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns, grid
from services.exchange.domain.stats.inference import wald
from services.exchange.domain.stats.newton import square, triangle
from services.exchange.domain.stats.noised import Noised, whole
from services.exchange.domain.stats.protocol import Columns, Estimate, Part, Result, Vector, part
from services.exchange.domain.stats.reading import Fields, Levels, Measured, levels, measured
from services.exchange.domain.stats.summed import Job, Summed, Sums, enough
from services.refusals import Malformed

#: Cells of a table of counts, or bins of a histogram; more is a list of people.
_CELLS = 10_000


class Counts(Summed):
    """Rows in each combination of agreed levels.

    A cell with fewer people than agreed, or from fewer sites, is withheld (None);
    if only one is, the smallest other cell is too, since it could be had from the
    number of all rows. With the rule `refuse` the job is refused instead.
    """

    name = "counts"
    takes_noise = True

    def read_own(self, fields: Fields) -> tuple[Levels, ...]:
        inner = fields.list_of("by")
        found = tuple(levels(one, 1) for one in inner)
        fields.out["by"] = [one.out for one in inner]
        if math.prod(len(one.levels) for one in found) > _CELLS:
            raise Malformed("TOO_MANY_CELLS", f"a table has at most {_CELLS} cells", fields.field("by"))
        return found

    def _shape(self, job: Job) -> tuple[int, ...]:
        return tuple(len(one.levels) for one in job.own)

    def parts(self, job: Job, phase: str) -> list[Part]:
        shape = self._shape(job)
        return [part("counts", shape, job.rules.rows_at_most), part("cell_sites", shape, 1.0)]

    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        counts = self._counts(job, table)
        return {"counts": counts, "cell_sites": (counts > 0).astype(float)}

    def _counts(self, job: Job, table: Columns) -> Vector:
        counts = np.zeros(self._shape(job))
        np.add.at(counts, tuple(columns.places(table, one) for one in job.own), 1.0)
        return counts

    def sensitivity(self, job: Job) -> float:
        return 1.0  # a patient is in one cell

    def noised_parts(self, job: Job) -> list[Part]:
        return [part("counts", self._shape(job), job.rules.rows_at_most)]

    def noised_sums(self, job: Job, table: Columns) -> Sums:
        return {"counts": self._counts(job, table)}

    def noised_result(self, job: Job, totals: Mapping[str, Vector], found: Noised) -> Result:
        counts = totals["counts"]
        cells = [
            {"levels": self._names(job, place), **found.count(float(counts[place]), job.level)}
            for place in np.ndindex(*counts.shape)
        ]
        tables = {"by": [one.column for one in job.own], "cells": cells}
        return Result(self.name, (), whole(counts.sum()), 0, tables=tables)

    def _names(self, job: Job, place: tuple[int, ...]) -> list[str]:
        return [one.levels[at] for one, at in zip(job.own, place, strict=True)]

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        rules = job.rules
        counts, sites = np.round(totals["counts"]), np.round(totals["cell_sites"])
        n = enough(float(counts.sum()), rules)
        hidden = (counts > 0) & ((counts < rules.cells_at_least) | (sites < rules.sites_at_least))
        flags: tuple[str, ...] = ()
        if hidden.any():
            if rules.small_cells == "refuse":
                said = (
                    f"{int(hidden.sum())} cells hold fewer than {rules.cells_at_least} people or come from "
                    f"fewer than {rules.sites_at_least} sites; join levels, or agree on withholding such "
                    "cells (small_cells: coarsen)"
                )
                raise Unfit("SMALL_CELL", said, "by")
            flags = ("CELLS_WITHHELD",)
            if hidden.sum() == 1:
                others = np.where(hidden | (counts == 0), np.inf, counts)
                if np.isfinite(others).any():
                    hidden.flat[int(np.argmin(others))] = True
        cells = []
        for place in np.ndindex(*counts.shape):
            count = None if hidden[place] else int(counts[place])
            cells.append({"levels": self._names(job, place), "count": count})
        by = [one.column for one in job.own]
        return Result(self.name, (), n, rounds, flags=flags, tables={"by": by, "cells": cells})


class Moments(Summed):
    """Mean, variance, skewness and kurtosis of columns, and their covariances.

    Two phases, so that no digits are lost: the means first, then the powers of
    the distances from them. Variance and covariance are divided by n - 1;
    skewness is m3 / m2^1.5 and kurtosis m4 / m2^2 - 3, m divided by n.

    With noise values beyond the range count as its nearer end, in one phase, and mean
    and variance alone are told: u from -1 to 1 and u^2 of each column, and the rows,
    so that a patient changes k columns by at most the root of 1 + 2 k.
    """

    name = "moments"
    takes_noise = True
    phases = ("means", "powers")

    def read_own(self, fields: Fields) -> tuple[Measured, ...]:
        inner = fields.list_of("columns")
        found = tuple(measured(one) for one in inner)
        fields.out["columns"] = [one.out for one in inner]
        return found

    def asked(self, job: Job, phase: str) -> int:
        return len(job.own) if phase == "powers" else 0

    def parts(self, job: Job, phase: str) -> list[Part]:
        most, count = job.rules.rows_at_most, len(job.own)
        if phase == "means":
            return [part("rows", 1, most), part("sum", count, most)]
        return [
            part("products", count * (count + 1) // 2, 4 * most),
            part("third", count, 8 * most),
            part("fourth", count, 16 * most),
        ]

    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        held = [(columns.within(table, one) - one.middle) / one.half for one in job.own]
        u = np.column_stack(held)
        if phase == "means":
            return {"rows": np.array([float(len(u))]), "sum": u.sum(axis=0)}
        away = u - np.array(parameters)
        return {
            "products": triangle(away.T @ away),
            "third": (away**3).sum(axis=0),
            "fourth": (away**4).sum(axis=0),
        }

    def after(self, job: Job, phase: str, total: Mapping[str, Any]) -> list[float]:
        n = enough(total["rows"][0], job.rules, 2)
        # What the bounds of the powers stand on: a mean lies in the range.
        return [float(mean) for mean in np.clip(total["sum"] / n, -1.0, 1.0)]

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        n = enough(totals["rows"][0], job.rules, 2)
        half = np.array([one.half for one in job.own])
        middle = np.array([one.middle for one in job.own])
        mean = middle + half * totals["sum"] / n
        products = square(totals["products"], len(job.own))
        covariance = products * np.outer(half, half) / (n - 1)
        second = np.diag(products) / n
        flat = second < 1e-24
        safe = np.where(flat, 1.0, second)
        skewness, kurtosis = totals["third"] / n / safe**1.5, totals["fourth"] / n / safe**2 - 3
        deviation = np.sqrt(np.diag(covariance))
        rows = [
            {
                "column": one.column,
                "mean": float(mean[at]),
                "standard_deviation": float(deviation[at]),
                "variance": float(covariance[at, at]),
                "skewness": None if flat[at] else float(skewness[at]),
                "kurtosis": None if flat[at] else float(kurtosis[at]),
            }
            for at, one in enumerate(job.own)
        ]
        estimates = tuple(
            wald(one.column, float(mean[at]), float(deviation[at]) / math.sqrt(n), job.level, n - 1)
            for at, one in enumerate(job.own)
        )
        tables = {"moments": rows, "covariance": covariance.tolist(), "ddof": 1}
        return Result(self.name, estimates, n, rounds, tables=tables)

    def sensitivity(self, job: Job) -> float:
        return math.sqrt(1 + 2 * len(job.own))

    def noised_parts(self, job: Job) -> list[Part]:
        most, count = job.rules.rows_at_most, len(job.own)
        return [part("rows", 1, most), part("sum", count, most), part("square", count, most)]

    def noised_sums(self, job: Job, table: Columns) -> Sums:
        u = np.column_stack([(columns.clipped(table, one) - one.middle) / one.half for one in job.own])
        return {"rows": np.array([float(len(u))]), "sum": u.sum(axis=0), "square": (u**2).sum(axis=0)}

    def noised_result(self, job: Job, totals: Mapping[str, Vector], found: Noised) -> Result:
        n, noise = float(totals["rows"][0]), found.deviation
        moments = [
            _noised_moment(one, n, float(total), float(square), noise)
            for one, total, square in zip(job.own, totals["sum"], totals["square"], strict=True)
        ]
        estimates = tuple(
            wald(one["column"], one["mean"], error, job.level)
            if one["mean"] is not None
            else Estimate(one["column"], None)
            for one, error in moments
        )
        flags = tuple(f"NOISE_TOO_LARGE:{one['column']}" for one, _ in moments if one["variance"] is None)
        tables = {"moments": [one for one, _ in moments]}
        return Result(self.name, estimates, whole(n), 0, flags=flags, tables=tables)


def _noised_moment(
    column: Measured, n: float, total: float, square: float, noise: float
) -> tuple[dict[str, Any], float]:
    """Mean and variance of one column from noised sums of u and u^2, and the standard error of the mean.

    The error is of the sample and, to the first order, of the noise in both the sum and
    the rows. None where the rows are not five times the noise, and no variance where noise
    has made it negative; the error is then that of the widest spread the range allows.
    """
    told: dict[str, Any] = {"column": column.column, "mean": None}
    told |= {"standard_deviation": None, "variance": None}
    if n < max(5 * noise, 2):
        return told, math.nan
    mean = min(1.0, max(-1.0, total / n))
    variance = (square / n - mean**2) * n / (n - 1)
    if variance > 0:
        told |= {
            "variance": variance * column.half**2,
            "standard_deviation": math.sqrt(variance) * column.half,
        }
    spread = variance if variance > 0 else 1 - mean**2
    told["mean"] = column.middle + column.half * mean
    return told, column.half * math.sqrt(spread / n + noise**2 * (1 + mean**2) / n**2)


@dataclass(frozen=True)
class Bins:
    """`edges` of the bins; below the first and above the last values are only counted."""

    column: str
    edges: tuple[float, ...]
    at: tuple[float, ...] = ()


class Histogram(Summed):
    """Rows in bins of an agreed width from `low` to `high`; a value on an edge is in the bin above it.

    The value `high` itself is in the last bin. Bins with fewer people than agreed
    are joined with their neighbours, or the job refused.
    """

    name = "histogram"
    takes_noise = True

    def read_own(self, fields: Fields) -> Bins:
        column = fields.text("column")
        low, high = fields.number("low", -1e12, 1e12), fields.number("high", -1e12, 1e12)
        width = fields.number("width", 1e-12, 1e12)
        count = round((high - low) / width)
        if count < 1 or count > _CELLS or abs(low + count * width - high) > 1e-9 * width * count:
            said = f"high is low plus a whole number of widths, at most {_CELLS}"
            raise Malformed("NO_BINS", said, fields.field("width"))
        return Bins(column, (*(low + at * width for at in range(count)), high))

    def parts(self, job: Job, phase: str) -> list[Part]:
        return [part("bins", len(job.own.edges) + 1, job.rules.rows_at_most)]

    def sums(self, job: Job, phase: str, parameters: Sequence[float], table: Columns) -> Sums:
        return {"bins": self._bins(job, table)}

    def _bins(self, job: Job, table: Columns) -> Vector:
        values, edges = columns.numbers(table, job.own.column), np.array(job.own.edges)
        where = np.searchsorted(edges, values, side="right")
        where[values == edges[-1]] = len(edges) - 1
        return np.bincount(where, minlength=len(edges) + 1).astype(float)

    def sensitivity(self, job: Job) -> float:
        return 1.0  # a patient is in one bin

    def noised_parts(self, job: Job) -> list[Part]:
        return self.parts(job, "")

    def noised_sums(self, job: Job, table: Columns) -> Sums:
        return {"bins": self._bins(job, table)}

    def noised_result(self, job: Job, totals: Mapping[str, Vector], found: Noised) -> Result:
        counts, edges = totals["bins"], (None, *job.own.edges, None)
        bins = [
            {"lower": edges[at], "upper": edges[at + 1], **found.count(float(count), job.level)}
            for at, count in enumerate(counts)
        ]
        return Result(self.name, (), whole(counts.sum()), 0, tables={"bins": bins})

    def told(self, job: Job, totals: Mapping[str, Vector]) -> tuple[int, list[dict[str, Any]], list[str]]:
        """Rows, bins {lower, upper, count} from the lowest, and flags; an end that is open is None."""
        counts = np.round(totals["bins"])
        n = enough(float(counts.sum()), job.rules)
        ends = grid.joined(counts[:, None], job.rules)
        edges = (None, *job.own.edges, None)
        begins = [0, *(end + 1 for end in ends[:-1])]
        bins = [
            {"lower": edges[begin], "upper": edges[end + 1], "count": int(count)}
            for begin, end, count in zip(begins, ends, grid.added(counts, ends), strict=True)
        ]
        return n, bins, ["BINS_JOINED"] if len(ends) < len(counts) else []

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        n, bins, flags = self.told(job, totals)
        return Result(self.name, (), n, rounds, flags=tuple(flags), tables={"bins": bins})


class Quantiles(Histogram):
    """Quantiles from a histogram, interpolated in the bin: right to the bin's width.

    `lower` and `upper` are the edges of the bin, not a confidence interval. None,
    with a flag, where fewer people than agreed lie on one side, or the bin is open.
    """

    name = "quantiles"
    takes_noise = False

    def read_own(self, fields: Fields) -> Bins:
        bins = super().read_own(fields)
        at = fields.rising("at")
        if at[0] <= 0 or at[-1] >= 1:
            raise Malformed(
                "OUT_OF_RANGE", "quantiles are between 0 and 1, both excluded", fields.field("at")
            )
        return Bins(bins.column, bins.edges, at)

    def conclude(self, job: Job, totals: Mapping[str, Vector], rounds: int) -> Result:
        n, bins, flags = self.told(job, totals)
        found = []
        for share in job.own.at:
            name, wanted = f"q{share:g}", share * n
            if min(wanted, n - wanted) < job.rules.cells_at_least:
                found.append(Estimate(name, None))
                flags.append(f"EXTREME:{name}")
                continue
            before = 0
            for one in bins:
                if one["count"] and before + one["count"] >= wanted:
                    break
                before += one["count"]
            lower, upper = one["lower"], one["upper"]
            if lower is None or upper is None:
                found.append(Estimate(name, None, lower=lower, upper=upper))
                flags.append(f"BEYOND_RANGE:{name}")
                continue
            value = lower + (upper - lower) * (wanted - before) / one["count"]
            found.append(Estimate(name, value, lower=lower, upper=upper))
        return Result(self.name, tuple(found), n, rounds, flags=tuple(flags), tables={"bins": bins})
