"""The site itself: that it takes part, and under which name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pharmaloop.clinical.v1 import events_pb2 as clinical


@dataclass(frozen=True)
class Site:
    """The site as it is registered; the aggregate behind SiteRegistered."""

    site: str
    name: str


def evolve(state: Site | None, event: object) -> Site:
    """The site after one of its own events."""
    assert isinstance(event, clinical.SiteRegistered)
    return Site(event.site, event.name)


def register(state: Site | None, wanted: clinical.SiteRegistered) -> list[clinical.SiteRegistered]:
    """A site registers once, and again only under another name."""
    return [] if state == Site(wanted.site, wanted.name) else [wanted]


def again(state: Site | None, announced: Collection[str]) -> list[clinical.SiteRegistered]:
    """A run is announced to the sites that take part: one that is not among them says again that it does."""
    if state is None or state.site in announced:
        return []
    return [clinical.SiteRegistered(site=state.site, name=state.name)]
