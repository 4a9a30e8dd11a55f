"""Estimates with their intervals, one row each: a forest plot, a prediction beside its specification."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

_NAMES, _PLOT, _ROW, _TOP, _FOOT = 190, 400, 28, 8, 26
_WIDTH = _NAMES + _PLOT + 30
_LONGEST = 26


@dataclass(frozen=True)
class Row:
    """One estimate; what is not known is None. `found` is what was measured, beside what was expected."""

    name: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    found: float | None = None


def row(name: str, estimate: Any, found: float | None = None) -> Row:
    """A row from the contract's Estimate."""
    value, lower, upper = (
        getattr(estimate, end) if estimate.HasField(end) else None for end in ("value", "lower", "upper")
    )
    return Row(name, value, lower, upper, found)


def intervals(
    rows: Sequence[Row], *, label: str, number: Callable[[float], str], marks: Iterable[float] = ()
) -> Markup:
    """The rows on one scale, with a line at each of `marks` (no effect, or the ends of a specification)."""
    lines = sorted({mark for mark in marks if math.isfinite(mark)})
    known = [
        one
        for row in rows
        for one in (row.value, row.lower, row.upper, row.found)
        if one is not None and math.isfinite(one)
    ]
    if not known:
        return Markup("")
    low, high = min(known + lines), max(known + lines)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room

    def x(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * _PLOT, 1)

    bottom = _TOP + _ROW * len(rows)
    parts = [
        f'<line class="mark" x1="{x(mark)}" x2="{x(mark)}" y1="{_TOP}" y2="{bottom}"/>' for mark in lines
    ]
    parts.append(f'<line class="axis" x1="{_NAMES}" x2="{_NAMES + _PLOT}" y1="{bottom}" y2="{bottom}"/>')
    for mark in lines or [low + room, high - room]:
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x(mark)}" y="{bottom + 16}">'
            f"{escape(number(mark))}</text>"
        )
    for place, one in enumerate(rows):
        parts.append(_row(one, _TOP + _ROW * place + _ROW / 2, x))
    return Markup(
        f'<svg class="intervals" role="img" viewBox="0 0 {_WIDTH} {bottom + _FOOT}" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _row(row: Row, y: float, x: Callable[[float], float]) -> str:
    short = row.name if len(row.name) <= _LONGEST else row.name[: _LONGEST - 1] + "…"
    parts = [f'<text x="4" y="{y + 4}">{escape(short)}<title>{escape(row.name)}</title></text>']
    if row.lower is not None and row.upper is not None and math.isfinite(row.lower + row.upper):
        parts.append(f'<line class="bar" x1="{x(row.lower)}" x2="{x(row.upper)}" y1="{y}" y2="{y}"/>')
        parts += [
            f'<line class="bar" x1="{x(end)}" x2="{x(end)}" y1="{y - 4}" y2="{y + 4}"/>'
            for end in (row.lower, row.upper)
        ]
    if row.value is not None and math.isfinite(row.value):
        parts.append(f'<rect class="point" x="{x(row.value) - 4}" y="{y - 4}" width="8" height="8"/>')
    if row.found is not None and math.isfinite(row.found):
        at = x(row.found)
        parts.append(f'<path class="found" d="M{at} {y - 7}L{at + 7} {y}L{at} {y + 7}L{at - 7} {y}Z"/>')
    return "".join(parts)
