"""What a file is to the feed: a header, and rows with their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

#: A cell of more characters is not read.
CELL_LIMIT = 131_072
#: The first columns of a rejects file; one that was mended is fed like any other file.
REJECT_HEADERS = ("file", "row", "field", "rule", "message")


class Fault(NamedTuple):
    """Why a row is not taken: the column at fault, the rule (UPPER_SNAKE), and the way out in a sentence."""

    field: str
    rule: str
    message: str


class Row(NamedTuple):
    """A row: `number` is the line it begins at (the header's is 1), in Parquet its place from 1.

    `cells` stand as the headers do; they are empty where the row could not be
    read, and `fault` says why. `done` says how much of the table's size lies
    behind it.
    """

    number: int
    cells: Sequence[Any]
    done: int
    fault: Fault | None = None


@dataclass(frozen=True)
class Table:
    """An opened file. `digest` is the SHA-256 of its bytes; `size` is in bytes, for Parquet in rows.

    `rows` reads from the beginning each time it is called, in constant memory.
    """

    path: Path
    digest: str
    headers: tuple[str, ...]
    size: int
    delimiter: str
    rows: Callable[[], Iterator[Row]]
