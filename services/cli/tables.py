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
_GAP = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
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
        elif sum(min(width, _NARROWEST) for width in widths) + gaps <= options.max_width:
            yield self._table()
        else:
            yield from self._records()

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
        for column in self.columns:
            shown.add_column(column, overflow="fold")
        for row in self.rows:
            shown.add_row(*(Text(cell) for cell in row))
        return shown

    def _records(self) -> Iterable[Text]:
        yield Text(self.title, style="italic")
        wide = max(cell_len(column) for column in self.columns)
        for row in self.rows:
            for number, (column, cell) in enumerate(zip(self.columns, row, strict=True)):
                mark = "- " if number == 0 else "  "
                name = column + " " * (wide - cell_len(column))
                yield Text.assemble(mark, (name, "bold"), "  ", cell.replace("\n", "; "), overflow="fold")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Sheet:
    """What `out.print` shows as a table."""
    return Sheet(
        clean(title), tuple(map(clean, columns)), tuple(tuple(clean(cell) for cell in row) for row in rows)
    )
