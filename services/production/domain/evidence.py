"""What production keeps of a run of the safety loop until it can act on it.

The parts come from four topics in any order. The evidence is whole when the
journal is sealed and every site that was announced has all its answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability


@dataclass(frozen=True)
class SiteAnswers:
    """The latest summary of one site."""

    site: str
    plans: int
    answered: int
    affected: int
    complete: bool


@dataclass(frozen=True)
class Evidence:
    """A run as far as it is known. `followers` are the runs that follow this one
    after its seal, and are about the same. `version` is the newest journal announced,
    `sealed` the one sealed; -1 before."""

    run: str
    root: str = ""
    deviation: str = ""
    product: str = ""
    tag: str = ""
    follows: str = ""
    followers: tuple[str, ...] = ()
    version: int = -1
    sites: tuple[str, ...] = ()
    sealed: int = -1
    answers: tuple[SiteAnswers, ...] = ()

    @property
    def plans(self) -> int:
        return sum(site.plans for site in self.answers)

    @property
    def answered(self) -> int:
        return sum(site.answered for site in self.answers)

    @property
    def affected(self) -> int:
        return sum(site.affected for site in self.answers)


def is_whole(evidence: Evidence) -> bool:
    """May a corrective action rest on it? Also needs to know what the run is about."""
    announced = 0 <= evidence.sealed <= evidence.version
    complete = {site.site for site in evidence.answers if site.complete}
    return bool(evidence.tag) and announced and complete.issuperset(evidence.sites)


def opened(held: Evidence, event: loops.SafetyRunOpened) -> Evidence:
    return replace(
        held,
        root=event.lot,
        deviation=event.deviation or held.deviation,
        product=event.product or held.product,
        tag=event.tag or held.tag,
        follows=event.follows,
    )


def inherited(held: Evidence, before: Evidence) -> Evidence:
    """A successor of a sealed run is about the same deviation as that run."""
    if held.tag:
        return held
    return replace(held, deviation=before.deviation, product=before.product, tag=before.tag)


def followed(held: Evidence, follower: str) -> Evidence:
    """The run is followed by another; it will hear what this one is about."""
    if follower in held.followers:
        return held
    return replace(held, followers=(*held.followers, follower))


def implicated(held: Evidence, event: traceability.LotImplicated) -> Evidence:
    return replace(held, root=event.root)


def announced(held: Evidence, event: traceability.ExposureAnnounced) -> Evidence:
    if event.version <= held.version:
        return held
    return replace(held, root=event.root, version=event.version, sites=tuple(sorted(event.sites)))


def sealed(held: Evidence, event: traceability.ExposureSealed) -> Evidence:
    return replace(held, sealed=event.version)


def answered(held: Evidence, event: clinical.ResponsesSummarised) -> Evidence:
    mine = SiteAnswers(event.site, event.plans, event.answered, event.affected, event.complete)
    others = [site for site in held.answers if site.site != event.site]
    return replace(held, answers=tuple(sorted([*others, mine], key=lambda site: site.site)))
