"""A paper of A4 pages: a title, sections, facts and tables, and "page n of N" on each.

It is laid out first and drawn then, for only then it is known how many pages there are. A row of a table
is a few pieces of text on a page, so ten thousand rows take a second or two. Lengths are in points, from
the lower left corner of the page.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from services.portal.papers.letters import Widths, lines, runs, widths, written

_WIDE, _HIGH = A4
_LEFT, _TOP, _BOTTOM = 42.0, _HIGH - 46.0, 52.0
_ROOM = _WIDE - 2 * _LEFT
_TEXT, _SMALL, _LEAD, _PAD = 9.0, 8.0, 1.3, 3.0
#: A table whose words do not fit is written smaller, down to this.
_SMALLEST = 6.0
#: A word that needs more than this part of the page's width is broken.
_LONGEST = 0.62
#: A heading is not left alone at the end of a page: so much has to follow it.
_FOLLOWS = 60.0


class _Piece(NamedTuple):
    x: float
    y: float
    text: str
    size: float
    bold: bool


class _Rule(NamedTuple):
    y: float
    strong: bool


class Column(NamedTuple):
    """A column of a table: its heading and its share of the width; shares need not add up to one."""

    heading: str
    share: float


@dataclass(frozen=True)
class About:
    """What a file says of itself: title, subject, language (BCP 47), and the foot of its pages."""

    title: str
    subject: str
    language: str
    foot: str
    #: "Page n of N" for two numbers.
    number: Callable[[int, int], str]


class Sheets:
    """Pages that fill from above; `pdf` gives the file."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._pages: list[list[_Piece | _Rule]] = [[]]
        self._y = _TOP
        self._sections: list[tuple[str, int]] = []

    def title(self, text: str) -> None:
        self._say(text, 15.0, bold=True, below=4.0)

    def section(self, text: str) -> None:
        """A heading that the reader's list of contents has."""
        self._need(_FOLLOWS)
        self._y -= 12.0
        self._sections.append((written(text), len(self._pages) - 1))
        self._say(text, 11.5, bold=True, below=3.0)

    def part(self, text: str) -> None:
        """A heading within a section."""
        self._need(_FOLLOWS)
        self._y -= 6.0
        self._say(text, _TEXT, bold=True, below=2.0)

    def say(self, text: str) -> None:
        self._say(text, _TEXT, below=4.0)

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Names with what is said of them; a fact without anything is left out."""
        columns = (Column("", 0.28), Column("", 0.72))
        wide = [_ROOM * one.share for one in columns]
        rows = [(name, said) for name, said in facts if said]
        self._rows(columns, rows, wide, size=_TEXT, bold_first=True)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """A table; its headings stand on every page that it reaches. Its columns are as wide as what stands
        in them: no number, moment or id is broken that fits on the page."""
        held = [[written(cell) for cell in row] for row in rows]
        size, wide = _fitted(columns, held)
        self._rows(columns, held, wide, size=size)

    def pdf(self) -> bytes:
        """The file."""
        file = io.BytesIO()
        canvas = Canvas(file, pagesize=A4, lang=self._about.language)
        canvas.setTitle(written(self._about.title))
        canvas.setSubject(written(self._about.subject))
        canvas.setCreator("PharmaLoop")
        canvas.setAuthor("PharmaLoop")
        starts: dict[int, list[str]] = {}
        for name, first in self._sections:
            starts.setdefault(first, []).append(name)
        for number, page in enumerate(self._pages):
            for place, name in enumerate(starts.get(number, ())):
                key = f"{number}-{place}"
                canvas.bookmarkPage(key)
                canvas.addOutlineEntry(name, key)
            for piece in (*page, *self._feet(number)):
                _draw(canvas, piece)
            canvas.showPage()
        canvas.save()
        return file.getvalue()

    def _feet(self, page: int) -> list[_Piece | _Rule]:
        number = written(self._about.number(page + 1, len(self._pages)))
        foot = lines(written(self._about.foot), _ROOM - 90, 7.0)[:2]
        return [
            _Rule(_BOTTOM - 12, False),
            *(_Piece(_LEFT, _BOTTOM - 22 - 9 * row, text, 7.0, False) for row, text in enumerate(foot)),
            _Piece(_WIDE - _LEFT - 80, _BOTTOM - 22, number, 7.0, False),
        ]

    def _say(self, text: str, size: float, *, below: float, bold: bool = False) -> None:
        for line in lines(written(text), _ROOM, size, bold):
            self._need(size * _LEAD)
            self._y -= size * _LEAD
            self._add(_Piece(_LEFT, self._y, line, size, bold))
        self._y -= below

    def _rows(
        self,
        columns: Sequence[Column],
        rows: Iterable[Sequence[str]],
        wide: Sequence[float],
        *,
        size: float,
        bold_first: bool = False,
    ) -> None:
        across = [_LEFT + sum(wide[:place]) for place in range(len(wide))]
        lead = size * _LEAD

        def cells(row: Sequence[str], bold: Sequence[bool]) -> list[list[str]]:
            pairs = zip(row, wide, bold, strict=True)
            return [lines(written(text), room - 2 * _PAD, size, thick) for text, room, thick in pairs]

        heading = cells([one.heading for one in columns], [True] * len(columns))
        headed = any(one.heading for one in columns)
        tallest = max(len(cell) for cell in heading) * lead + _PAD

        def head() -> None:
            if headed:
                self._put(heading, across, size, [True] * len(columns))
                self._add(_Rule(self._y, True))

        thick = [bold_first and place == 0 for place in range(len(columns))]
        begun = False
        for row in rows:
            text = cells(row, thick)
            while text:
                tall = max(len(cell) for cell in text) * lead + _PAD
                if not begun:
                    self._need((tallest if headed else 0) + min(tall, 4 * lead))
                    head()
                    begun = True
                room = int((self._y - _BOTTOM - _PAD) / lead)
                whole = int((_TOP - _BOTTOM - tallest - _PAD) / lead)  # lines that an empty page takes
                count = max(len(cell) for cell in text)
                if count > room and (count <= whole or room < 1):
                    self._turn()
                    head()
                    continue
                self._put([cell[:room] for cell in text], across, size, thick)
                self._add(_Rule(self._y, False))
                rest = [cell[room:] for cell in text]
                text = rest if any(rest) else []
        self._y -= 4.0

    def _put(
        self, cells: Sequence[Sequence[str]], across: Sequence[float], size: float, bold: Sequence[bool]
    ) -> None:
        lead = size * _LEAD
        for cell, x, thick in zip(cells, across, bold, strict=True):
            for row, line in enumerate(cell):
                if line:
                    self._add(_Piece(x + _PAD, self._y - (row + 1) * lead, line, size, thick))
        self._y -= max(len(cell) for cell in cells) * lead + _PAD

    def _add(self, piece: _Piece | _Rule) -> None:
        self._pages[-1].append(piece)

    def _need(self, points: float) -> None:
        if self._y - points < _BOTTOM:
            self._turn()

    def _turn(self) -> None:
        self._pages.append([])
        self._y = _TOP


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """The size of a table's letters, and how wide its columns are.

    A column has room for its widest word; where that is too much for the page, for its widest word broken at
    hyphens, and the letters become smaller before a word is broken elsewhere. What is left is for those
    whose lines are longer, as much as they want.
    """
    found = [
        _widest([widths(written(one.heading), True), *(widths(row[place]) for row in rows)])
        for place, one in enumerate(columns)
    ]
    size = _SMALL
    while sum(_needed(one.hyphened, size) for one in found) > _ROOM and size > _SMALLEST:
        size -= 0.5
    least = [_needed(one.hyphened, size) for one in found]
    words = [max(_needed(one.word, size), low) for one, low in zip(found, least, strict=True)]
    all_of = [max(one.line * size + 2 * _PAD, low) for one, low in zip(found, words, strict=True)]
    if sum(least) > _ROOM:
        return size, [_ROOM * one / sum(least) for one in least]
    if sum(words) > _ROOM:
        return size, _between(least, words)
    if sum(all_of) > _ROOM:
        return size, _between(words, all_of)
    rest = (_ROOM - sum(all_of)) / sum(one.share for one in columns)
    return size, [wide + rest * one.share for wide, one in zip(all_of, columns, strict=True)]


def _widest(found: Iterable[Widths]) -> Widths:
    return Widths(*(max(one) for one in zip(*found, strict=True)))


def _needed(wide: float, size: float) -> float:
    return float(min(wide * size, _ROOM * _LONGEST) + 2 * _PAD)


def _between(least: Sequence[float], most: Sequence[float]) -> list[float]:
    """Each its least, and of the rest of the page a part by how much more it wants."""
    want = [high - low for low, high in zip(least, most, strict=True)]
    part = (_ROOM - sum(least)) / sum(want)
    return [low + part * more for low, more in zip(least, want, strict=True)]


def _draw(canvas: Canvas, piece: _Piece | _Rule) -> None:
    if isinstance(piece, _Rule):
        canvas.setLineWidth(0.7 if piece.strong else 0.25)
        canvas.setStrokeGray(0 if piece.strong else 0.6)
        canvas.line(_LEFT, piece.y, _WIDE - _LEFT, piece.y)
        return
    text = canvas.beginText(piece.x, piece.y)
    for font, part in runs(piece.text, piece.bold):
        text.setFont(font, piece.size)
        text.textOut(part)
    canvas.drawText(text)
