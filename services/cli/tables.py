"""Tables: as wide as the terminal and no wider; tab-separated where the output is no terminal.

A table that does not fit is folded in its cells; one that would become too narrow
to read is written as records, a line for each field. Nothing is ever cut: an id
that is shown can be copied whole. Cells are text, whatever is in them; control
characters are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

#: A column that is folded is not folded below this, else records are written.
_NARROWEST = 14
#: Nor into more lines than this.
_DEEPEST = 4
_GAP = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPACES = re.compile(r"[\t\r\n]+")


def clean(text: object) -> str:
    """Text without control characters: what somebody wrote cannot steer the terminal."""
    return _CONTROL.sub("", str(text))


class _Out(Console):
    """A console for text that others wrote."""

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(clean(one) if isinstance(one, str) else one for one in objects), **how)


def console(*, stderr: bool = False) -> Console:
    """The terminal, or a stream of whole lines. What is printed is no markup."""
    how: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "stderr": stderr}
    out = _Out(**how)
    return out if out.is_terminal else _Out(soft_wrap=True, width=200, **how)


@dataclass(frozen=True)
class Sheet:
    """A title, columns, and rows of as many cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            yield from self._separated()
            return
        widths = [self._width(number) for number in range(len(self.columns))]
        gaps = _GAP * (len(widths) - 1)
        if not self.rows:
            yield Text(f"{self.title}: none")
        elif self._fits(
            [0 if self._of_ids(n) else w for n, w in enumerate(widths)], self._room(options) - gaps
        ):
            yield self._table()
        else:
            yield from self._records()

    def _of_ids(self, column: int) -> bool:
        """Ids are copied, so they are never folded."""
        return any(_ID.fullmatch(row[column]) for row in self.rows)

    def _room(self, options: ConsoleOptions) -> int:
        """What ids leave of the width."""
        ids = [number for number in range(len(self.columns)) if self._of_ids(number)]
        return options.max_width - sum(self._width(number) for number in ids)

    @staticmethod
    def _fits(widths: Sequence[int], room: int) -> bool:
        """Whether columns of these widths can be folded into so much room and still be read."""
        wide = [width for width in widths if width > _NARROWEST]
        left = room - (sum(widths) - sum(wide))
        return left >= _NARROWEST * len(wide) and sum(wide) <= _DEEPEST * left

    def _width(self, column: int) -> int:
        cells = (self.columns[column], *(row[column] for row in self.rows))
        return max((cell_len(line) for cell in cells for line in cell.split("\n")), default=0)

    def _separated(self) -> Iterable[Segment]:
        """The title behind a #, the columns' names and the rows, a line each: for `cut` and `sort`."""
        yield Segment(f"# {self.title}\n")
        for row in (self.columns, *self.rows):
            yield Segment("\t".join(_SPACES.sub(" ", cell) for cell in row) + "\n")

    def _table(self) -> Table:
        shown = Table(
            title=Text(self.title, style="italic"),
            title_justify="left",
            box=None,
            pad_edge=False,
            padding=(0, _GAP, 0, 0),
            header_style="bold",
        )
        for number, column in enumerate(self.columns):
            shown.add_column(column, overflow="fold", no_wrap=self._of_ids(number))
        for row in self.rows:
            shown.add_row(*(Text(cell) for cell in row))
        return shown

    def _records(self) -> Iterable[Text | Table]:
        """Each row as lines, a field each; the first is marked."""
        yield Text(self.title, style="italic")
        shown = Table.grid(padding=(0, _GAP, 0, 0))
        shown.add_column(style="bold", no_wrap=True)
        shown.add_column(overflow="fold")
        for row in self.rows:
            for number, (column, cell) in enumerate(zip(self.columns, row, strict=True)):
                shown.add_row(Text(f"{'  ' if number else '- '}{column}"), Text(cell))
        yield shown


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Sheet:
    """What `out.print` shows as a table."""
    return Sheet(
        clean(title), tuple(map(clean, columns)), tuple(tuple(clean(cell) for cell in row) for row in rows)
    )
