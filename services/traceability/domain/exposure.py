"""The head of a run's exposure journal: what is announced, and how it grows.

The entries are documents of their own; the head holds what every commit
rewrites: version, lots, and for each site epoch, members and digest. An
announcement carries all of it, so the head evolves by announcements and an
entry's own event costs nothing: a journal of n entries is built in O(n).
Nothing joins a sealed journal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from services.traceability.domain import digest
from services.traceability.domain.entries import MEMBER
from services.traceability.domain.moments import stamp


class DigestKeys(Protocol):
    """Gives the key of a run's digests at a site."""

    def key(self, run: str, site: str) -> bytes:
        """32 bytes; the same in every process."""

    def sealed(self, run: str, site: str) -> common.Sealed:
        """The key, sealed for the site."""


@dataclass(frozen=True)
class SiteHead:
    """What the journal holds for one site; `digest` is hex."""

    site: str
    epoch: int = 0
    n: int = 0
    digest: str = digest.ZERO


@dataclass(frozen=True)
class Exposure:
    """The head of a journal, as it was last announced."""

    run: str
    root: str
    version: int = 0
    lots: tuple[str, ...] = ()
    sites: tuple[SiteHead, ...] = ()
    unattributed: int = 0
    sealed: bool = False
    successor: str = ""

    @property
    def members(self) -> int:
        return sum(site.n for site in self.sites)


class Member(NamedTuple):
    """A dispense that joins: its patient is known."""

    site: str
    dispense: str
    lot: str
    pseudonym: str
    at: str


class Growth(NamedTuple):
    """What one commit adds: lots with their depths, members, a change of the unattributed."""

    lots: Sequence[tuple[str, int]]
    members: Sequence[Member]
    unattributed: int
    sites: Collection[str]


# -- evolve ---------------------------------------------------------------


def _announced(state: Exposure, event: events.ExposureAnnounced) -> Exposure:
    sites = tuple(SiteHead(name, at.epoch, at.n, at.digest.hex()) for name, at in sorted(event.sites.items()))
    return replace(
        state, version=event.version, lots=tuple(event.lots), sites=sites, unattributed=event.unattributed
    )


def evolve(state: Exposure | None, event: Message) -> Exposure:
    """The head after one of its own events; an entry's event changes nothing by itself."""
    if state is None:
        assert isinstance(event, events.ExposureOpened | events.LotImplicated)
        return Exposure(event.run, event.root)
    if isinstance(event, events.ExposureAnnounced):
        return _announced(state, event)
    if isinstance(event, events.ExposureSealed):
        return replace(state, sealed=True)
    if isinstance(event, events.ExposureAfterSeal):
        return replace(state, successor=event.successor)
    return state


# -- decide ---------------------------------------------------------------


def grown(state: Exposure | None, run: str, root: str, growth: Growth, keys: DigestKeys) -> list[Message]:
    """The events of one commit: what is new, then the announcement of the whole run.

    Empty when nothing is new and the run was announced before.
    """
    state = state or Exposure(run, root)
    fresh = sorted(set(growth.sites) - {site.site for site in state.sites})
    if state.version and not (fresh or growth.lots or growth.members or growth.unattributed):
        return []
    assert not state.sealed, "nothing joins a sealed run"
    heads = {site.site: site for site in (*state.sites, *map(SiteHead, fresh))}
    after = {name: _site_after(run, head, growth.members, keys) for name, head in heads.items()}
    told: list[Message] = [
        events.ExposureOpened(run=run, site=site, root=root, digest_key=keys.sealed(run, site))
        for site in fresh
    ]
    told += [events.LotImplicated(run=run, lot=lot, root=root, depth=depth) for lot, depth in growth.lots]
    told += [_entered(run, member, after[member.site].epoch) for member in growth.members]
    told.append(_announcement(state, growth, after.values()))
    return told


def _site_after(run: str, head: SiteHead, members: Iterable[Member], keys: DigestKeys) -> SiteHead:
    mine = [member for member in members if member.site == head.site]
    if not mine:
        return head
    key = keys.key(run, head.site)
    terms = [digest.term(key, m.site, m.pseudonym, m.lot, m.dispense, MEMBER) for m in mine]
    return SiteHead(head.site, head.epoch + 1, head.n + len(mine), digest.added(head.digest, terms))


def _entered(run: str, member: Member, epoch: int) -> events.ExposureEntered:
    return events.ExposureEntered(
        run=run,
        site=member.site,
        epoch=epoch,
        kind=events.ENTRY_KIND_MEMBER,
        dispense=member.dispense,
        lot=member.lot,
        pseudonym=member.pseudonym,
        at=stamp(member.at),
    )


def _announcement(state: Exposure, growth: Growth, sites: Iterable[SiteHead]) -> events.ExposureAnnounced:
    return events.ExposureAnnounced(
        run=state.run,
        version=state.version + 1,
        root=state.root,
        lots=(*state.lots, *(lot for lot, _ in growth.lots)),
        unattributed=state.unattributed + growth.unattributed,
        sites={head.site: site_exposure(head) for head in sites},
    )


def site_exposure(head: SiteHead) -> events.SiteExposure:
    return events.SiteExposure(epoch=head.epoch, n=head.n, digest=bytes.fromhex(head.digest))


def answer(state: Exposure, asked: int) -> events.ExposureSealed | events.ExposureExtended:
    """The answer to a seal that was asked for at a version."""
    if state.version == asked:
        return events.ExposureSealed(run=state.run, version=asked, lots=state.lots, members=state.members)
    return events.ExposureExtended(run=state.run, asked=asked, version=state.version)


def after_seal(state: Exposure, successor: str) -> list[events.ExposureAfterSeal]:
    """Something belongs to a sealed run: name its successor, once."""
    if state.successor:
        return []
    return [events.ExposureAfterSeal(run=state.run, successor=successor, root=state.root)]
