"""What the site has said of a run to the others: the aggregate of its shared events.

It keeps the last statement of each kind byte for byte, so that nothing is
said twice and every change is said. Only numbers leave the site here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain.holdings import Holding

#: What is said of notices is said again after so many more.
NOTICES_AT_ONCE = 100


@dataclass(frozen=True)
class Statements:
    """The last statement of each kind; empty before the first. `bulks` counts what was said of plans
    on the site's own topic."""

    received: bytes = b""
    opened: bytes = b""
    summarised: bytes = b""
    noticed: bytes = b""
    bulks: int = 0


def evolve(state: Statements | None, event: object) -> Statements:
    """The statements after one more."""
    state = state or Statements()
    if isinstance(event, clinical.ExposureReceived):
        return replace(state, received=event.SerializeToString())
    if isinstance(event, clinical.PlansOpened):
        return replace(state, opened=event.SerializeToString())
    if isinstance(event, clinical.FollowUpSummarised | clinical.ResponsesSummarised):
        return replace(state, summarised=event.SerializeToString())
    if isinstance(event, clinical.NoticesSummarised):
        return replace(state, noticed=event.SerializeToString())
    assert isinstance(event, clinical.MonitoringPlansOpened | clinical.RemindersDue)
    return replace(state, bulks=state.bulks + 1)


def received(holding: Holding, site: str) -> clinical.ExposureReceived:
    """The acknowledgement; only for a holding that matches its announcement."""
    assert holding.announced is not None
    return clinical.ExposureReceived(
        run=holding.run,
        site=site,
        epoch=holding.announced.epoch,
        n=holding.members,
        digest=bytes.fromhex(holding.digest),
        only_in_trace=holding.only_in_trace,
        only_at_site=holding.only_at_site,
        patients=holding.patients,
        explained=holding.explained,
    )


def opened(holding: Holding, site: str) -> clinical.PlansOpened:
    at = holding.at
    members = clinical.MemberDispositions(
        planned=at("open").members,
        declined=at("declined").members,
        void=holding.void,
        deceased=at("deceased").members,
        moved=at("moved").members,
        pending=at("pending").members + at("waiting").members,
    )
    return clinical.PlansOpened(
        run=holding.run,
        site=site,
        patients=holding.patients,
        plans=holding.plans,
        without_consent=at("declined").patients,
        without_need=sum(at(stage).patients for stage in ("void", "deceased", "moved")),
        members=members,
    )


def notices(holding: Holding, site: str) -> clinical.NoticesSummarised:
    return clinical.NoticesSummarised(
        run=holding.run,
        site=site,
        patients=holding.to_tell,
        notified=holding.notices.get("notified", 0),
        unreachable=holding.notices.get("unreachable", 0),
    )


def _tells(said: Statements, holding: Holding) -> bool:
    """Is it time to say how many patients know? When all do, and else at every hundredth."""
    before = clinical.NoticesSummarised.FromString(said.noticed)
    told = holding.to_tell - holding.notices.get("owed", 0)
    if not said.noticed or told == holding.to_tell or before.patients != holding.to_tell:
        return True
    return told - before.notified - before.unreachable >= NOTICES_AT_ONCE


def summary(holding: Holding, site: str) -> clinical.FollowUpSummarised:
    """How far the follow-up is. What the patients answered leaves the site by a release only."""
    return clinical.FollowUpSummarised(
        run=holding.run,
        site=site,
        plans=holding.plans,
        answered=holding.answered,
        complete=holding.complete,
        follow_up_hours=holding.longest,
    )


def news(said: Statements | None, holding: Holding, site: str, bulk: bool) -> list[Message]:
    """What is to be said now: whatever may be said and was not said just so before.

    The acknowledgement waits until the holding equals the announcement; the
    number of plans until all members are there, or for a bulk; the summary for
    the first plan or the first acknowledgement.
    """
    said = said or Statements()
    due: list[tuple[Message, bytes]] = []
    if holding.gathered or bulk:
        due.append((opened(holding, site), said.opened))
    if holding.matched:
        due.append((received(holding, site), said.received))
    if holding.matched or holding.plans or said.summarised:
        due.append((summary(holding, site), said.summarised))
    if holding.hazard is not None and holding.matched and _tells(said, holding):
        due.append((notices(holding, site), said.noticed))
    return [message for message, before in due if message.SerializeToString() != before]
