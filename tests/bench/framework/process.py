"""A process that is sampled every second, for the benchmark of charts: what its runs read, and their faults.

Deterministic: run `n` is the same in every process, so that whoever checks a
result can say which runs must be found, and from when on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.ids import lot_key, product_key

PRODUCT = product_key("acme", "local", "bench-mass")
EQUIPMENT = "reactor-1"
TAGS = tuple(f"Sensor{number}" for number in range(1, 9))
UNIT = "Cel"
#: Every so manieth run has a fault on one tag: a step, so large that no setting misses it.
FAULTY_EVERY, FAULT, FAULTY_TAG = 4, 40.0, "Sensor3"
_BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
_REMEMBERS = 0.9

Values = npt.NDArray[np.float64]  # samples x tags


def lot(kind: str, number: int) -> str:
    return lot_key("acme", "local", "bench-mass", f"{kind}-{number:03}")


def onset(number: int, samples: int) -> int | None:
    """The first faulty sample of a run; None when it is good."""
    return samples // 2 + number if number % FAULTY_EVERY == 0 else None


def values(kind: str, number: int, samples: int) -> Values:
    """What the run reads: a slow course and noise that remembers a little, about a level of its own."""
    draw = np.random.default_rng([number, *kind.encode()])
    noise = draw.normal(0.0, 0.3, (samples, len(TAGS)))
    for row in range(1, samples):
        noise[row] += _REMEMBERS * noise[row - 1]
    course = 3.0 * np.sin(np.arange(samples) / 600.0)[:, None] + np.arange(len(TAGS)) * 10.0
    return np.asarray(50.0 + course + draw.normal(0.0, 0.5, len(TAGS)) + noise)


def faulty(kind: str, number: int, samples: int) -> Values:
    """The run with its fault, if it has one."""
    read, begins = values(kind, number, samples), onset(number, samples)
    if begins is not None:
        read[begins:, TAGS.index(FAULTY_TAG)] += FAULT
    return read


def window(kind: str, number: int, read: Values, first: int, samples: int) -> production.ReadingsRecorded:
    """Some samples of a run as a historian sends them: all tags, column by column."""
    rows = read[first : first + samples]
    batch = production.ReadingsRecorded(
        equipment=EQUIPMENT,
        lot=lot(kind, number),
        offsets_ms=[1000 * second for second in range(len(rows))],
        tags=[
            production.TagReadings(tag=tag, unit=UNIT, values=column.tolist())
            for tag, column in zip(TAGS, rows.T, strict=True)
        ],
    )
    batch.start.at.FromSeconds(int(_BEGAN.timestamp()) + first)
    return batch


def windows(kind: str, lots: int, samples: int, width: int) -> Iterator[production.ReadingsRecorded]:
    """All runs side by side, window by window, as a plant sends them."""
    read = [faulty(kind, number, samples) for number in range(lots)]
    for first in range(0, samples, width):
        for number in range(lots):
            yield window(kind, number, read[number], first, width)


def moment(second: float) -> datetime:
    """When a sample was taken."""
    return datetime.fromtimestamp(_BEGAN.timestamp() + second, UTC)
