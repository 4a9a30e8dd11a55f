"""What the wall looked at last, run by run, so that a page that is asked for again looks at new samples only.

A memory and no state: whether a run is remembered changes how long an answer
takes, never the answer. It goes on with a run only as far as the samples are
the same, bit for bit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from services.production.domain.golden import GoldenModel
from services.production.domain.samples import Samples, shared
from services.production.domain.standing import Course, begun, followed

#: Bytes that are remembered at most, of samples and of what was found in them.
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class _Known:
    samples: Samples
    course: Course

    @property
    def size(self) -> int:
        return self.samples.size + self.course.size


class Looking:
    """The runs that were looked at last. For any thread; one looks at a time."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = threading.Lock()

    def course(self, run: str, samples: Samples, model: GoldenModel) -> Course:
        """The course of a run over all its samples."""
        with self._lock:
            place = (run, model.version)
            known = self._forget(place)
            goes_on = known is not None and shared(samples, known.samples) == len(known.samples)
            before = known.course if known is not None and goes_on else begun(model, run)
            course = followed(before, model, samples)
            self._known[place] = now = _Known(samples, course)
            self._bytes += now.size
            while self._bytes > self._most:
                self._forget(next(iter(self._known)))
            return course

    def _forget(self, place: tuple[str, str]) -> _Known | None:
        known = self._known.pop(place, None)
        if known is not None:
            self._bytes -= known.size
        return known
