"""What a service tells of anything that takes records: batch runners and loops alike.

Readiness and `StatusService` look at this.
"""

from __future__ import annotations

from typing import Protocol

from services.kit.bus.protocol import Partition
from services.kit.runners.batch import RunnerState


class Runner(Protocol):
    """Something that takes records and says how it fares."""

    @property
    def name(self) -> str:
        """Service and runner, as in metrics and dead letters."""

    @property
    def status(self) -> RunnerState:
        """Its state (`running` = it turns), lag and counts."""

    @property
    def generation(self) -> int:
        """Which making of its states it works on, from 1."""

    def positions(self) -> dict[Partition, int]:
        """The offset it takes next, by partition."""
