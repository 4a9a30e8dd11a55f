"""Agreed times: which cell a time is in, and joining cells until each holds enough people.

Cell g holds the times after grid[g - 1] up to grid[g], both as of grid[g]. Rows
that are censored after the last grid time are at risk at all of them; a death
after it is refused, since it would count as none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns
from services.exchange.domain.stats.protocol import Vector
from services.exchange.domain.stats.reading import Protection


def cells(time: Vector, event: Vector, times: Sequence[float], column: str) -> columns.Index:
    """The cell of each time; len(times) beyond the last. Raises Unfit for an event there."""
    where = np.searchsorted(np.array(times, dtype=float), time, side="left")
    if np.any(event[where == len(times)] == 1):
        said = f"{column} has an event after the last agreed time; agree on a longer grid or censor there"
        raise Unfit("BEYOND_GRID", said, column)
    return where


def joined(counts: Vector, rules: Protection) -> list[int]:
    """The last cell of each joined one: every count in it is 0 or at least what is agreed.

    `counts`: shape (cells, kinds). Cells that are fine stay as they are. Raises
    Unfit where cells are too small and the rule is to refuse, or where even all
    in one is too small.
    """
    least = rules.cells_at_least
    fine = np.all((counts == 0) | (counts >= least), axis=1)
    if fine.all():
        return list(range(len(counts)))
    if rules.small_cells == "refuse":
        said = (
            f"{int((~fine).sum())} agreed cells hold fewer than {least} people; "
            "agree on a coarser grid, or on joining small cells (small_cells: coarsen)"
        )
        raise Unfit("SMALL_CELL", said, "grid")
    ends: list[int] = []
    held = np.zeros(counts.shape[1])
    for at, row in enumerate(counts):
        held = held + row
        if np.all((held == 0) | (held >= least)):
            ends.append(at)
            held = np.zeros(counts.shape[1])
    # What is left over joins the cells before it, as many as it takes.
    while held.any():
        if not ends:
            raise Unfit("SMALL_CELL", f"all cells together hold fewer than {least} people", "grid")
        begin = ends[-2] + 1 if len(ends) > 1 else 0
        held = held + counts[begin : ends.pop() + 1].sum(axis=0)
        if np.all((held == 0) | (held >= least)):
            ends.append(len(counts) - 1)
            held = np.zeros(counts.shape[1])
    if ends[-1] != len(counts) - 1:
        ends.append(len(counts) - 1)
    return ends


def added(counts: Vector, ends: Sequence[int]) -> Vector:
    """The counts of the joined cells; `counts` by cell along the first axis."""
    starts = [0, *(end + 1 for end in ends[:-1])]
    return np.array([counts[begin : end + 1].sum(axis=0) for begin, end in zip(starts, ends, strict=True)])
