"""Reads what the site holds of a run, and makes evidence of it.

Nothing of this is kept. Age and sex lie sealed in the patients' records, and
stay so: a profile is opened here, counted into its stratum, and forgotten.
So the evidence is always that of what is held now, a patient whose key was
destroyed is in it without age and sex from that moment on, and no stored
state tells them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain import comparators, packs, templates
from services.clinical.domain.adverse import Course
from services.clinical.domain.comparators import PERIOD, Candidate, Choice
from services.clinical.domain.dispenses import Dispense
from services.clinical.domain.evidence import labs, prompted, routine
from services.clinical.domain.evidence.labs import Compared, Read
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.evidence.prompted import Group, Responder
from services.clinical.domain.evidence.routine import Recipient, Recipients
from services.clinical.domain.evidence.study import Study, sums, totals
from services.clinical.domain.evidence.tables import PROMPTED
from services.clinical.domain.holdings import Holding
from services.clinical.domain.lots import Lot, product_of
from services.clinical.domain.patients import DECEASED, MOVED, Patient
from services.clinical.domain.plans import Plan
from services.clinical.views import ADVERSE, DISPENSES, HOLDINGS, LOTS, PATIENTS, PLANS
from services.kit.errors import Integrity, Unknown
from services.kit.ids import in_kit
from services.kit.sealing import Sealer
from services.kit.store.protocol import AsyncStore

#: So many patients are looked up at a time.
_AT_ONCE = 200
_INSTANT = timedelta(microseconds=1)
Packs = Mapping[str, tuple[Pack, ...]]


@dataclass(frozen=True)
class Seen:
    """A run at the site: everybody who answered, the lots that the exposed received, and, where asked for,
    everybody who is compared by what the hospital reports by itself."""

    study: Study
    responders: tuple[Responder, ...]
    lots: tuple[str, ...]
    recipients: Recipients | None = None

    @property
    def root(self) -> str:
        """The run's root lot as the site names it: empty where nobody here received it, for it may tell
        what is inside a blinded study's kits."""
        return self.study.root if self.study.root in self.lots else ""


