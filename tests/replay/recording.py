"""Recorded topics, and what every view has to become of them.

A recording is the log of one simulated world that went through a storm:
repeats, late records, successors of sealed runs. It is kept as it was, so that
a later build can be asked for the same answer.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from services.kit.bus.protocol import Partition, Record
from tests.reliability.sim.clockwork import Time, simulated
from tests.reliability.sim.log import Log
from tests.reliability.sim.replay import FOLDS, Replay, folded
from tests.reliability.sim.world import World

FOLDER = Path(__file__).with_name("recorded")
Views = dict[str, dict[str, Any]]


def log_file(seed: int) -> Path:
    return FOLDER / f"{seed}.log.xz"


def views_file(seed: int) -> Path:
    return FOLDER / f"{seed}.views.xz"


def recorded() -> list[int]:
    """The seeds that are recorded."""
    return sorted(int(path.name.split(".")[0]) for path in FOLDER.glob("*.log.xz"))


def save(seed: int, records: list[Record]) -> None:
    FOLDER.mkdir(exist_ok=True)
    log_file(seed).write_bytes(lzma.compress(msgspec.msgpack.encode([list(record) for record in records])))
    save_views(seed, text_of(replayed(records)))


def save_views(seed: int, text: str) -> None:
    views_file(seed).write_bytes(lzma.compress(text.encode()))


def records_of(seed: int) -> list[Record]:
    """The recorded topics, record by record."""
    plain = msgspec.msgpack.decode(lzma.decompress(log_file(seed).read_bytes()))
    return [_record(*one) for one in plain]


def _record(topic: str, number: int, offset: int, key: Any, value: Any, headers: Any, at: int) -> Record:
    return Record(topic, number, offset, key, value, tuple((name, text) for name, text in headers), at)


def expected(seed: int) -> str:
    """The views as the recording has them, as text."""
    return lzma.decompress(views_file(seed).read_bytes()).decode()


def replayed(records: list[Record]) -> Views:
    """Every view of every service, folded by this build from the records alone."""
    time, rng = Time(), Random(0)
    log = Log(time, rng)
    for record in records:
        log.records[Partition(record.topic, record.partition)].append(record)
    world = cast(World, SimpleNamespace(log=log, rng=rng, time=time))
    result: Views = {}
    with simulated(time, rng):
        for name in sorted(FOLDS):
            replay = Replay(world, name)
            replay.take_all()
            result[name] = folded(replay.database, name)
    return result


def text_of(views: Views) -> str:
    """One line a row, in a fixed order: byte-equal where the views are equal."""
    lines = [
        f"{service} {kind} {id} {msgspec.json.encode(row, order='deterministic').decode()}"
        for service, kinds in sorted(views.items())
        for kind, rows in sorted(kinds.items())
        for id, row in sorted(rows.items())
    ]
    return "\n".join(lines) + "\n"
