"""The small drawings of the quality wall: how far a tag is from its limit, now and over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

#: Watched from here on, as the wall's own states are; abnormal above 1.
WATCH, LIMIT = 0.8, 1.0
_MOST = 1.6
_WIDE, _TALL = 240, 34


def _kind(ratio: float) -> str:
    return "abnormal" if ratio > LIMIT else "watch" if ratio >= WATCH else "normal"


def bar(ratio: float, label: str) -> Markup:
    """The ratio as a bar to the limit, which is a line; what is beyond the end of the scale has an arrow."""
    if not math.isfinite(ratio):
        return Markup("")
    wide = round(min(max(ratio, 0.0), _MOST) / _MOST * _WIDE, 1)
    limit = LIMIT / _MOST * _WIDE
    arrow = f'<path class="beyond" d="M{_WIDE - 12} 5l12 12l-12 12z"/>' if ratio > _MOST else ""
    return Markup(
        f'<svg class="ratio {_kind(ratio)}" role="img" viewBox="0 0 {_WIDE} {_TALL}" '
        f'aria-label="{escape(label)}">'
        f'<rect class="scale" x="0" y="9" width="{_WIDE}" height="16"/>'
        f'<rect class="value" x="0" y="9" width="{wide}" height="16"/>{arrow}'
        f'<line class="limit" x1="{limit}" x2="{limit}" y1="1" y2="{_TALL - 1}"/></svg>'
    )


def sparkline(seconds: Sequence[float], ratios: Sequence[float], label: str) -> Markup:
    """The ratio over the run with the limit as a line; points beyond it are marked."""
    points = [
        (at, ratio)
        for at, ratio in zip(seconds, ratios, strict=False)
        if math.isfinite(at) and math.isfinite(ratio)
    ]
    if not points:
        return Markup("")
    begin, end = points[0][0], points[-1][0]
    top = max(1.25, min(max(ratio for _, ratio in points), 4.0))

    def x(at: float) -> float:
        return round(2 + (at - begin) / max(end - begin, 1e-9) * (_WIDE - 8), 1)

    def y(ratio: float) -> float:
        return round(3 + (top - min(max(ratio, 0.0), top)) / top * (_TALL - 6), 1)

    line = " ".join(f"{x(at)},{y(ratio)}" for at, ratio in points)
    beyond = "".join(
        f'<circle class="beyond" cx="{x(at)}" cy="{y(ratio)}" r="2.5"/>'
        for at, ratio in points
        if ratio > LIMIT
    )
    last = points[-1]
    return Markup(
        f'<svg class="spark {_kind(last[1])}" role="img" viewBox="0 0 {_WIDE} {_TALL}" '
        f'aria-label="{escape(label)}">'
        f'<line class="limit" x1="0" x2="{_WIDE}" y1="{y(LIMIT)}" y2="{y(LIMIT)}"/>'
        f'<polyline class="line" points="{line}"/>{beyond}'
        f'<circle class="last" cx="{x(last[0])}" cy="{y(last[1])}" r="3.5"/></svg>'
    )
