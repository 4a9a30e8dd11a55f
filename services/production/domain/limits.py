"""Limits in force: what corrective actions changed, by product and tag.

A limit that a person signed stays in force until another signature changes
it, also when the product's model is trained anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pharmaloop.production.v1 import events_pb2 as events


@dataclass(frozen=True)
class Changed:
    """A limit in residual standard deviations, and since when (platform time, ISO)."""

    tag: str
    limit: float
    at: str
    capa: str


@dataclass(frozen=True)
class Limits:
    """Every change of a product's limits, in order of time."""

    product: str
    changes: tuple[Changed, ...] = ()

    def at(self, moment: str) -> dict[str, float]:
        """The changed limits in force at a moment, by tag."""
        return {change.tag: change.limit for change in self.changes if change.at <= moment}

    @property
    def version(self) -> int:
        """How often the limits were changed."""
        return len(self.changes)

    def now(self) -> dict[str, float]:
        return {change.tag: change.limit for change in self.changes}


def change(held: Limits | None, event: events.ProcessLimitChanged, at: str) -> Limits:
    """The limits with one change more. The same change has one effect."""
    before = held or Limits(event.product)
    others = [c for c in before.changes if (c.capa, c.tag) != (event.capa, event.tag)]
    changes = [*others, Changed(event.tag, event.limit_after, at, event.capa)]
    return replace(before, changes=tuple(sorted(changes, key=lambda c: (c.at, c.capa))))


def in_force(
    tag: str, limits: Limits | None, model: events.GoldenModelTrained | None, otherwise: float
) -> float:
    """A tag's limit: as a signature changed it, else the model's, else as given."""
    changed = limits.now() if limits else {}
    if tag in changed:
        return changed[tag]
    trained = {held.tag: held.limit for held in model.tags} if model else {}
    return trained.get(tag, otherwise)
