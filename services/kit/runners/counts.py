"""What a batch runner tells of its work in numbers: what it took, what became of it, what waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from services.kit.bus.protocol import Partition, Record
from services.kit.clock import wall_now
from services.kit.contracts import event_type, short_type
from services.kit.envelope import type_of
from services.kit.errors import Poison
from services.kit.metrics import (
    BATCH_SECONDS,
    DEAD_LETTERS,
    FENCED,
    GROUP_LAG,
    HANDLED,
    PROJECTOR_DELAY,
    RUNNER_AGE,
    RUNNER_RECORDS,
    WATERMARK_AGE,
    Metrics,
)
from services.kit.runners.behind import Behind
from services.kit.runners.reactor import Reactor


class Counts:
    """One runner's numbers. `tell_behind` may be called from any thread, the others by the runner."""

    def __init__(
        self, metrics: Metrics, reactor: Reactor, runner: str, group: str, topics: Sequence[str]
    ) -> None:
        self._metrics = metrics
        self._runner = runner
        self._group = group
        self._topics = topics
        self._projects = not reactor.emits
        self._types = {event_type(cls): short_type(cls) for cls in reactor.events}
        self.behind = Behind()
        self._begin()

    def _begin(self) -> None:
        """Say 0 of all that may happen: a first time that makes the series itself is no increase of it."""
        self._metrics.add(FENCED, 0, part=self._runner)
        for type in (*self._types.values(), "other"):
            for outcome in ("done", "dead"):
                self._metrics.add(HANDLED, 0, runner=self._runner, type=type, outcome=outcome)

    def taken(self, records: list[Record]) -> None:
        """They are done with, or passed over."""
        self._metrics.add(RUNNER_RECORDS, len(records), runner=self._runner)
        now = wall_now().timestamp()
        self.behind.done(records, now)
        oldest = min(record.timestamp_ms for record in records) / 1000
        self._metrics.observe(RUNNER_AGE, max(0.0, now - oldest), runner=self._runner)

    def committed(
        self, records: list[Record], reasons: list[str | None], seconds: float, trace: str = ""
    ) -> None:
        """A batch was folded in so many seconds; `reasons` say which of its records are dead letters.
        `trace` is the traceparent of one of its spans.

        By type, as this runner knows them: whatever else somebody sent has one name.
        """
        self._metrics.observe(BATCH_SECONDS, seconds, trace=trace, runner=self._runner)
        told = zip(map(self._type, records), reasons, strict=True)
        for (type, dead), count in Counter((type, reason is not None) for type, reason in told).items():
            if type or dead:
                of = {"type": type or "other", "outcome": "dead" if dead else "done"}
                self._metrics.add(HANDLED, count, runner=self._runner, **of)

    def dead(self, reason: str) -> None:
        self._metrics.add(DEAD_LETTERS, runner=self._runner, reason=reason)

    def fenced(self) -> None:
        """It found that another process had moved its watermark."""
        self._metrics.add(FENCED, part=self._runner)

    def tell_behind(self, positions: Mapping[Partition, int]) -> None:
        """Measure how old what waits is."""
        lags, stuck = self.behind.look(positions, wall_now().timestamp())
        for topic in self._topics:
            self._metrics.set(GROUP_LAG, lags.get(topic, 0.0), group=self._group, topic=topic)
        self._metrics.set(WATERMARK_AGE, stuck, runner=self._runner)
        if self._projects:
            delay = max(lags.values(), default=0.0)
            self._metrics.set(PROJECTOR_DELAY, delay, runner=self._runner)

    def _type(self, record: Record) -> str:
        """The event's type in short; empty for an event that is not this runner's, or none at all."""
        try:
            return self._types.get(type_of(record), "")
        except Poison:
            return ""
