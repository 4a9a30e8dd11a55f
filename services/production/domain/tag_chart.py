"""One tag of a run, drawn: readings, golden band, control limits, ratio; as many points as a page can show.

A chart that is thinned must not hide what it is looked at for. So the points
that stay are the extremes: of each of equal stretches of time the smallest and
the largest reading, and whatever a deviation is about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from services.production.domain.equipment import Equipment
from services.production.domain.golden import LIMIT, GoldenModel
from services.production.domain.maturity import Floats, Ints
from services.production.domain.monitor import look, start
from services.production.domain.residuals import LEVEL
from services.production.domain.samples import Samples
from services.production.domain.standing import statistics

#: What a chart consists of, column by column.
COLUMNS = (
    "value",
    "mean",
    "band_low",
    "band_high",
    "limit_low",
    "limit_high",
    "ratio",
    "set_point",
)


@dataclass(frozen=True)
class TagChart:
    """Seconds since the run's first sample, and COLUMNS over them; NaN where something is not known."""

    seconds: Floats
    columns: dict[str, Floats]


def drawn(
    samples: Samples, tag: str, set_point: str, model: GoldenModel | None, limit: float, judged: bool
) -> TagChart:
    """The whole run. Without a model that monitors the tag there are its readings alone; where the run is
    not judged there is a band, and neither limits nor a ratio."""
    table, nothing = samples.table(), np.full(len(samples), np.nan)
    columns = dict.fromkeys(COLUMNS, nothing)
    columns |= {"value": table.get(tag, nothing), "set_point": table.get(set_point, nothing)}
    seconds = samples.seconds()
    if model is None or tag not in model.recipe.tags:
        return TagChart(seconds, columns)
    seen = look(model, {}, start(model, ""), seconds, table)
    if seen is None:
        return TagChart(seconds, columns)
    place = model.recipe.tags.index(tag)
    middle, spread = seen.judged.middle[:, place], seen.judged.spread[:, place]
    mean, band = middle[:, LEVEL], LIMIT * spread[:, LEVEL]
    columns |= {"mean": mean, "band_low": mean - band, "band_high": mean + band}
    if judged:
        columns |= {
            "limit_low": np.fmax.reduce(middle - limit * spread, axis=1),
            "limit_high": np.fmin.reduce(middle + limit * spread, axis=1),
            "ratio": statistics(seen.judged)[0][:, place] / limit,
        }
    return TagChart(seconds, columns)


def thinned(chart: TagChart, most: int, keep: Iterable[float] = ()) -> TagChart:
    """At most so many points (20 or more): of equal stretches of time the smallest and the largest reading
    each, besides the first sample, the last one, and those of the moments to keep (the first few)."""
    count = len(chart.seconds)
    if count <= most:
        return chart
    at = np.clip(np.searchsorted(chart.seconds, list(keep)[: most // 4]), 0, count - 1)
    fixed = {0, count - 1, *at.tolist()}
    rows = sorted(fixed | _extremes(chart, (most - len(fixed)) // 2))
    columns = {name: column[rows] for name, column in chart.columns.items()}
    return TagChart(chart.seconds[rows], columns)


def _extremes(chart: TagChart, stretches: int) -> set[int]:
    """Rows of the smallest and of the largest reading of each stretch; its first row where none is good, so
    that a gap stays one."""
    values = chart.columns["value"]
    span = max(float(chart.seconds[-1]), 1e-9)
    stretch = np.minimum((chart.seconds / span * stretches).astype(np.intp), stretches - 1)
    rows: set[int] = set()
    for sign in (1.0, -1.0):
        order: Ints = np.lexsort((np.where(np.isnan(values), np.inf, sign * values), stretch))
        firsts = order[np.unique(stretch[order], return_index=True)[1]]
        rows |= set(firsts.tolist())
    return rows


def set_point_of(tag: str, equipment: Equipment | None, recorded: Collection[str]) -> str:
    """The set-point of a tag: one that is registered in the tag's unit and whose name begins with the tag's;
    empty where the run has none. Of several the one with the shortest name."""
    own = equipment.tag(tag) if equipment else None
    if equipment is None or own is None or own.set_point:
        return ""
    fitting = [
        other.name
        for other in equipment.tags
        if other.set_point
        and other.unit == own.unit
        and other.name.startswith(tag)
        and other.name in recorded
    ]
    return min(fitting, key=lambda name: (len(name), name), default="")
