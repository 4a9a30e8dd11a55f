"""Pages and pictures that a benchmark makes of its own numbers: tables, and lines in an SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 30, 60
_COLOURS = ("#0b6e99", "#b4451f", "#3d7d3a", "#6b4c9a", "#8a6d00")

Point = tuple[float, float]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (head, *lines)]
    return "\n".join(f"| {row} |" for row in (rows[0], " | ".join("---" for _ in head), *rows[1:])) + "\n"


def chart(title: str, across: str, up: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Lines of points, both axes from nought; a point that is not finite is left out."""
    drawn = {
        name: [point for point in points if all(map(math.isfinite, point))] for name, points in lines.items()
    }
    ends = [_end(max(point[axis] for points in drawn.values() for point in points)) for axis in (0, 1)]

    def place(point: Point) -> Point:
        return (
            _LEFT + point[0] / ends[0] * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - point[1] / ends[1] * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [*_frame(title, across, up, ends)]
    for number, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += _line(name, [place(point) for point in points], colour, number)
    return "\n".join([*parts, "</svg>", ""])


def _end(most: float) -> float:
    """The first round number that is not below."""
    power = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= most)


def _frame(title: str, across: str, up: str, ends: Sequence[float]) -> list[str]:
    right, low = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f"<title>{title}</title>",
        f'<text x="{_LEFT}" y="18" font-size="14">{title}</text>',
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 15}" text-anchor="middle">{across}</text>',
        f'<text transform="translate(20 {(_TOP + low) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{up}</text>",
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _LEFT + share * (right - _LEFT), low - share * (low - _TOP)
        parts += [
            f'<path d="M{x:.1f} {_TOP}V{low}M{_LEFT} {y:.1f}H{right}" stroke="#ddd" fill="none"/>',
            f'<text x="{x:.1f}" y="{low + 18}" text-anchor="middle">{share * ends[0]:g}</text>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share * ends[1]:g}</text>',
        ]
    return parts


def _line(name: str, points: Sequence[Point], colour: str, number: int) -> list[str]:
    x, y = _WIDTH - _RIGHT + 15, _TOP + 20 + 20 * number
    path = "L".join(f"{across:.1f} {up:.1f}" for across, up in points)
    return [
        f'<path d="M{path}" stroke="{colour}" fill="none" stroke-width="2"/>',
        *(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" fill="{colour}"/>' for across, up in points),
        f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{x + 24}" y="{y}">{name}</text>',
    ]
