"""Read your writes: wait until a service has folded given places of the log.

Watermarks are committed with the states they describe, so a watermark that
has passed a place proves that the place is folded, whichever process did it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.bus.protocol import Partition
from services.kit.errors import Invalid, Retryable
from services.kit.runners.notes import MARKS
from services.kit.store.protocol import AsyncStore

_POLL_SECONDS = 0.01
_WAIT_SECONDS = 2.0


class Positions:
    """Where the runners of a service stand, from their stored watermarks."""

    def __init__(
        self,
        store: AsyncStore,
        topics: Mapping[str, Iterable[str]],
        generation: Callable[[str], int] = lambda runner: 1,
    ) -> None:
        """`topics` gives the topics by runner name, `generation` the making that queries read."""
        self._store = store
        self._generation = generation
        self._topics = {runner: frozenset(names) for runner, names in topics.items()}
        self._folded_by: dict[str, list[str]] = defaultdict(list)
        for runner, names in self._topics.items():
            for name in sorted(names):
                self._folded_by[name].append(runner)

    def topics(self, runner: str) -> frozenset[str]:
        """The topics that the runner folds."""
        return self._topics[runner]

    async def of(self, runner: str) -> dict[Partition, int]:
        """The offset that the runner takes next, by partition; nothing for an untouched one."""
        marks = await self._store.where(MARKS, "runner", runner)
        live = self._generation(runner)
        return {
            Partition(m.state.topic, m.state.partition): m.state.next
            for m in marks
            if m.state.generation == live
        }

    async def all(self) -> dict[str, dict[Partition, int]]:
        """The positions of every runner."""
        runners = {runner for names in self._folded_by.values() for runner in names}
        return {runner: await self.of(runner) for runner in sorted(runners)}

    def folds(self, topic: str) -> bool:
        """Is there a runner that folds the topic?"""
        return topic in self._folded_by

    async def folded(self, topics: Iterable[str]) -> dict[Partition, int]:
        """The offset before which every runner that folds the topic has folded all, by partition.

        A partition that no runner has touched is left out.
        """
        runners = {topic: self._folded_by[topic] for topic in topics if self.folds(topic)}
        at = {
            runner: await self.of(runner) for runner in {name for names in runners.values() for name in names}
        }
        touched = {place for marks in at.values() for place in marks if place.topic in runners}
        return {place: min(at[runner].get(place, 0) for runner in runners[place.topic]) for place in touched}

    async def reached(self, wanted: common.PositionVector) -> None:
        """Return once every place is folded.

        Invalid when no runner folds the topic; Retryable after two seconds.
        """
        for place in wanted.positions:
            if place.topic not in self._folded_by:
                known = ", ".join(sorted(self._folded_by))
                raise Invalid(
                    "WRONG_TOPIC",
                    f"this service does not fold {place.topic!r}; it folds {known}",
                    "min_position",
                )
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while not await self._passed(wanted):
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise Retryable("min_position is not folded yet; ask again in a moment") from None

    async def _passed(self, wanted: common.PositionVector) -> bool:
        runners = {runner for place in wanted.positions for runner in self._folded_by[place.topic]}
        at = {runner: await self.of(runner) for runner in runners}
        return all(
            at[runner].get(Partition(place.topic, place.partition), 0) > place.offset
            for place in wanted.positions
            for runner in self._folded_by[place.topic]
        )
