"""Where a lot comes from and what was made from it, as a drawing: a column for each step of material.

Lots of one kind in one step are one box with their number, so that ten thousand lots are a few boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from services.portal.drawing.texts import fit, written

_BOX, _TALL, _GAP, _ROW, _TOP = 190, 46, 70, 62, 30
_LONGEST = 24
#: Letters that a column has room for above its boxes.
_HEAD = 34

#: A step and a kind of lot: a kind is the key without the lot's own number.
Group = tuple[int, str]


@dataclass(frozen=True)
class Node:
    """One lot: `depth` counts steps of material from the lot that is looked at; negative for what went in."""

    lot: str
    depth: int
    inputs: tuple[str, ...] = ()
    known: bool = True
    suspect: str = ""

    @property
    def kind(self) -> str:
        return self.lot.rpartition("/")[0]

    @property
    def group(self) -> Group:
        return self.depth, self.kind


@dataclass(frozen=True)
class Grouped:
    """Lots by group, and how many ways of material lead from group to group."""

    groups: Mapping[Group, Sequence[Node]]
    ways: Mapping[tuple[Group, Group], int] = field(default_factory=dict)


def group(nodes: Iterable[Node]) -> Grouped:
    """Lots by depth and kind, in order of both; ways between them by what each says of its inputs."""
    by_lot = {node.lot: node for node in nodes}
    groups: dict[Group, list[Node]] = {}
    for node in sorted(by_lot.values(), key=lambda node: (node.depth, node.kind, node.lot)):
        groups.setdefault(node.group, []).append(node)
    ways = Counter(
        (by_lot[above].group, node.group)
        for node in by_lot.values()
        for above in node.inputs
        if above in by_lot
    )
    return Grouped(groups, dict(ways))


def drawing(
    grouped: Grouped,
    *,
    label: str,
    step: Callable[[int], str],
    lots: Callable[[int], str],
    address: Callable[[Group], str],
    chosen: Group | None = None,
    found: Collection[Group] = (),
) -> Markup:
    """Boxes in columns, each a link to its lots. `found` are groups in which a search found something."""
    if not grouped.groups:
        return Markup("")
    depths = sorted({depth for depth, _ in grouped.groups})
    columns = {depth: [one for one in grouped.groups if one[0] == depth] for depth in depths}
    place = {
        one: (depths.index(depth) * (_BOX + _GAP) + 4, _TOP + row * _ROW)
        for depth, column in columns.items()
        for row, one in enumerate(column)
    }
    width = len(depths) * (_BOX + _GAP) + 8
    height = _TOP + max(len(column) for column in columns.values()) * _ROW
    parts = [
        f'<text class="step" x="{place[columns[depth][0]][0]}" y="16">{written(step(depth), _HEAD)}</text>'
        for depth in depths
    ]
    parts += [
        _way(place[above], place[below], number)
        for (above, below), number in sorted(grouped.ways.items())
        if above != below
    ]
    for one, nodes in grouped.groups.items():
        marks = "chosen" if one == chosen else "found" if one in found else "plain"
        parts.append(_box(one, place[one], lots(len(nodes)), address(one), marks))
    return Markup(
        f'<svg class="genealogy" role="group" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _way(above: tuple[int, int], below: tuple[int, int], number: int) -> str:
    start, end = (above[0] + _BOX, above[1] + _TALL / 2), (below[0], below[1] + _TALL / 2)
    half = (start[0] + end[0]) / 2
    wide = min(1 + len(str(number)), 5)
    return (
        f'<path class="way" stroke-width="{wide}" '
        f'd="M{start[0]} {start[1]}C{half} {start[1]} {half} {end[1]} {end[0]} {end[1]}"/>'
    )


def _box(one: Group, at: tuple[int, int], lots: str, address: str, marks: str) -> str:
    x, y = at
    kind = one[1].partition("/")[2] or one[1]
    name = escape(kind if len(kind) <= _LONGEST else f"…{kind[1 - _LONGEST :]}")
    return (
        f'<a href="{escape(address)}" aria-label="{escape(kind)}: {escape(lots)}">'
        f"<title>{escape(one[1])}</title>"
        f'<rect class="{marks}" x="{x}" y="{y}" width="{_BOX}" height="{_TALL}" rx="3"/>'
        f'<text x="{x + 8}" y="{y + 19}">{name}</text>'
        f'<text class="lots" x="{x + 8}" y="{y + 37}">{escape(fit(lots, _LONGEST))}</text></a>'
    )
