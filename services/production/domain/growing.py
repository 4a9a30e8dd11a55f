"""Runs that grow, each judged from where it was left.

A memory of what `course` says and no state: whether a run is remembered changes
how long an answer takes, never the answer. What is remembered is gone on with
only as far as the samples are the same, bit for bit.

Of a run two courses are kept. The newest one, and that of the samples which the
newest one shares with others that were asked for: the batches of a run are
judged one after the other, and between that each of them may be tried out upon
what is stored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from services.production.domain.course import Course, go_on
from services.production.domain.golden import GoldenModel
from services.production.domain.monitor import start
from services.production.domain.samples import Samples, shared

#: Bytes of samples that are remembered at most, of all runs together.
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class _Known:
    """A run as it was judged: its samples with their course, and the course of the first `rows` of them."""

    limits: Mapping[str, float]
    samples: Samples
    course: Course
    rows: int
    before: Course


class Growing:
    """The runs that were judged last, at most so many bytes of them. For one thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def course(self, run: str, samples: Samples, model: GoldenModel, limits: Mapping[str, float]) -> Course:
        """The course of a run over all its samples."""
        place, nothing = (run, model.version), Course(start(model, run))
        known = self._known.get(place)
        if known is None or known.limits != limits:
            known = _Known(dict(limits), Samples(), nothing, 0, nothing)
        same = shared(samples, known.samples)
        rows, before, course = known.rows, known.before, known.course
        if same < len(known.samples):
            if same < rows:
                rows, before = 0, nothing
            before = course = _until(before, samples, rows, same, model, limits)
            rows = same
        course = _until(course, samples, same, len(samples), model, limits)
        self._remember(place, _Known(known.limits, samples, course, rows, before))
        return course

    def _remember(self, place: tuple[str, str], known: _Known) -> None:
        self._forget(place)
        self._known[place] = known
        self._bytes += known.samples.size
        while self._bytes > self._most:
            self._forget(next(iter(self._known)))

    def _forget(self, place: tuple[str, str]) -> None:
        before = self._known.pop(place, None)
        if before is not None:
            self._bytes -= before.samples.size


def _until(
    course: Course, samples: Samples, first: int, last: int, model: GoldenModel, limits: Mapping[str, float]
) -> Course:
    """The course of the samples before `first`, gone on with up to `last`."""
    table = {tag: values[first:last] for tag, values in samples.table().items()}
    return go_on(model, limits, course, samples.seconds()[first:last], table)
