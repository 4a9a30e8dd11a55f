"""What the topics tell a site of studies and of the other sites' keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.runners.reactor import Row
from services.kit.store.kinds import Kind
from services.kit.store.protocol import AsyncStore


@dataclass(frozen=True)
class SeenStudy:
    """A study as its events tell it. `requested` is empty until they do."""

    study: str
    requested: bytes = b""
    approved: tuple[str, ...] = ()
    over: str = ""
    #: Sites whose owners agreed that contributions are valued.
    valuing: tuple[str, ...] = ()

    def message(self) -> events.StudyRequested:
        return events.StudyRequested.FromString(self.requested)


@dataclass(frozen=True)
class SeenDataset:
    """A dataset's site, the key that it signs with, and the one to which is sealed what it alone may read."""

    site: str
    signing_key: bytes
    mask_key: bytes = b""


SEEN_STUDIES: Kind[SeenStudy] = Kind("seen_study", SeenStudy)
SEEN_DATASETS: Kind[SeenDataset] = Kind("seen_dataset", SeenDataset, ("site",))


def _study(event: Event) -> str:
    return str(getattr(event.message, "study", ""))


def _requested(seen: SeenStudy | None, event: Event) -> SeenStudy:
    held = seen or SeenStudy(_study(event))
    if held.requested:
        return held  # what an owner approved is not exchanged under the approval
    return replace(held, requested=event.message.SerializeToString(deterministic=True))


def _approved(seen: SeenStudy | None, event: Event) -> SeenStudy:
    message: Any = event.message
    held = seen or SeenStudy(message.study)
    valuing = {*held.valuing, message.site} if message.valuation else held.valuing
    return replace(
        held,
        approved=tuple(sorted({*held.approved, message.site})),
        valuing=tuple(sorted(valuing)),
    )


def _over(seen: SeenStudy | None, event: Event) -> SeenStudy:
    return replace(seen or SeenStudy(_study(event)), over=type(event.message).__name__)


def _ended(seen: SeenStudy | None, event: Event) -> SeenStudy:
    message: Any = event.message
    return (seen or SeenStudy(_study(event))) if message.suspended else _over(seen, event)


def _dataset(seen: SeenDataset | None, event: Event) -> SeenDataset:
    message: Any = event.message
    return seen or SeenDataset(message.site, message.signing_key, message.mask_key)


def signing_keys(datasets: Iterable[SeenDataset]) -> dict[str, bytes]:
    """The key of each site. One that is told two keys has none: nobody here can say which is its own."""
    told: dict[str, set[bytes]] = {}
    for one in datasets:
        told.setdefault(one.site, set()).add(one.signing_key)
    return {site: next(iter(keys)) for site, keys in told.items() if len(keys) == 1}


async def seen_identities(store: AsyncStore) -> Mapping[str, bytes]:
    """The sites' signing keys, as the topic of datasets tells them."""
    page = await store.page(SEEN_DATASETS, {}, "_id", False, "", 1000)
    return signing_keys(item.state for item in page.items)


async def seen_datasets(store: AsyncStore) -> Mapping[str, SeenDataset]:
    """The sites' keys, as the topic of datasets tells them; of a site with two of a kind none."""
    page = await store.page(SEEN_DATASETS, {}, "_id", False, "", 1000)
    told: dict[str, set[SeenDataset]] = {}
    for item in page.items:
        told.setdefault(item.state.site, set()).add(item.state)
    return {site: next(iter(keys)) for site, keys in told.items() if len(keys) == 1}


SEEN: Mapping[type[Message], Row[Any]] = {
    events.StudyRequested: Row(SEEN_STUDIES, _study, _requested),
    events.StudyApproved: Row(SEEN_STUDIES, _study, _approved),
    events.StudyRefused: Row(SEEN_STUDIES, _study, _over),
    events.StudyStopped: Row(SEEN_STUDIES, _study, _over),
    events.StudyExpired: Row(SEEN_STUDIES, _study, _over),
    events.InsightPublished: Row(SEEN_STUDIES, _study, _over),
    events.JobEnded: Row(SEEN_STUDIES, _study, _ended),
    events.DatasetRegistered: Row(SEEN_DATASETS, lambda event: str(event.message.dataset), _dataset),  # type: ignore[attr-defined]
}