class Reader:
    """Reads one site's evidence."""

    def __init__(self, store: AsyncStore, sealer: Sealer, site: str) -> None:
        self._store, self._sealer, self._site = store, sealer, site

    async def holding(self, run: str) -> Holding | None:
        found = await self._store.get(HOLDINGS, f"{run}|{self._site}")
        return found.state if found else None

    async def see(self, holding: Holding, now: datetime | None = None) -> Seen | None:
        """None while nobody is exposed. Routine outcomes up to `now`; without it, answers alone."""
        exposed = await self._exposed(holding.run)
        study = _study(self._site, holding, exposed)
        if study is None:
            return None
        products = _products(holding.run, exposed)
        lots = await self._lots_of(products)
        received = packs.by_patient([*exposed, *await self._of_lots(lots)])
        seen = Seen(
            study, await self._responders(holding.run, received), tuple(sorted(_lots(holding.run, exposed)))
        )
        if now is None:
            return seen
        until = now if holding.hazard is None else min(now, datetime.fromisoformat(holding.hazard.at))
        of_run = {
            name: tuple(pack for pack in mine if pack.product in products) for name, mine in received.items()
        }
        # Nobody who received another kit is compared, for the same reason as in `choose`.
        elsewhere = {lot.lot for lot in lots if lot.runs or in_kit(lot.lot)}
        members = await self._recipients(study, elsewhere, of_run, until)
        return replace(seen, recipients=Recipients(until, members))

    async def _responders(self, run: str, received: Packs) -> tuple[Responder, ...]:
        answered = [p for p in await self._open(run) if p.answer is not None]
        patients = await self._patients([plan.pseudonym for plan in answered])
        return await asyncio.to_thread(
            lambda: tuple(one for plan in answered if (one := self._responder(plan, patients, received)))
        )

    async def _recipients(
        self, study: Study, elsewhere: Collection[str], received: Packs, until: datetime
    ) -> tuple[Recipient, ...]:
        """Whoever is in an arm; of nobody else anything is read or opened."""
        compared = {
            name: product
            for name, mine in sorted(received.items())
            if (product := routine.product(study, elsewhere, mine))
        }
        patients, courses = await self._patients(list(compared)), await self._courses(list(compared))
        return await asyncio.to_thread(
            lambda: tuple(
                self._recipient(
                    product,
                    received[name],
                    patients.get(name),
                    routine.outcomes(courses.get(name, ()), until),
                )
                for name, product in compared.items()
            )
        )

    async def labs(self, run: str) -> list[Compared]:
        """Laboratory results of who is followed up in a run: opened here, counted, and forgotten."""
        found = [plan for plan in await self._open(run) if plan.results]
        return await asyncio.to_thread(
            lambda: labs.compared(one for plan in found for one in self._read(plan))
        )

    def _read(self, plan: Plan) -> Iterator[Read]:
        """A result that does not open any more, as its patient was erased, is none."""
        for code, result in plan.results.items():
            try:
                opened = self._sealer.open(common.Sealed.FromString(result.sealed), clinical.LabResult)
            except (Unknown, Integrity):
                continue
            yield Read(code, opened.value.unit, plan.role == "exposed", opened.value.value)

    async def choose(self, holding: Holding) -> list[Choice]:
        """More comparators for the run, as far as there are any."""
        exposed = await self._exposed(holding.run)
        study = _study(self._site, holding, exposed)
        if study is None:
            return []
        received, standing = packs.by_patient(exposed), await self._open(holding.run)
        counts = {
            role: Counter(
                _group(plan, _product(plan, received) or product_of(plan.lots[0]))
                for plan in standing
                if plan.role == role
            )
            for role in ("exposed", "comparator")
        }
        wanted = comparators.wanted(counts["exposed"], counts["comparator"])
        # Kits have no sibling lots: what is inside another one is not known here.
        lacking = {group: count for group, count in wanted.items() if not in_kit(group.product)}
        found = await self._candidates(study, sorted({group.product for group in lacking}))
        return await self._first(comparators.in_order(holding.run, found), lacking)

    async def _first(self, candidates: list[Candidate], lacking: dict[Group, int]) -> list[Choice]:
        """The first who may be chosen, until nobody is lacking."""
        chosen: dict[str, Choice] = {}
        for start in range(0, len(candidates), _AT_ONCE):
            if not any(lacking.values()):
                break
            some = candidates[start : start + _AT_ONCE]
            free = await self._free({candidate.pseudonym for candidate in some})
            for candidate in some:
                open_groups = (g for g, count in lacking.items() if count and g.product == candidate.product)
                group = next(open_groups, None)
                if group and candidate.pseudonym in free and candidate.pseudonym not in chosen:
                    lacking[group] -= 1
                    chosen[candidate.pseudonym] = Choice(candidate.pseudonym, candidate.lots, group)
        return list(chosen.values())

    async def _free(self, names: set[str]) -> set[str]:
        """Who of these may be chosen: asked for together, for most of a large site may be candidates."""
        patients = await self._store.among(PATIENTS, "_id", names)
        standing: dict[str, list[Plan]] = defaultdict(list)
        for item in await self._store.among(PLANS, "pseudonym", names):
            standing[item.state.pseudonym].append(item.state)
        return {p.id for p in patients if comparators.eligible(p.state, standing[p.id])}

    async def _candidates(self, study: Study, products: Iterable[str]) -> list[Candidate]:
        """Whoever received sibling lots in the period, by the hospital's own records."""
        found: dict[tuple[str, str], set[str]] = {}
        for product in products:
            for lot in await self._store.where(LOTS, "product", product):
                if lot.state.runs or lot.id in study.implicated:
                    continue
                for item in await self._store.where(DISPENSES, "lots", lot.id):
                    own = item.state.standing
                    if own and own.lot == lot.id and study.within(datetime.fromisoformat(own.at)):
                        found.setdefault((own.pseudonym, product), set()).add(lot.id)
        return [Candidate(name, product, tuple(sorted(lots))) for (name, product), lots in found.items()]

    async def _exposed(self, run: str) -> list[Dispense]:
        return [item.state for item in await self._store.where(DISPENSES, "runs", run)]

    async def _lots_of(self, products: Iterable[str]) -> list[Lot]:
        found = [await self._store.where(LOTS, "product", product) for product in sorted(products)]
        return [item.state for some in found for item in some]

    async def _of_lots(self, lots: Iterable[Lot]) -> list[Dispense]:
        """Every dispense of a product's lots: what else the patients received belongs to their time."""
        found: dict[str, Dispense] = {}
        for lot in lots:
            for item in await self._store.where(DISPENSES, "lots", lot.lot):
                found[item.id] = item.state
        return list(found.values())

    async def _open(self, run: str) -> list[Plan]:
        followed = await self._store.where(PLANS, "run", run)
        return sorted((item.state for item in followed if item.state.stage == "open"), key=lambda p: p.plan)

    async def _patients(self, names: Sequence[str]) -> dict[str, Patient]:
        found = {}
        for start in range(0, len(names), _AT_ONCE):
            for item in await self._store.among(PATIENTS, "_id", names[start : start + _AT_ONCE]):
                found[item.id] = item.state
        return found

    async def _courses(self, names: Sequence[str]) -> dict[str, list[Course]]:
        """What happened to the patients, by pseudonym."""
        found: dict[str, list[Course]] = defaultdict(list)
        for start in range(0, len(names), _AT_ONCE):
            for item in await self._store.among(ADVERSE, "pseudonym", names[start : start + _AT_ONCE]):
                found[item.state.pseudonym].append(item.state)
        return found

    def _responder(self, plan: Plan, patients: Mapping[str, Patient], received: Packs) -> Responder | None:
        product = _product(plan, received)
        if plan.answer is None or not product:
            return None
        age, sex = self._profile(patients.get(plan.pseudonym))
        mine = tuple(pack for pack in received[plan.pseudonym] if pack.product == product)
        at, group = datetime.fromisoformat(plan.answer.at), _group(plan, product)
        return Responder(group, age, sex, mine, at, plan.answer.affected)

    def _recipient(
        self,
        product: str,
        received: tuple[Pack, ...],
        patient: Patient | None,
        outcomes: tuple[datetime, ...],
    ) -> Recipient:
        age, sex = self._profile(patient)
        mine = tuple(pack for pack in received if pack.product == product)
        left = {patient.status: datetime.fromisoformat(patient.at)} if patient and patient.known else {}
        return Recipient(product, age, sex, mine, outcomes, left.get(DECEASED), left.get(MOVED))

    def _profile(self, patient: Patient | None) -> tuple[int | None, str]:
        """Age and sex; not known where no profile was recorded, or none opens any more."""
        if patient is None or not patient.profile:
            return None, "U"
        try:
            sealed = common.Sealed.FromString(patient.profile)
            profile = self._sealer.open(sealed, clinical.SubjectProfile)
        except (Unknown, Integrity):
            return None, "U"
        return profile.age_years, profile.sex


