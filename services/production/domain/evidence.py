"""What production keeps of a run of the safety loop until it can act on it.

The parts come from four topics in any order. The evidence is whole when the
journal is sealed and every site that was announced has all its answers, and
has released what may be known of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.production.domain import pooled
from services.production.domain.pooled import Release, Row


@dataclass(frozen=True)
class SiteAnswers:
    """The latest summary of one site. `released`: it told the complaints as well, as sites once did."""

    site: str
    plans: int
    answered: int
    complete: bool
    released: bool = False


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
    releases: tuple[Release, ...] = ()

    @property
    def answered(self) -> int:
        """Patients who answered, at the sites that told how many of them had a complaint."""
        return pooled.totals(self.releases)[0]

    @property
    def affected(self) -> int:
        return pooled.totals(self.releases)[1]

    def release(self, site: str) -> Release | None:
        return next((release for release in self.releases if release.site == site), None)


def is_whole(evidence: Evidence) -> bool:
    """May a corrective action rest on it? Also needs to know what the run is about."""
    announced = 0 <= evidence.sealed <= evidence.version
    settled = {site.site for site in evidence.answers if _is_settled(evidence, site)}
    return bool(evidence.tag) and announced and settled.issuperset(evidence.sites)


def _is_settled(evidence: Evidence, site: SiteAnswers) -> bool:
    """Has the site all answers, and released what is final of as many plans?"""
    if not site.complete or site.released:
        return site.complete
    release = evidence.release(site.site)
    return release is not None and release.final_plans == site.plans


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


def answered(held: Evidence, event: clinical.FollowUpSummarised) -> Evidence:
    return _answered(held, SiteAnswers(event.site, event.plans, event.answered, event.complete))


def answered_openly(held: Evidence, event: clinical.ResponsesSummarised) -> Evidence:
    """A summary of before sites withheld small numbers: a release as well."""
    mine = SiteAnswers(event.site, event.plans, event.answered, event.complete, released=True)
    told = Release(event.site, 0, Row(event.answered, event.affected), Row())
    return _released(_answered(held, mine), told)


def released(held: Evidence, event: clinical.EvidenceReleased) -> Evidence:
    return _released(held, pooled.release_of(event, held.release(event.site)))


def _answered(held: Evidence, mine: SiteAnswers) -> Evidence:
    others = [site for site in held.answers if site.site != mine.site]
    return replace(held, answers=tuple(sorted([*others, mine], key=lambda site: site.site)))


def _released(held: Evidence, mine: Release) -> Evidence:
    others = [release for release in held.releases if release.site != mine.site]
    return replace(held, releases=tuple(sorted([*others, mine], key=lambda release: release.site)))
