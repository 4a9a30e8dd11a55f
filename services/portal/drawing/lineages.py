"""A lineage as one drawing, left to right: from target and molecule to the next hypothesis.

A column is a kind of thing, in the order of the loops. Where a kind has more things than there is room
for, they are one box that says how many, until the reader opens it. Every box and every line is a link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from services.portal.drawing.texts import fit, written

#: As the trace orders them.
KINDS = (
    "target",
    "molecule",
    "product",
    "trial",
    "set",
    "transfer",
    "lot",
    "deviation",
    "run",
    "capa",
    "study",
    "insight",
    "hypothesis",
    "indication",
)
MOST = 8
_OPENED_MOST = 200
_WIDE, _HIGH, _ACROSS, _DOWN, _TOP = 132, 34, 40, 10, 26
#: Letters that a box has room for, and a column above its boxes.
_BOXED, _HEAD = 17, 23

Thing = tuple[str, str]


@dataclass(frozen=True)
class Line:
    """What led from a thing to another: an event, by its id, and what is read of it."""

    before: Thing
    after: Thing
    event: str
    label: str


@dataclass(frozen=True)
class Look:
    """How things are shown: the word for a kind, a thing's short name, its address, and that of a hop."""

    word: Callable[[str], str]
    short: Callable[[str], str]
    to: Callable[[Thing], str]
    hop: Callable[[str], str]
    open: Callable[[str], str]
    many: Callable[[str, int], str]


@dataclass(frozen=True)
class _Box:
    thing: Thing
    #: 0 for one thing; how many, for those that share the box.
    count: int
    x: int
    y: int


def columns(things: Iterable[Thing], asked: Sequence[Thing], opened: str) -> dict[str, list[Thing]]:
    """The things by kind, in the order of the loops; those that were asked for stand first."""
    found: dict[str, dict[str, None]] = {}
    for kind, id in (*asked, *things):
        found.setdefault(kind, {})[id] = None
    order = [*KINDS, *sorted(set(found) - set(KINDS))]
    return {
        kind: [(kind, id) for id in list(found[kind])[: _OPENED_MOST if kind == opened else None]]
        for kind in order
        if kind in found
    }


def lineage(
    lines: Sequence[Line],
    things: Iterable[Thing],
    *,
    asked: Sequence[Thing],
    opened: str,
    label: str,
    look: Look,
) -> Markup:
    """The drawing; empty without things."""
    by_kind = columns(things, asked, opened)
    if not by_kind:
        return Markup("")
    boxes: dict[Thing, _Box] = {}
    shown: list[_Box] = []
    tallest = 0
    for place, (kind, known) in enumerate(by_kind.items()):
        x = 4 + place * (_WIDE + _ACROSS)
        alone = known if kind == opened or len(known) <= MOST else [one for one in known if one in asked]
        rest = [one for one in known if one not in alone]
        for row, thing in enumerate(alone):
            boxes[thing] = _Box(thing, 0, x, _TOP + row * (_HIGH + _DOWN))
            shown.append(boxes[thing])
        if rest:
            box = _Box((kind, ""), len(rest), x, _TOP + len(alone) * (_HIGH + _DOWN))
            boxes |= dict.fromkeys(rest, box)
            shown.append(box)
        tallest = max(tallest, len(alone) + bool(rest))
    heads = [
        f'<text class="head" x="{4 + place * (_WIDE + _ACROSS)}" y="15">'
        f"{written(look.word(kind), _HEAD)}</text>"
        for place, kind in enumerate(by_kind)
    ]
    width = len(by_kind) * (_WIDE + _ACROSS) + 8
    height = _TOP + tallest * (_HIGH + _DOWN)
    return Markup(
        f'<svg class="lineage" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="group" aria-label="{escape(label)}">'
        f"{''.join(heads)}{_lines(lines, boxes, look)}"
        f"{''.join(_box(box, asked, look) for box in shown)}</svg>"
    )


def _lines(lines: Sequence[Line], boxes: Mapping[Thing, _Box], look: Look) -> str:
    """One line between two boxes, though many events lead along it; it links to the first of them."""
    drawn: dict[tuple[_Box, _Box], Line] = {}
    for line in lines:
        before, after = boxes.get(line.before), boxes.get(line.after)
        if before and after and before != after:
            drawn.setdefault((before, after), line)
    return "".join(_line(before, after, line, look) for (before, after), line in drawn.items())


def _line(before: _Box, after: _Box, line: Line, look: Look) -> str:
    y1, y2 = before.y + _HIGH // 2, after.y + _HIGH // 2
    if before.x == after.x:  # from a lot to a lot: round the left side
        x, bend = before.x, max(10, min(30, abs(y2 - y1) // 4))
        path = f"M{x} {y1}C{x - bend} {y1} {x - bend} {y2} {x} {y2}"
    elif before.x < after.x:
        x1, x2 = before.x + _WIDE, after.x
        middle = (x1 + x2) // 2
        path = f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
    else:  # back to an earlier kind: the loop closes
        x1, x2 = before.x, after.x + _WIDE
        path = f"M{x1} {y1}L{x2} {y2}"
    return (
        f'<a href="{escape(look.hop(line.event))}" aria-label="{escape(line.label)}">'
        f'<path class="hit" d="{path}"/><path class="edge" d="{path}"/>'
        f"<title>{escape(line.label)}</title></a>"
    )


def _box(box: _Box, asked: Sequence[Thing], look: Look) -> str:
    kind, id = box.thing
    text = look.many(kind, box.count) if box.count else look.short(id)
    to = look.open(kind) if box.count else look.to(box.thing)
    name = text if box.count else f"{look.word(kind)} {id}"
    style = "node many" if box.count else "node asked" if box.thing in asked else "node"
    return (
        f'<a href="{escape(to)}" aria-label="{escape(name)}"><title>{escape(name)}</title>'
        f'<rect class="{style}" x="{box.x}" y="{box.y}" width="{_WIDE}" height="{_HIGH}" rx="4"/>'
        f'<text x="{box.x + 8}" y="{box.y + 21}">{escape(fit(text, _BOXED))}</text></a>'
    )
