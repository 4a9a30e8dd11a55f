"""What the site holds of one run's exposure journal, as running numbers.

A run may name ten thousand patients: no member and no patient is listed
here, only counted, except those who wait for the next bulk of plans. A
number changes by what a dispense or a plan counted before and counts now,
so that nothing depends on the order in which things became known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.clinical.domain import comparators, digests
from services.clinical.domain.comparators import Cohort
from services.clinical.domain.dispenses import Compared
from services.clinical.domain.plans import FOLLOW_UP_HOURS, Plan, later


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
    own records show too. The others count open plans.
    """

    listed: bool = False
    shown: int = 0
    plans: int = 0
    answered: int = 0
    affected: int = 0


@dataclass(frozen=True)
class StageCount:
    """Patients at one stage, and their members that they may have taken of."""

    patients: int = 0
    members: int = 0


@dataclass(frozen=True)
class Hazard:
    """How dangerous it is, and what patients are told; `at` is when it was heard here (ISO, UTC)."""

    hazard_class: str
    text: str
    instruction: str
    at: str


@dataclass(frozen=True)
class About:
    """What the run is about: the tag of its deviation; one that `follows` a sealed run says which instead."""

    kind: str
    follows: str


@dataclass(frozen=True)
class Holding:
    """What the site holds of a run.

    `key` is the digest's key, sealed; `sealed` is one that did not open, kept
    until it does. `stages` counts patients by the stage of their plan, `void`
    the members that came back unopened or were corrected.
    `due` is the latest due time of a plan, `ended` the due time at which the
    follow-up was last found to be over (ISO, UTC). `unlooked` are listed lots
    of which own records came since the last look for what only the site has.
    `over`: a person ended the run. `notices` counts patients by what came of
    telling them; until `hazard` is evaluated nobody is told or asked. `about`
    is unknown until the run's opening was heard; `lasting` counts open plans by
    the hours that their follow-up lasts. `cohort` counts the comparators, who
    are in none of the other numbers.
    """

    run: str
    case: str = ""
    key: bytes = b""
    sealed: bytes = b""
    digest: str = digests.EMPTY
    entries: int = 0
    members: int = 0
    version: int = 0
    announced: Announced | None = None
    lots: dict[str, LotCount] = field(default_factory=dict)
    only_in_trace: int = 0
    explained: int = 0
    only_at_site: int = 0
    unlooked: tuple[str, ...] = ()
    stages: dict[str, StageCount] = field(default_factory=dict)
    void: int = 0
    waiting: tuple[str, ...] = ()
    answered: int = 0
    affected: int = 0
    due: str = ""
    ended: str = ""
    over: bool = False
    notices: dict[str, int] = field(default_factory=dict)
    hazard: Hazard | None = None
    about: About | None = None
    lasting: dict[str, int] = field(default_factory=dict)
    cohort: Cohort = field(default_factory=Cohort)

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
    def left_out(self) -> bool:
        """Was the run announced, and not to this site? The trace does not know yet that it takes part."""
        return bool(self.version) and self.announced is None

    @property
    def complete(self) -> bool:
        """Has everybody answered, or is the follow-up over? Never before everybody is found."""
        resolved = not self.at("pending").patients and not self.at("waiting").patients
        over = bool(self.ends) and self.ended >= self.ends
        return self.matched and resolved and (self.answered == self.plans or over)

    @property
    def lacks_comparators(self) -> bool:
        """Are there exposed patients who are asked, and nobody was chosen to compare them with?"""
        asked = self.hazard is not None and self.gathered and not self.at("waiting").patients
        return asked and self.plans > self.cohort.chosen_for

    @property
    def final(self) -> bool:
        """Is the follow-up complete, and that of the comparators over as well?"""
        compared = self.cohort.chosen_for >= self.plans and self.cohort.complete(self.ended)
        return self.complete and (not self.plans or compared)

    @property
    def responders(self) -> int:
        """Patients of both arms who answered."""
        return self.answered + self.cohort.answered

    @property
    def to_tell(self) -> int:
        """Patients who are to be told, or were."""
        return sum(self.notices.values())

    @property
    def ends(self) -> str:
        """When the follow-up is over: so long after the last plan opened and the hazard was evaluated."""
        if self.hazard is None or not self.due:
            return ""
        return max(self.due, later(self.hazard.at, self.longest or FOLLOW_UP_HOURS))

    @property
    def longest(self) -> int:
        """How long the longest follow-up of an open plan lasts, in hours."""
        return max(map(int, self.lasting), default=0)

    @property
    def patients(self) -> int:
        return sum(count.patients for count in self.stages.values())

    @property
    def plans(self) -> int:
        return self.at("open").patients

    def at(self, stage: str) -> StageCount:
        return self.stages.get(stage, StageCount())

    def lot(self, lot: str) -> LotCount:
        return self.lots.get(lot, LotCount())


def noted(holding: Holding, case: str) -> Holding:
    """An event of the run came, and says which case it belongs to."""
    return holding if holding.case else replace(holding, case=case)


def evaluated(holding: Holding, hazard: Hazard) -> Holding:
    """The hazard was evaluated; the first evaluation holds."""
    return holding if holding.hazard else replace(holding, hazard=hazard)


def is_about(holding: Holding, kind: str, follows: str) -> Holding:
    """The run's opening says what it is about; the first holds."""
    return holding if holding.about else replace(holding, about=About(kind, follows))


