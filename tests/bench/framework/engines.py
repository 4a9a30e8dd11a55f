"""What the engines of a stack take: bytes on their disks, and processor time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from tests.bench.framework.rows import Row, row

#: Of MongoDB's folder, what does not grow with what is kept: logs of fixed size, and its own measurements.
_FIXED = ("journal", "diagnostic.data")
_CALLED = {"kafka": "the broker", "mongod": "the database"}
_TICKS = os.sysconf("SC_CLK_TCK")
_BLOCK = 512


@dataclass(frozen=True)
class Engines:
    """Bytes on disk of broker and database, and seconds of processor time by process since its start."""

    kafka_bytes: int
    mongo_bytes: int
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, state: Path, mongodb: str, pids: Mapping[str, int]) -> Engines:
        """What they take now; the database writes out first what it holds in memory."""
        with MongoClient[Any](mongodb) as client:
            client.admin.command("fsync")
        return cls(disk_bytes(state / "kafka"), disk_bytes(state / "mongod", _FIXED), processors(pids))


def processors(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds of processor time of each process since its start."""
    return {name: processor_seconds(pid) for name, pid in pids.items()}


def spent(before: Mapping[str, float], after: Mapping[str, float], count: int, what: str) -> list[Row]:
    """Milliseconds of processor time that each process took for a thousand of what was done, of which there
    were `count` meanwhile."""
    return [
        row(
            f"processor time of {_CALLED.get(name, name)} for 1,000 {what}",
            1e6 * (after[name] - before[name]) / count,
            "ms",
        )
        for name in after
    ]


def processor_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    # The name, in brackets, may hold spaces; what stands behind it has fixed places.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS


def disk_bytes(folder: Path, without: tuple[str, ...] = ()) -> int:
    """Bytes that the files of a folder hold on the disk: neither the holes of an index that was made long
    beforehand nor what the file system keeps in store behind a file's end."""
    total = 0
    for where, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in without]
        for file in files:
            try:
                told = (Path(where) / file).stat()
            except FileNotFoundError:
                continue  # a segment or a collection that was given up meanwhile
            total += min(told.st_size, told.st_blocks * _BLOCK)
    return total
