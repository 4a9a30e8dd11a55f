"""A user's file as a table: CSV however it is written, or Parquet."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from services.cli.feed import text
from services.cli.feed.table import CELL_LIMIT, REJECT_HEADERS, Fault, Row, Table
from services.cli.session import Failure

_PARQUET = b"PAR1"
#: Stands for a value that no cell can hold; every kind of value refuses it.
UNREADABLE = "\ufffd"
#: A line of more characters is not kept in memory.
_LINE_LIMIT = 1 << 20
_SAMPLE_LINES = 20
_BATCH_ROWS = 1024


def open_table(path: Path, encoding: str = "", delimiter: str = "") -> Table:
    """The table of a file; Failure says what is wrong with the file as a whole."""
    with path.open("rb") as file:
        head = file.read(len(_PARQUET))
    if not head:
        raise Failure(f"{path} is empty")
    table = _parquet(path) if head == _PARQUET else _csv(path, encoding, delimiter)
    _check(table)
    return table


def _check(table: Table) -> None:
    named = [header for header in table.headers if header]
    twice = sorted({header for header in named if named.count(header) > 1})
    if twice:
        raise Failure(f"{table.path}: two columns are called {', '.join(map(repr, twice))}; rename one")
    if not named:
        raise Failure(f"{table.path}: the first row must name the columns, and it is empty")
    if next(table.rows(), None) is None:
        raise Failure(f"{table.path} has a header and no rows")


# -- CSV ------------------------------------------------------------------


def _csv(path: Path, told_encoding: str, told_delimiter: str) -> Table:
    encoding, digest = text.encoding_of(path, told_encoding)
    with _opened(path, encoding) as lines:
        sample = list(islice(iter(lambda: lines.readline(_LINE_LIMIT), ""), _SAMPLE_LINES))
    said = text.said_by_excel(sample[0]) if sample else ""
    first = 2 if said else 1
    delimiter = told_delimiter or said or text.delimiter_of(path, sample)
    reading = _Csv(path, encoding, delimiter)
    header = next((row for row in reading.rows(0) if row.number >= first), None)
    if header is None or header.fault:
        why = header.fault.message if header and header.fault else "it has none"
        raise Failure(f"{path}: the header cannot be read: {why}")
    headers = tuple(cell.strip() for cell in header.cells)
    skip = len(REJECT_HEADERS) if headers[: len(REJECT_HEADERS)] == REJECT_HEADERS else 0

    def rows() -> Iterator[Row]:
        for row in reading.rows(len(headers)):
            if row.number > header.number:
                yield row._replace(cells=row.cells[skip:]) if skip else row

    return Table(path, digest, headers[skip:], path.stat().st_size, delimiter, rows)


def _opened(path: Path, encoding: str) -> TextIO:
    return path.open(encoding=encoding, errors="replace", newline="")


@dataclass
class _Csv:
    """Reads the rows of a CSV; a row that cannot be read is a row with a fault, and the next one follows."""

    path: Path
    encoding: str
    delimiter: str
    _overlong: bool = field(default=False, init=False)

    def rows(self, width: int) -> Iterator[Row]:
        """All rows but empty ones; each must have `width` cells, where that is not 0."""
        with self.path.open("rb") as raw:
            lines = io.TextIOWrapper(raw, self.encoding, errors="replace", newline="")
            reader = csv.reader(self._lines(lines), delimiter=self.delimiter, strict=True)
            while True:
                number, self._overlong = reader.line_num + 1, False
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Row(number, (), _position(raw), _unreadable(str(error), number, reader.line_num))
                    continue
                if self._overlong or any(cells):
                    yield Row(number, *self._judged(cells, width, number, reader.line_num, raw))

    def _judged(
        self, cells: list[str], width: int, number: int, last: int, raw: BinaryIO
    ) -> tuple[list[str], int, Fault | None]:
        fault = None
        if self._overlong:
            cells, fault = [], Fault("", "TOO_LONG", f"the line has more than {_LINE_LIMIT:,} characters")
        elif width and len(cells) != width:
            lines = f"lines {number} to {last} are one row, which" if last > number else "the row"
            told = (
                f"{lines} has {len(cells)} cells and the header {width}; is a quote or a delimiter left out?"
            )
            fault = Fault("", "RAGGED", told)
        elif any("\0" in cell for cell in cells):
            fault = Fault("", "NUL_BYTE", "the row holds a NUL byte; export the file anew")
            cells = [cell.replace("\0", "") for cell in cells]
        return cells, _position(raw), fault

    def _lines(self, file: TextIO) -> Iterator[str]:
        while line := file.readline(_LINE_LIMIT):
            if len(line) == _LINE_LIMIT and not line.endswith(("\n", "\r")):
                self._overlong = True
                while len(line) == _LINE_LIMIT and not line.endswith(("\n", "\r")):
                    line = file.readline(_LINE_LIMIT)
                line = "\n"
            yield line


def _position(raw: BinaryIO) -> int:
    return raw.tell()


def _unreadable(error: str, first: int, last: int) -> Fault:
    lines = f"lines {first} to {last}" if last > first else f"line {first}"
    if "field limit" in error:
        told = f"{lines}: a cell has more than {CELL_LIMIT:,} characters; is a quote left open?"
        return Fault("", "TOO_LONG", told)
    return Fault(
        "", "BAD_QUOTES", f"{lines}: the quotes do not match ({error}); write a quote in a cell twice"
    )


# -- Parquet --------------------------------------------------------------


def _parquet(path: Path) -> Table:
    import pyarrow as pa  # noqa: PLC0415 -- it takes a second and 40 MB, which a CSV need not pay
    import pyarrow.parquet as pq  # noqa: PLC0415

    def damaged(error: Exception, after: int) -> Failure:
        where = f"after row {after} " if after else ""
        return Failure(f"{path} cannot be read as Parquet {where}({error}); is the file whole?")

    try:
        with pq.ParquetFile(path) as file:
            headers = tuple(str(name).strip() for name in file.schema_arrow.names)
            size = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise damaged(error, 0) from None

    def rows() -> Iterator[Row]:
        number = 0
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    columns = [_cells(column) for column in batch.columns]
                    for cells in zip(*columns, strict=True):
                        number += 1
                        yield _parquet_row(number, cells)
        except (pa.ArrowException, OSError) as error:
            raise damaged(error, number) from None

    def _cells(column: Any) -> list[Any]:
        """The values of a column as Python has them; of moments whole microseconds are kept."""
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        try:
            cells: list[Any] = column.to_pylist()
        except (ValueError, OverflowError, LookupError):
            cells = [_cell(value) for value in column]
        return cells

    def _cell(value: Any) -> Any:
        try:
            return value.as_py()
        except (ValueError, OverflowError, LookupError):
            return UNREADABLE  # bytes that are no text, or a moment of the year 300,000

    with path.open("rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    return Table(path, digest, headers, size, ",", rows)


def _parquet_row(number: int, cells: tuple[Any, ...]) -> Row:
    if any(isinstance(cell, str | bytes) and len(cell) > CELL_LIMIT for cell in cells):
        told = f"a cell has more than {CELL_LIMIT:,} characters"
        return Row(number, (), number, Fault("", "TOO_LONG", told))
    return Row(number, cells, number)
