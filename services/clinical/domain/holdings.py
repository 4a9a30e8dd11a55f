"""What the site holds of one run's exposure journal, as running numbers.

A run may name ten thousand patients: no member and no patient is listed
here, only counted, except those who wait for the next bulk of plans. Every
function gives the holding after one thing became known, whatever came before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.clinical.domain import digests
from services.clinical.domain.plans import Plan, Stage


@dataclass(frozen=True)
class Announced:
    """The newest announcement, as far as it concerns this site; `digest` is hex text."""

    epoch: int
    n: int
    digest: str


@dataclass(frozen=True)
class LotCount:
    """Numbers of one lot in the run.

    `listed`: an announcement named it. `shown`: members that the hospital's
    own records show too. The others count plans.
    """

    listed: bool = False
    shown: int = 0
    plans: int = 0
    answered: int = 0
    affected: int = 0


@dataclass(frozen=True)
class Holding:
    """What the site holds of a run.

    `key` is the digest's key, sealed. `due` is the latest due time of a plan,
    `ended` the due time at which the follow-up was last found to be over (ISO,
    UTC). `unlooked` are listed lots of which own records came since the last
    look for what only the site has.
    """

    run: str
    case: str = ""
    key: bytes = b""
    digest: str = digests.EMPTY
    entries: int = 0
    members: int = 0
    version: int = 0
    announced: Announced | None = None
    lots: dict[str, LotCount] = field(default_factory=dict)
    only_in_trace: int = 0
    only_at_site: int = 0
    unlooked: tuple[str, ...] = ()
    patients: int = 0
    plans: int = 0
    declined: int = 0
    waiting: tuple[str, ...] = ()
    answered: int = 0
    affected: int = 0
    due: str = ""
    ended: str = ""

    @property
    def gathered(self) -> bool:
        """Does the site hold as many members as were announced last? Then nobody waits for a plan."""
        return self.announced is not None and self.announced.n == self.members

    @property
    def matched(self) -> bool:
        """Does the site hold exactly what was announced last?"""
        known = bool(self.key) or not self.entries
        return known and self.announced is not None and self.announced.digest == self.digest

    @property
    def complete(self) -> bool:
        """Has everybody answered, or is the follow-up over? Never before everybody is found."""
        resolved = self.patients == self.plans + self.declined
        over = bool(self.due) and self.ended >= self.due
        return self.matched and resolved and (self.answered == self.plans or over)

    def lot(self, lot: str) -> LotCount:
        return self.lots.get(lot, LotCount())


def noted(holding: Holding, case: str) -> Holding:
    """An event of the run came, and says which case it belongs to."""
    return holding if holding.case else replace(holding, case=case)


def _with_lot(holding: Holding, lot: str, count: LotCount) -> Holding:
    return replace(holding, lots={**holding.lots, lot: count})


# -- the journal ------------------------------------------------------------


def keyed(holding: Holding, key: bytes, terms: Iterable[int]) -> Holding:
    """The key of the digest came, with the terms of what was held before it. The first key holds."""
    return replace(holding, key=key, digest=digests.added(digests.EMPTY, *terms))


def announced(
    holding: Holding, version: int, at_site: Announced | None, own_records: Mapping[str, int]
) -> Holding:
    """A newer announcement; `own_records` counts the own records of each lot listed for the first time."""
    lots = dict(holding.lots)
    extra, unlooked = 0, []
    for lot, count in own_records.items():
        lots[lot] = replace(holding.lot(lot), listed=True)
        only_here = count - lots[lot].shown
        extra += only_here
        unlooked += [lot] if only_here else []
    return replace(
        holding,
        version=version,
        announced=at_site,
        lots=lots,
        only_at_site=holding.only_at_site + extra,
        unlooked=(*holding.unlooked, *unlooked),
    )


def entered(holding: Holding, term: int | None, member: bool, own_lot: str | None) -> Holding:
    """One more entry of the journal.

    Its term is None while the digest's key is unknown, or since it was
    destroyed. `own_lot` is the lot of the member's own record, None where
    the site has none.
    """
    only_in_trace, only_at_site, lots = holding.only_in_trace, holding.only_at_site, holding.lots
    if member and own_lot is None:
        only_in_trace += 1
    elif member and own_lot is not None:
        count = holding.lot(own_lot)
        only_at_site -= count.listed
        lots = {**lots, own_lot: replace(count, shown=count.shown + 1)}
    return replace(
        holding,
        key=b"" if term is None else holding.key,
        digest=digests.EMPTY if term is None else digests.added(holding.digest, term),
        entries=holding.entries + 1,
        members=holding.members + member,
        only_in_trace=only_in_trace,
        only_at_site=only_at_site,
        lots=lots,
    )


# -- the site's own records ---------------------------------------------------


def own_of_member(holding: Holding, own_lot: str) -> Holding:
    """An own record came of a dispense that is a member already."""
    count = holding.lot(own_lot)
    shown = _with_lot(holding, own_lot, replace(count, shown=count.shown + 1))
    return replace(shown, only_in_trace=shown.only_in_trace - 1)


def own_of_listed(holding: Holding, lot: str) -> Holding:
    """An own record came of a listed lot, and the journal does not have it."""
    unlooked = holding.unlooked if lot in holding.unlooked else (*holding.unlooked, lot)
    return replace(holding, only_at_site=holding.only_at_site + 1, unlooked=unlooked)


def looked(holding: Holding) -> Holding:
    """What only the site has was told to the trace."""
    return replace(holding, unlooked=())


# -- patients and their plans -------------------------------------------------


def patient_found(holding: Holding, pseudonym: str, stage: Stage) -> Holding:
    """A patient is named for the first time, and stands at this stage."""
    return replace(
        holding,
        patients=holding.patients + 1,
        declined=holding.declined + (stage == "declined"),
        waiting=(*holding.waiting, pseudonym) if stage == "waiting" else holding.waiting,
    )


def patient_resolved(holding: Holding, pseudonym: str, before: Stage, after: Stage) -> Holding:
    """A patient without a plan moves to another stage."""
    return replace(
        holding,
        declined=holding.declined + (after == "declined") - (before == "declined"),
        waiting=(*holding.waiting, pseudonym) if after == "waiting" else holding.waiting,
    )


def plans_opened(holding: Holding, taken: int, opened: Sequence[Plan]) -> Holding:
    """The first `taken` of those who wait were looked at: these plans opened, the others withdrew."""
    lots = dict(holding.lots)
    for plan in opened:
        for lot in plan.lots:
            lots[lot] = _counted(lots.get(lot, LotCount()), plan, plans=1)
    return replace(
        holding,
        lots=lots,
        waiting=holding.waiting[taken:],
        plans=holding.plans + len(opened),
        declined=holding.declined + taken - len(opened),
        answered=holding.answered + sum(plan.answered for plan in opened),
        affected=holding.affected + sum(plan.affected for plan in opened),
        due=max([holding.due, *(plan.due for plan in opened)]),
    )


def lot_joined(holding: Holding, plan: Plan, lot: str) -> Holding:
    """A patient with an open plan received one more lot."""
    return _with_lot(holding, lot, _counted(holding.lot(lot), plan, plans=1))


def answer_changed(holding: Holding, before: Plan, after: Plan) -> Holding:
    """The patient of an open plan answered, or answered anew."""
    answered, affected = after.answered - before.answered, after.affected - before.affected
    lots = dict(holding.lots)
    for lot in after.lots:
        count = lots.get(lot, LotCount())
        lots[lot] = replace(count, answered=count.answered + answered, affected=count.affected + affected)
    return replace(
        holding, lots=lots, answered=holding.answered + answered, affected=holding.affected + affected
    )


def follow_up_over(holding: Holding, due: str) -> Holding:
    """The platform clock passed the due time."""
    return replace(holding, ended=max(holding.ended, due))


def _counted(count: LotCount, plan: Plan, plans: int) -> LotCount:
    return replace(
        count,
        plans=count.plans + plans,
        answered=count.answered + plan.answered,
        affected=count.affected + plan.affected,
    )