def given_up(holding: Holding) -> Holding:
    """A person ended the run: nobody is waited for any more."""
    return replace(holding, over=True)


def _with_lot(holding: Holding, lot: str, count: LotCount) -> Holding:
    return replace(holding, lots={**holding.lots, lot: count})


# -- the journal ------------------------------------------------------------


def keyed(holding: Holding, key: bytes, terms: Iterable[int]) -> Holding:
    """The key of the digest came, with the terms of what was held before it. The first key holds."""
    return replace(holding, key=key, sealed=b"", digest=digests.added(digests.EMPTY, *terms))


def unopened(holding: Holding, key: bytes) -> Holding:
    """The key of the digest came and does not open here: kept, for the site's own key may be brought back."""
    return replace(holding, sealed=key)


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


def entered(holding: Holding, terms: Sequence[int | None], members: int) -> Holding:
    """More entries of the journal, so many of them members.

    A term is None while the digest's key is unknown, or since it was destroyed.
    """
    known = [term for term in terms if term is not None]
    lost = len(known) < len(terms)
    return replace(
        holding,
        key=b"" if lost else holding.key,
        sealed=(holding.key or holding.sealed) if lost else holding.sealed,
        digest=digests.EMPTY if lost else digests.added(holding.digest, *known),
        entries=holding.entries + len(terms),
        members=holding.members + members,
    )


# -- the two sources ----------------------------------------------------------


def compared(holding: Holding, before: Compared, after: Compared) -> Holding:
    """The two sources of a dispense compare differently now."""
    changed = replace(
        holding,
        only_in_trace=holding.only_in_trace + after.only_in_trace - before.only_in_trace,
        explained=holding.explained + after.explained - before.explained,
    )
    if before.shown == after.shown:
        return changed
    return _shown(_shown(changed, before.shown, -1), after.shown, 1)


def _shown(holding: Holding, lot: str, change: int) -> Holding:
    """A member shows one own record of the lot more, or less."""
    if not lot:
        return holding
    count = holding.lot(lot)
    only = holding.only_at_site - change * count.listed
    again = (lot,) if change < 0 and count.listed and lot not in holding.unlooked else ()
    kept = replace(holding, only_at_site=only, unlooked=holding.unlooked + again)
    return _with_lot(kept, lot, replace(count, shown=count.shown + change))


def own_records(holding: Holding, lot: str, change: int) -> Holding:
    """The site has one own record of a listed lot more, or less."""
    again = (lot,) if change > 0 and lot not in holding.unlooked else ()
    return replace(holding, only_at_site=holding.only_at_site + change, unlooked=holding.unlooked + again)


def looked(holding: Holding) -> Holding:
    """What only the site has was told to the trace."""
    return replace(holding, unlooked=())


# -- patients and their plans -------------------------------------------------


def replaced(holding: Holding, changes: Iterable[tuple[Plan, Plan]]) -> Holding:
    """Plans are other than before: every number that counts them changes by the difference."""
    stages, lots = dict(holding.stages), dict(holding.lots)
    void, answered, affected, due = holding.void, holding.answered, holding.affected, holding.due
    notices = dict(holding.notices)
    waiting: list[str] = []
    lasting = dict(holding.lasting)
    for before, now in changes:
        for plan, sign in ((before, -1), (now, 1)):
            void += sign * plan.void
            if plan.notice:
                notices[plan.notice] = notices.get(plan.notice, 0) + sign
            if plan.stage == "unnamed":
                continue
            at = stages.get(plan.stage, StageCount())
            stages[plan.stage] = StageCount(at.patients + sign, at.members + sign * plan.live)
            if plan.stage == "open":
                lasting[str(plan.hours)] = lasting.get(str(plan.hours), 0) + sign
                answered, affected = answered + sign * plan.answered, affected + sign * plan.affected
                for lot in plan.lots:
                    lots[lot] = _counted(lots.get(lot, LotCount()), plan, sign)
        if now.stage == "open":
            due = max(due, now.due)
        if now.stage == "waiting" and before.stage != "waiting":
            waiting.append(now.pseudonym)
    return replace(
        holding,
        stages={stage: count for stage, count in stages.items() if count != StageCount()},
        notices={notice: count for notice, count in notices.items() if count},
        lots=lots,
        void=void,
        waiting=(*holding.waiting, *waiting),
        answered=answered,
        affected=affected,
        due=due,
        lasting={hours: count for hours, count in lasting.items() if count},
    )


def changed(holding: Holding, before: Plan, after: Plan) -> Holding:
    """One plan, of either arm, is other than before."""
    if after.role == "comparator":
        return replace(holding, cohort=comparators.counted(holding.cohort, before, after))
    return replaced(holding, [(before, after)])


def taken(holding: Holding, count: int) -> Holding:
    """The first of those who wait were looked at."""
    return replace(holding, waiting=holding.waiting[count:])


def follow_up_over(holding: Holding, due: str) -> Holding:
    """The platform clock passed the due time."""
    return replace(holding, ended=max(holding.ended, due))


def _counted(count: LotCount, plan: Plan, sign: int) -> LotCount:
    return replace(
        count,
        plans=count.plans + sign,
        answered=count.answered + sign * plan.answered,
        affected=count.affected + sign * plan.affected,
    )
