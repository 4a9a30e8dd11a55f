"""Rows of flat dataclasses as Parquet: all the files of a folder, or nothing of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import pyarrow
from pyarrow import parquet

_TYPES: Mapping[Any, Any] = {
    str: pyarrow.string(),
    int: pyarrow.int64(),
    float: pyarrow.float64(),
    bool: pyarrow.bool_(),
    datetime: pyarrow.timestamp("us", tz="UTC"),
    timedelta: pyarrow.float64(),
    tuple[str, ...]: pyarrow.list_(pyarrow.string()),
}


def table(kind: type[Any], rows: Iterable[Any]) -> Any:
    """A pyarrow.Table with a column for each field of the dataclass; a length of time is given in
    seconds, in a column whose name says so."""
    held = list(rows)
    hints = {name: _plain(hint) for name, hint in get_type_hints(kind).items()}
    columns = {}
    for field in fields(kind):
        values = [getattr(row, field.name) for row in held]
        name, hint = field.name, hints[field.name]
        if hint is timedelta:
            name, values = f"{name}_seconds", [_seconds(value) for value in values]
        columns[name] = pyarrow.array(values, _TYPES[hint])
    return pyarrow.table(columns)


def _plain(hint: Any) -> Any:
    """The type of a field that may be missing."""
    if isinstance(hint, UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def write_folder(folder: Path, tables: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> Path:
    """`<name>.parquet` for each table and the texts beside them; whole or not at all.

    What was there before is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, held in tables.items():
        parquet.write_table(held, draft / f"{name}.parquet", compression="zstd")
    for name, text in (texts or {}).items():
        (draft / name).write_text(text)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return folder