def numbers(holding: Holding, site: str, seen: Seen | None) -> clinical.EvidenceReleased:
    """The root lot's evidence with every number: what of it others may know is decided by the decider."""
    tables = prompted.tables(seen.study, seen.responders, seen.study.root) if seen else {}
    cells, total = totals(tables), sums(PROMPTED, tables)
    return clinical.EvidenceReleased(
        run=holding.run,
        site=site,
        lot=holding.case,
        kind=clinical.OUTCOME_KIND_PROMPTED,
        exposed=clinical.ReleasedRow(patients=cells.n1, cases=cells.a),
        comparators=clinical.ReleasedRow(patients=cells.n0, cases=cells.b),
        sums=clinical.EvidenceSums(
            r=total.r, s=total.s, p=total.p, d=total.d, w=total.w, q=total.q, v=total.v
        ),
        final=holding.final,
        plans=holding.plans,
    )


def _study(site: str, holding: Holding, exposed: Iterable[Dispense]) -> Study | None:
    """What is compared; None while nobody may have taken of the lots."""
    taken = [packs.of_member(d, m) for d in exposed for m in d.members_of(holding.run) if not m.void]
    if not taken:
        return None
    moments = [pack.start for pack in taken]
    listed = {lot for lot, count in holding.lots.items() if count.listed}
    return Study(
        site=site,
        root=holding.case,
        implicated=frozenset(listed | {pack.lot for pack in taken}),
        begin=min(moments) - PERIOD,
        end=max(moments) + PERIOD + _INSTANT,
    )


def _lots(run: str, exposed: Iterable[Dispense]) -> Iterator[str]:
    return iter({m.lot for dispense in exposed for m in dispense.members_of(run) if not m.void})


def _products(run: str, exposed: Iterable[Dispense]) -> set[str]:
    return {product_of(lot) for lot in _lots(run, exposed)}


def _product(plan: Plan, received: Packs) -> str:
    """The product of the first pack that the plan is about; empty where it is not known."""
    mine = [pack for pack in received.get(plan.pseudonym, ()) if pack.lot in plan.lots]
    return min(mine, key=lambda pack: (pack.start, pack.lot)).product if mine else ""


def _group(plan: Plan, product: str) -> Group:
    """With whom the plan's patient is compared; before there were templates all were asked by the default."""
    asked = plan.asked or templates.asked(templates.DEFAULT)
    return Group(product, asked.template, asked.version)
