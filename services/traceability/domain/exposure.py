"""The head of a run's exposure journal: what is announced, and how it grows.

The entries are documents of their own; the head holds what every commit
rewrites: version, lots, and for each site epoch, members and digest. An
announcement carries all of it, so the head evolves by announcements and the
events of entries cost nothing: a journal of n entries is built in O(n).
Nothing joins a sealed journal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from services.traceability.domain import digest, dispense
from services.traceability.domain.entries import MEMBER
from services.traceability.domain.moments import iso, stamp

#: At most so many entries in one event.
BULK = 500
_DISPOSITIONS = {
    "": events.DISPOSITION_UNSPECIFIED,
    dispense.RETURNED_UNOPENED: events.DISPOSITION_RETURNED_UNOPENED,
    dispense.RETURNED: events.DISPOSITION_RETURNED,
    dispense.CORRECTED: events.DISPOSITION_CORRECTED,
    dispense.REINSTATED: events.DISPOSITION_REINSTATED,
}


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
    explained: int = 0
    sealed: bool = False
    successor: str = ""

    @property
    def members(self) -> int:
        return sum(site.n for site in self.sites)


class Joining(NamedTuple):
    """An entry that joins: a member, or what became of one, as its `number`-th disposition."""

    site: str
    dispense: str
    lot: str
    pseudonym: str
    at: str
    possible: bool = False
    number: int = 0
    disposition: str = ""

    @property
    def kind(self) -> str:
        """The entry's kind as the digest names it."""
        return f"DISPOSITION/{self.number}/{self.disposition}" if self.number else MEMBER


class Growth(NamedTuple):
    """What one commit adds: lots with their depths, entries, changes of the unattributed and explained."""

    lots: Sequence[tuple[str, int]]
    entries: Sequence[Joining]
    unattributed: int
    explained: int
    sites: Collection[str]

    @property
    def empty(self) -> bool:
        return not (self.lots or self.entries or self.unattributed or self.explained)


# -- evolve ---------------------------------------------------------------


def _announced(state: Exposure, event: events.ExposureAnnounced) -> Exposure:
    sites = tuple(SiteHead(name, at.epoch, at.n, at.digest.hex()) for name, at in sorted(event.sites.items()))
    return replace(
        state,
        root=event.root,
        version=event.version,
        lots=tuple(event.lots),
        sites=sites,
        unattributed=event.unattributed,
        explained=event.explained,
    )


def evolve(state: Exposure | None, event: Message) -> Exposure:
    """The head after one of its own events; those of entries change nothing by themselves."""
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
    # The head of a transaction that was lost half published knows no root: an announcement would tell it.
    state = replace(state or Exposure(run, root), root=root)
    fresh = sorted(set(growth.sites) - {site.site for site in state.sites})
    if state.version and not fresh and growth.empty:
        return []
    assert not state.sealed, "nothing joins a sealed run"
    heads = {site.site: site for site in (*state.sites, *map(SiteHead, fresh))}
    after = {name: _site_after(run, head, growth.entries, keys) for name, head in heads.items()}
    told: list[Message] = [
        events.ExposureOpened(run=run, site=site, digest_key=keys.sealed(run, site)) for site in fresh
    ]
    told += [events.LotImplicated(run=run, lot=lot, root=root, depth=depth) for lot, depth in growth.lots]
    for site, head in after.items():
        told += joined(run, site, growth.entries, head.epoch)
    told.append(_announcement(state, growth, after.values()))
    return told


def _site_after(run: str, head: SiteHead, entries: Iterable[Joining], keys: DigestKeys) -> SiteHead:
    mine = [entry for entry in entries if entry.site == head.site]
    if not mine:
        return head
    key = keys.key(run, head.site)
    terms = [digest.term(key, e.site, e.pseudonym, e.lot, e.dispense, e.kind) for e in mine]
    members = sum(not entry.number for entry in mine)
    return SiteHead(head.site, head.epoch + 1, head.n + members, digest.added(head.digest, terms))


def joined(
    run: str, site: str, entries: Sequence[Joining], epoch: int
) -> Iterator[events.ExposureEntriesJoined]:
    """The events of a site's entries, in bulks; of epoch 0 when the journal was sealed before."""
    mine = [entry for entry in entries if entry.site == site]
    for start in range(0, len(mine), BULK):
        bulk = [_entry(entry) for entry in mine[start : start + BULK]]
        yield events.ExposureEntriesJoined(run=run, site=site, epoch=epoch, entries=bulk)


def joinings(told: events.ExposureEntriesJoined) -> list[Joining]:
    """The entries of a bulk, as they joined."""
    return [
        Joining(
            told.site,
            item.dispense,
            item.lot,
            item.pseudonym,
            iso(item.at),
            item.possible,
            item.number,
            disposition_of(item),
        )
        for item in told.entries
    ]


def disposition_of(item: events.ExposureEntry) -> str:
    """What became of the member; empty for the member itself."""
    return next(name for name, told in _DISPOSITIONS.items() if told == item.disposition)


def _entry(entry: Joining) -> events.ExposureEntry:
    return events.ExposureEntry(
        kind=events.ENTRY_KIND_DISPOSITION if entry.number else events.ENTRY_KIND_MEMBER,
        dispense=entry.dispense,
        lot=entry.lot,
        pseudonym=entry.pseudonym,
        at=stamp(entry.at),
        possible=entry.possible,
        number=entry.number,
        disposition=_DISPOSITIONS[entry.disposition],
    )


def _announcement(state: Exposure, growth: Growth, sites: Iterable[SiteHead]) -> events.ExposureAnnounced:
    return events.ExposureAnnounced(
        run=state.run,
        version=state.version + 1,
        root=state.root,
        lots=(*state.lots, *(lot for lot, _ in growth.lots)),
        unattributed=state.unattributed + growth.unattributed,
        explained=state.explained + growth.explained,
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
