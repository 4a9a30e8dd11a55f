"""What the run of a lot was like, as its plant tells it: sites group the lots of a study by it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pharmaloop.production.v1 import events_pb2 as production


@dataclass(frozen=True)
class Held:
    """A process parameter: its mean over the lot's run, UCUM unit."""

    mean: float
    unit: str


@dataclass(frozen=True)
class LotProfile:
    """The parameters of a lot by tag."""

    lot: str
    parameters: dict[str, Held] = field(default_factory=dict)


def told(message: production.LotProfiled) -> LotProfile:
    """The profile that the plant tells; the newest telling holds."""
    return LotProfile(message.lot, {one.tag: Held(one.mean, one.unit) for one in message.parameters})
