"""A parameter set with its versions, and how its events change it.

    draft -> reviewed -> released -> superseded (at every plant)
      any of them -> withdrawn

A release is to one plant. A version is released until a later one was
released to each of its plants; these go on by it until the later one is
effective there, so that it may still be withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from google.protobuf.message import Message

from pharmaloop.rnd.v1 import events_pb2 as events

_OfVersion = (
    events.ParameterSetReviewed,
    events.ParameterSetReleased,
    events.ParameterSetSuperseded,
    events.ParameterSetWithdrawn,
)
State: TypeAlias = Literal["draft", "reviewed", "released", "superseded", "withdrawn"]


@dataclass(frozen=True)
class Release:
    """A version at a plant; `superseded_by` is 0 while no later version took its place."""

    plant: str
    actor: str
    superseded_by: int = 0


@dataclass(frozen=True)
class Version:
    """One version; `content` is the serialised Sealed of what it says."""

    version: int
    content: bytes
    content_hash: bytes
    trial: str
    drafter: str
    reviewer: str = ""
    releases: tuple[Release, ...] = ()
    withdrawn: bool = False

    @property
    def standing(self) -> tuple[Release, ...]:
        """Releases by which a plant works."""
        return () if self.withdrawn else tuple(one for one in self.releases if not one.superseded_by)

    @property
    def state(self) -> State:
        if self.withdrawn:
            return "withdrawn"
        if self.releases:
            return "released" if self.standing else "superseded"
        return "reviewed" if self.reviewer else "draft"


@dataclass(frozen=True)
class Asked:
    """A review that was asked for: of which version, by which corrective action, of what."""

    version: int
    capa: str
    parameter: str


@dataclass(frozen=True)
class ParameterSet:
    """A set; `versions` in order, from 1 on."""

    set: str
    product: str
    versions: tuple[Version, ...] = ()
    asked: tuple[Asked, ...] = ()

    @property
    def newest(self) -> Version:
        return self.versions[-1]

    def find(self, version: int) -> Version | None:
        return self.versions[version - 1] if 0 < version <= len(self.versions) else None

    def at(self, plant: str) -> int:
        """The version by which a plant works; 0 where it works by none."""
        return max((v.version for v, one in self.standing() if one.plant == plant), default=0)

    def latest(self, plant: str) -> int:
        """The latest version that was ever released to a plant; 0 for none."""
        had = (v.version for v in self.versions if any(one.plant == plant for one in v.releases))
        return max(had, default=0)

    def standing(self) -> Iterator[tuple[Version, Release]]:
        """Every release by which a plant works, with its version."""
        return ((version, one) for version in self.versions for one in version.standing)


def evolve(held: ParameterSet | None, event: Message) -> ParameterSet:
    """The set after one of its own events."""
    if isinstance(event, events.ParameterSetDrafted):
        before = held or ParameterSet(event.set, event.product)
        content = event.content.SerializeToString(deterministic=True)
        drafted = Version(event.version, content, event.content_hash, event.trial, event.actor)
        return replace(before, versions=(*before.versions, drafted))
    assert held is not None, f"{type(event).__name__} before the first draft"
    if isinstance(event, events.ReviewRequested):
        return replace(held, asked=(*held.asked, Asked(event.version, event.capa, event.parameter)))
    if isinstance(event, _OfVersion):
        version = _moved(_of(held, event.version), event)
        place = version.version
        return replace(held, versions=(*held.versions[: place - 1], version, *held.versions[place:]))
    return held


def _moved(version: Version, event: Message) -> Version:
    """A version after an event of its own but the first."""
    match event:
        case events.ParameterSetReviewed():
            return replace(version, reviewer=event.actor)
        case events.ParameterSetReleased():
            return replace(version, releases=(*version.releases, Release(event.plant, event.actor)))
        case events.ParameterSetSuperseded():
            releases = tuple(
                replace(one, superseded_by=event.by_version) if one.plant == event.plant else one
                for one in version.releases
            )
            return replace(version, releases=releases)
    return replace(version, withdrawn=True)


def _of(held: ParameterSet, version: int) -> Version:
    found = held.find(version)
    assert found is not None, f"no version {version}"
    return found
