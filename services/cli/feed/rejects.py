"""The rejects file: each row that was not taken, why, and the row as it was.

It is a CSV in UTF-8 with the delimiter of the input: mended, it is fed like
any other file. It appears with its first row; an older one is kept as `.old`,
for somebody may be mending it.
"""

from __future__ import annotations

import csv
import io
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO

from services.cli.feed.table import REJECT_HEADERS, Fault, Row, Table
from services.cli.feed.text import DELIMITERS
from services.cli.session import Failure

_BOM = "\ufeff"
_HEAD_BYTES = 100


def rejects_path(file: Path) -> Path:
    """Where the rejects of a file go, if nobody says otherwise: beside it."""
    return file.with_name(f"{file.stem}.rejects.csv")


class Rejects:
    """Writes the rejects of one table.

    `kept` is the length in bytes up to which an earlier start's rows are kept;
    a new file begins at 0. Failure where a file of another kind has the name.
    """

    def __init__(self, path: Path, table: Table, kept: int = 0) -> None:
        self.path = path
        self._table = table
        self._kept = kept
        self._file: BinaryIO | None = None
        if path.exists():
            _check_ours(path)
        if kept:
            with path.open("r+b") as file:
                file.truncate(kept)
        elif path.exists():
            path.replace(path.with_name(f"{path.name}.old"))

    def add(self, row: Row, fault: Fault) -> None:
        """Write the row with its fault."""
        if self._file is None:
            self._file = self._open()
        cells = [self._table.path.name, str(row.number), *fault, *(_shown(cell) for cell in row.cells)]
        self._file.write(self._line(cells))

    def flush(self) -> int:
        """Bring what was written to the disk; answers the file's length."""
        if self._file is None:
            return self._kept
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        if self._kept:
            return self.path.open("ab")
        file = self.path.open("wb")
        shutil.copymode(self._table.path, self.path)  # whoever may not read the one may not read the other
        file.write(_BOM.encode() + self._line([*REJECT_HEADERS, *self._table.headers]))
        return file

    def _line(self, cells: list[str]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self._table.delimiter).writerow(cells)
        return text.getvalue().encode(errors="replace")


def _check_ours(path: Path) -> None:
    """Failure where a file is no rejects file, by whatever program it was saved since."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode(errors="replace").lstrip(_BOM).replace('"', "")
    if not any(head.startswith(delimiter.join(REJECT_HEADERS)) for delimiter in DELIMITERS):
        raise Failure(f"{path} exists and is no rejects file; name another with --rejects, or move it away")


def _shown(cell: Any) -> str:
    if cell is None:
        return ""
    return cell.isoformat() if isinstance(cell, date | datetime) else str(cell)
