"""Runs that grow, each judged from where it was left.

A memory of what `course` says and no state: whether a run is remembered changes
how long an answer takes, never the answer. A run is gone on with only where its
samples are those that were judged and later ones after them, byte for byte;
any other is judged from its beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from services.production.domain.course import Course, go_on
from services.production.domain.golden import GoldenModel
from services.production.domain.monitor import start
from services.production.domain.samples import Samples

#: Bytes of samples that are remembered at most, of all runs together.
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class _Known:
    """How far a run was judged, by which limits, and the samples it was judged by."""

    limits: Mapping[str, float]
    samples: Samples
    course: Course


class Growing:
    """The runs that were judged last, at most so many bytes of them."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = Lock()

    def course(self, run: str, samples: Samples, model: GoldenModel, limits: Mapping[str, float]) -> Course:
        """The course of a run over all its samples."""
        place = run, model.version
        with self._lock:
            known = self._known.get(place)
        if known is None or known.limits != limits or not samples.continues(known.samples):
            known = _Known(limits, Samples(), Course(start(model, run)))
        done = len(known.samples)
        table = {tag: values[done:] for tag, values in samples.table().items()}
        course = go_on(model, limits, known.course, samples.seconds()[done:], table)
        self._remember(place, _Known(dict(limits), samples, course))
        return course

    def _remember(self, place: tuple[str, str], known: _Known) -> None:
        with self._lock:
            self._forget(place)
            self._known[place] = known
            self._bytes += known.samples.size
            while self._bytes > self._most:
                self._forget(next(iter(self._known)))

    def _forget(self, place: tuple[str, str]) -> None:
        before = self._known.pop(place, None)
        if before is not None:
            self._bytes -= before.samples.size
