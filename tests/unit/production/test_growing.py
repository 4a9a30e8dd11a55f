"""A run that grows is judged as its samples stand, whatever was judged of it before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from services.production.domain import samples, watch
from services.production.domain.course import judge_extents
from services.production.domain.golden import GoldenModel
from services.production.domain.growing import Growing
from services.production.domain.maturity import Run
from services.production.domain.samples import Column, Samples
from tests.unit.production.test_detection import changed, planted, split

LIMITS = {"DryerTemp": 2.4}


def stored(run: Run) -> Samples:
    """The run as the detector keeps it."""
    times = np.round(np.asarray(run.times) * 1_000_000).astype(np.int64)
    columns = [
        Column(tag, "1", np.where(good, values, np.nan).tobytes())
        for tag, values, good in zip(run.tags, run.values, run.good, strict=True)
    ]
    return Samples(times.tobytes(), tuple(sorted(columns, key=lambda column: column.tag)))


def rows(held: Samples, first: int, last: int) -> Samples:
    columns = tuple(replace(one, values=one.values[8 * first : 8 * last]) for one in held.columns)
    return Samples(held.times[8 * first : 8 * last], columns)


def whole(model: GoldenModel, held: Samples, limits: Mapping[str, float]) -> object:
    """What is said of all samples at once."""
    return judge_extents(model, limits, watch.recorded("lot", held))


def runs() -> Iterator[tuple[GoldenModel, Samples]]:
    """Runs that come out, go back and come out again, with samples that are missing."""
    for seed in range(3):
        model, unseen = split(seed)
        draw = np.random.default_rng(seed)
        for run in unseen[:4]:
            begin = len(run.times) // 3
            faulty = planted(model, run, "DryerTemp", begin, 6.0)
            faulty = planted(model, faulty, "DryerTemp", begin + 12, -6.0)
            faulty = planted(model, faulty, "DryerTemp", begin + 25, 9.0, ramp=10)
            good = tuple((draw.random(len(run.times)) > 0.1).tolist())
            values = list(faulty.values[faulty.tags.index("AgitatorPower")])
            yield model, stored(changed(faulty, "AgitatorPower", values, good))


def test_batch_by_batch_says_what_the_whole_says_after_each() -> None:
    out = 0
    for number, (model, held) in enumerate(runs()):
        draw, growing, grown, first = np.random.default_rng(number), Growing(), Samples(), 0
        while first < len(held):
            last = min(len(held), first + int(draw.integers(1, 25)))
            grown = samples.joined(grown, rows(held, first, last))
            found = growing.course("run", grown, model, LIMITS).found
            assert found == whole(model, grown, LIMITS)
            first, out = last, out + len(found)
        assert grown == held
    assert out > 50, "the runs alarm"


@pytest.mark.parametrize("most_bytes", [0, 1 << 30])
def test_what_comes_late_or_is_new_is_judged_from_the_beginning(most_bytes: int) -> None:
    model, held = next(runs())
    growing, half = Growing(most_bytes), len(held) // 2
    later = rows(held, half, len(held))
    without = replace(later, columns=later.columns[1:])
    for part in (
        later,  # the second half first,
        samples.joined(later, rows(held, 0, half)),  # then what was before it,
        samples.joined(without, rows(held, 0, half)),  # with a tag that ends,
        rows(held, 0, half),  # a shorter run,
        held,
    ):
        for limits in ({}, LIMITS):
            assert growing.course("run", part, model, limits).found == whole(model, part, limits)


def test_batches_that_are_tried_out_between_change_nothing() -> None:
    """As the runner does: each batch of a piece upon what is stored, and then one after the other."""
    model, held = next(runs())
    growing, piece, width = Growing(), 4, 6
    for begin in range(0, len(held), piece * width):
        stored, grown = rows(held, 0, begin), rows(held, 0, begin)
        parts = [rows(held, first, first + width) for first in range(begin, begin + piece * width, width)]
        for part in parts:
            grown = samples.joined(grown, part)
            assert growing.course("run", grown, model, LIMITS).found == whole(model, grown, LIMITS)
            for other in parts:
                tried = samples.joined(stored, other)
                assert growing.course("run", tried, model, LIMITS).found == whole(model, tried, LIMITS)


def test_runs_and_models_are_kept_apart() -> None:
    growing, seen = Growing(), list(runs())
    for _ in range(2):
        for number, (model, held) in enumerate(seen):
            run = f"run {number % 2}"
            assert growing.course(run, held, model, LIMITS).found == whole(model, held, LIMITS)
