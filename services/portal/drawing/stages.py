"""The stages of a run as one small drawing: how much of its SLO each has used."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from services.portal.running import Step

_CELL, _GAP, _HEIGHT = 11, 3, 20


def bars(steps: Sequence[Step], *, label: str) -> Markup:
    """One bar a stage, as high as its share of the SLO; what is over it is full, marked and coloured."""
    parts = []
    for place, step in enumerate(steps):
        x = place * (_CELL + _GAP)
        share = step.share
        high = _HEIGHT if share is None else max(2.0, round(min(1.0, share) * _HEIGHT, 1))
        parts.append(f'<rect class="room" x="{x}" y="3" width="{_CELL}" height="{_HEIGHT}"/>')
        if step.state == "next":
            continue
        if step.state == "now" and share is None:
            high = _HEIGHT / 2
        parts.append(
            f'<rect class="{step.state}" x="{x}" y="{3 + _HEIGHT - high:g}" '
            f'width="{_CELL}" height="{high:g}"/>'
        )
        if step.state in ("late", "stuck"):
            parts.append(f'<path class="over" d="M{x} 1.5h{_CELL}"/>')
    width = max(1, len(steps) * (_CELL + _GAP) - _GAP)
    return Markup(
        f'<svg class="stages" role="img" width="{width}" height="{_HEIGHT + 4}" '
        f'viewBox="0 0 {width} {_HEIGHT + 4}" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
