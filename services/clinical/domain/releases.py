"""What the site has decided about the evidence of a run: the aggregate of its choices, looks and releases.

Whom to compare with, when to look, and what to tell others rest on what was
decided before; so each is an event, and this the fold of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from services.clinical.domain.comparators import RATIO
from services.clinical.domain.evidence import release, sequential
from services.clinical.domain.evidence.mantel_haenszel import Sums
from services.clinical.domain.evidence.release import Counts, History, Released, Row, Told
from services.clinical.domain.evidence.sequential import Design, Expected, Look
from services.clinical.domain.evidence.tables import PROMPTED, Kind

#: Looks at these fractions of the maximum information.
LOOKS = (1 / 3, 2 / 3, 1.0)
#: The test is to find a risk of twice that of the comparators, of whom one in ten has a complaint.
RISK_RATIO, COMPLAINT = 2.0, 0.10
#: A release beyond the first ten answers waits for so large a share of all who were asked.
SHARE = 10
#: How a row of comparators is called beside that of its lot.
_COMPARATORS = "comparators"

Prompted = Literal[Kind.PROMPTED]


@dataclass(frozen=True)
class Releases:
    """`chosen_for`: exposed patients for whom comparators were chosen. `exposed` and `comparators`: all
    numbers told of each row; `responders`: those of the last release, `latest`, a serialised
    EvidenceReleased. `final_plans`: plans at the last release that was final; -1 before."""

    chosen_for: int = 0
    looks: tuple[Look, ...] = ()
    number: int = 0
    exposed: History = field(default_factory=History)
    comparators: History = field(default_factory=History)
    responders: int = 0
    latest: bytes = b""
    final_plans: int = -1


@cache
def design() -> Design:
    """The sequential test, fixed before the first answer of any run."""
    return sequential.sized(RISK_RATIO, [Expected(1.0, 1 / (1 + RATIO), COMPLAINT)], LOOKS)


def evolve(state: Releases | None, event: object) -> Releases:
    """The state after one more event."""
    state = state or Releases()
    if isinstance(event, clinical.ComparatorsChosen):
        return replace(state, chosen_for=max(state.chosen_for, event.exposed))
    if isinstance(event, clinical.LookTaken):
        return replace(state, looks=(*state.looks, Look(event.information, event.z, event.boundary)))
    assert isinstance(event, clinical.EvidenceReleased)
    return replace(
        _told(state, event),
        number=event.number,
        latest=event.SerializeToString(deterministic=True),
        final_plans=event.plans if event.final else state.final_plans,
    )


def at_once(asked: int) -> int:
    """How many more answers make a release due, of so many patients who were asked: at least ten."""
    return max(release.SMALLEST, asked // SHARE)


def review(state: Releases | None, seen: clinical.EvidenceReleased) -> Iterator[Message]:
    """The look and the release that are due. `seen` holds every number, withheld from nobody."""
    state = state or Releases()
    look = _look(state, seen)
    if look is not None:
        yield look
    released = _release(state, seen)
    if released is not None:
        yield released


def _look(state: Releases, seen: clinical.EvidenceReleased) -> clinical.LookTaken | None:
    total, due = sums_of(seen.sums), sequential.next_due(design(), state.looks)
    if due is None or total.v < due:
        return None
    taken = sequential.look(design(), state.looks, total.score, total.v)
    return clinical.LookTaken(
        run=seen.run,
        site=seen.site,
        information=taken.information,
        z=taken.z,
        boundary=taken.boundary,
        signal=taken.signal,
    )


def _release(state: Releases, seen: clinical.EvidenceReleased) -> clinical.EvidenceReleased | None:
    """New numbers where they may be told; else, when the follow-up is complete, those told last again.

    Fewer than ten comparators are not told, and do not keep the exposed from being told: whether
    this is so depends on totals alone.
    """
    few = not state.comparators.latest and seen.comparators.patients < release.SMALLEST
    beside = Row(_COMPARATORS, 0, 0) if few else _row(_COMPARATORS, seen.comparators)
    counts = Counts(_row(seen.lot, seen.exposed), beside)
    _, released = release.release(_state(state, seen.lot), sums_of(seen.sums), counts)
    final = seen.final and state.final_plans != seen.plans
    if released is None and not final:
        return None
    if released is not None:
        message = _message(seen, released, few)
    elif state.latest:
        message = clinical.EvidenceReleased.FromString(state.latest)
    else:
        message = _nothing(seen)
    message.number, message.final, message.plans = state.number + 1, seen.final, seen.plans
    return message


def _row(name: str, row: clinical.ReleasedRow) -> Row:
    return Row(name, row.cases, row.patients)


def _message(
    seen: clinical.EvidenceReleased, released: Released[Prompted], few: bool
) -> clinical.EvidenceReleased:
    message = _nothing(seen)
    message.exposed.CopyFrom(_released(released.exposed))
    if few:
        return message
    message.comparators.CopyFrom(_released(released.comparators))
    if released.sums is not None:
        message.sums.CopyFrom(seen.sums)
    return message


def _nothing(seen: clinical.EvidenceReleased) -> clinical.EvidenceReleased:
    withheld = clinical.ReleasedRow(withheld=True)
    return clinical.EvidenceReleased(
        run=seen.run, site=seen.site, lot=seen.lot, kind=seen.kind, exposed=withheld, comparators=withheld
    )


def _released(told: Told) -> clinical.ReleasedRow:
    return clinical.ReleasedRow(patients=told.total, withheld=told.cases is None, cases=told.cases or 0)


def sums_of(sums: clinical.EvidenceSums) -> Sums[Prompted]:
    return Sums(PROMPTED, sums.r, sums.s, sums.p, sums.d, sums.w, sums.q, sums.v)


def _state(state: Releases, lot: str) -> release.State:
    rows = {(Kind.PROMPTED, lot): state.exposed, (Kind.PROMPTED, _COMPARATORS): state.comparators}
    return release.State(rows, {(Kind.PROMPTED, lot): state.responders})


def _told(state: Releases, event: clinical.EvidenceReleased) -> Releases:
    """Numbers that were told again, or withheld altogether, change nothing."""
    told = [
        Told(name, row.patients, None if row.withheld else row.cases)
        for name, row in ((event.lot, event.exposed), (_COMPARATORS, event.comparators))
    ]
    after = release.told_too(_state(state, event.lot), Released(PROMPTED, told[0], told[1], None))
    return replace(
        state,
        exposed=after.rows[Kind.PROMPTED, event.lot],
        comparators=after.rows[Kind.PROMPTED, _COMPARATORS],
        responders=after.responders[Kind.PROMPTED, event.lot],
    )
