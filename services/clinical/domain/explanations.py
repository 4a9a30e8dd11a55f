"""Why the hospital's own records do not show a dispense: the aggregate behind DifferenceExplained."""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.clinical.v1 import events_pb2 as clinical


@dataclass(frozen=True)
class Explanation:
    """What a person of the site signed."""

    reason: str
    actor: str
    meaning: str


def evolve(state: Explanation | None, event: object) -> Explanation:
    """The explanation after its event."""
    assert isinstance(event, clinical.DifferenceExplained)
    return Explanation(event.reason, event.actor, event.meaning)
