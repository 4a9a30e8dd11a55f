"""A genealogy as far as it is opened: what went into a lot to its left, what was made from it to its right.

The lots of a kind next to a lot are one box with their number, so that ten thousand are one box until
somebody opens it; then a page of them stands below it. A box leads to what opens or closes it, the name
of a lot to its page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from markupsafe import Markup, escape

from services.portal.drawing.texts import written
from services.portal.genealogies import DOWN, UP, Genealogy, Group, Lot, Opened

_BOX, _TALL, _ACROSS, _ROW, _TOP = 244, 24, 56, 30, 30
_INDENT, _TOGGLE = 12, 64
_LONGEST = 22
#: Letters that a column has room for above its boxes.
_HEAD = 32


@dataclass(frozen=True)
class Look:
    """How a genealogy is shown: words, the page of a lot, and the address that opens or closes a thing."""

    step: Callable[[int], str]
    lots: Callable[[int], str]
    more: Callable[[int], str]
    before: Callable[[int], str]
    to: Callable[[str], str]
    opens: Callable[[Opened], str]
    closes: Callable[[Opened], str]
    open: Callable[[str], str]
    close: Callable[[str], str]
    count: Callable[[int], str]


def drawing(found: Genealogy, *, label: str, look: Look, hits: Collection[str] = ()) -> Markup:
    """The drawing; `hits` are lots that a search found."""
    sides = [_Side(UP, look, hits), _Side(DOWN, look, hits)]
    sides[0].draw(found.above, 0, _TOP, 0.0)
    sides[1].draw(found.below, 0, _TOP, 0.0)
    left, right = (side.columns for side in sides)
    root = _text(0, _TOP, _short(_number(found.root.lot)), look.to(found.root.lot), found.root.lot, "asked")
    heads = "".join(
        f'<text class="step" x="{column * (_BOX + _ACROSS)}" y="16">'
        f"{written(look.step(column), _HEAD)}</text>"
        for column in range(-left, right + 1)
    )
    x = -left * (_BOX + _ACROSS) - 4
    width = (left + right + 1) * (_BOX + _ACROSS) - _ACROSS + 8
    height = max(_TOP + _ROW, *(side.bottom for side in sides)) + 4
    parts = "".join(part for side in sides for part in (*side.ways, *side.boxes))
    return Markup(
        f'<svg class="genealogy" role="group" viewBox="{x} 0 {width} {height}" '
        f'width="{width}" height="{height}" aria-label="{escape(label)}">{heads}{parts}{root}</svg>'
    )


class _Side:
    """One side of the drawing: up goes to the left, down to the right."""

    def __init__(self, way: str, look: Look, hits: Collection[str]) -> None:
        self._way, self._look, self._hits = way, look, hits
        self._sign = 1 if way == DOWN else -1
        self.boxes: list[str] = []
        self.ways: list[str] = []
        self.columns, self.bottom = 0, 0

    def draw(self, groups: Iterable[Group], column: int, y: int, indent: float) -> int:
        """The groups next to what stands in a column at a height; the height below them."""
        above = y
        for group in groups:
            self.columns = max(self.columns, column + 1)
            self._way_to(column, above + _TALL // 2, y + _TALL // 2, indent)
            y = self._group(group, column + 1, y)
        self.bottom = max(self.bottom, y)
        return y

    def _x(self, column: int) -> int:
        return self._sign * column * (_BOX + _ACROSS)

    def _group(self, group: Group, column: int, y: int) -> int:
        look, x = self._look, self._x(column)
        name = _short(group.kind.partition("/")[2] or group.kind)
        this = Opened(self._way, group.of, group.kind)
        closing = Opened(self._way, group.of) if group.alone else this
        to = look.closes(closing) if group.opened else look.opens(this)
        words = look.close(group.kind) if group.opened else look.open(group.kind)
        label = f"{words}: {look.lots(group.lots)}"
        self.boxes.append(
            f'<a href="{escape(to)}" aria-label="{escape(label)}" {_expanded(group.opened)}>'
            f"<title>{escape(label)}</title>"
            f'<rect class="group" x="{x}" y="{y}" width="{_BOX}" height="{_TALL}" rx="3"/>'
            f'<text x="{x + 8}" y="{y + 16}">{escape(name)}</text>'
            f'<text class="lots" text-anchor="end" x="{x + _BOX - 8}" y="{y + 16}">'
            f"{'−' if group.opened else '+'} {escape(look.count(group.lots))}</text></a>"
        )
        y += _ROW
        if group.before:
            y = self._more(look.before(group.before), look.opens(this), x, y)
        for lot in group.shown:
            y = self._lot(lot, column, y)
        if group.following:
            to = look.opens(this._replace(begin=group.following))
            y = self._more(look.more(group.after), to, x, y)
        return y

    def _lot(self, lot: Lot, column: int, y: int) -> int:
        x = self._x(column) + _INDENT
        wide = _BOX - _INDENT - (_TOGGLE if lot.onward else 0)
        marks = "found" if lot.lot in self._hits else "unsure" if lot.suspect or not lot.known else ""
        name = _short(_number(lot.lot), 18 if lot.onward else 24)
        self.boxes.append(_text(x, y, name, self._look.to(lot.lot), lot.lot, marks, wide))
        if lot.onward:
            self.boxes.append(self._toggle(lot, x + wide, y))
        if lot.groups:
            return max(y + _ROW, self.draw(lot.groups, column, y, _INDENT))
        return y + _ROW

    def _toggle(self, lot: Lot, x: int, y: int) -> str:
        words = self._look.close(lot.lot) if lot.opened else self._look.open(lot.lot)
        label = f"{words}: {self._look.lots(lot.onward)}"
        this = Opened(self._way, lot.lot)
        to = self._look.closes(this) if lot.opened else self._look.opens(this)
        return (
            f'<a href="{escape(to)}" aria-label="{escape(label)}" {_expanded(lot.opened)}>'
            f"<title>{escape(label)}</title>"
            f'<rect class="group" x="{x}" y="{y}" width="{_TOGGLE}" height="{_TALL}" rx="3"/>'
            f'<text class="lots" text-anchor="middle" x="{x + _TOGGLE // 2}" y="{y + 16}">'
            f"{'−' if lot.opened else '+'} {escape(self._look.count(lot.onward))}</text></a>"
        )

    def _more(self, words: str, to: str, x: int, y: int) -> int:
        self.boxes.append(
            f'<a href="{escape(to)}"><text class="more" x="{x + _INDENT + 8}" y="{y + 16}">'
            f"{escape(words)}</text></a>"
        )
        return y + _ROW

    def _way_to(self, column: int, y1: int, y2: int, indent: float) -> None:
        start, end = self._x(column), self._x(column + 1)
        if self._way == DOWN:
            x1, x2 = start + _BOX, end
        else:
            x1, x2 = start + int(indent), end + _BOX
        half = (x1 + x2) // 2
        self.ways.append(f'<path class="way" d="M{x1} {y1}C{half} {y1} {half} {y2} {x2} {y2}"/>')


def _text(x: int, y: int, name: str, to: str, title: str, marks: str, wide: int = _BOX) -> str:
    return (
        f'<a href="{escape(to)}" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect class="{marks}" x="{x}" y="{y}" width="{wide}" height="{_TALL}" rx="3"/>'
        f'<text x="{x + 8}" y="{y + 16}">{escape(name)}</text></a>'
    )


def _expanded(opened: bool) -> str:
    return f'aria-expanded="{str(opened).lower()}"'


def _number(lot: str) -> str:
    """A lot's own number, as people read it."""
    return unquote(lot.rpartition("/")[2])


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"…{text[1 - longest :]}"
