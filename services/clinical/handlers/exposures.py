"""A run's exposure journal arrives: its key, its entries, its announcements, in any order."""

from __future__ import annotations

from typing import cast

from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain import digests, dispenses, holdings, lots, moments, patients, plans
from services.clinical.domain.dispenses import Dispense, EntryName
from services.clinical.domain.holdings import Announced, Holding
from services.clinical.domain.lots import Lot
from services.clinical.domain.patients import Patient
from services.clinical.domain.plans import Plan
from services.clinical.handlers.here import Here, holding_of, holding_reads, noted
from services.clinical.handlers.settle import settle
from services.clinical.views import DISPENSES, LOTS, PATIENTS, PLANS
from services.kit.envelope import Event
from services.kit.ids import plan_id
from services.kit.store.kinds import Get, Read
from services.kit.work import Work


def on_exposure_opened(here: Here, work: Work, event: Event) -> None:
    """The key of the run's digest: what was held before it is counted now."""
    opened = cast(traceability.ExposureOpened, event.message)
    holding = noted(holding_of(here, work, opened.run), event, opened.root)
    if opened.site != here.site or holding.key:
        return
    sealed = opened.digest_key.SerializeToString()
    key = here.open_key(sealed)
    if key is None:
        return
    terms = _terms_held(here, work, opened.run, key) if holding.entries else []
    settle(here, work, holdings.keyed(holding, sealed, terms))


def _terms_held(here: Here, work: Work, run: str, key: bytes) -> list[int]:
    kinds: tuple[EntryName, ...] = (dispenses.MEMBER, dispenses.DISPOSITION)
    return [
        digests.term(key, here.site, held.member.pseudonym, held.member.lot, held.dispense, kind)
        for kind in kinds
        for held in work.where(DISPENSES, "entries", dispenses.entry_key(run, kind)).values()
        if held.member is not None
    ]


def on_exposure_entered(here: Here, work: Work, event: Event) -> None:
    """One entry of the journal: a member, or what became of one."""
    entry = cast(traceability.ExposureEntered, event.message)
    kind = dispenses.entry_name(entry.kind)
    if entry.site != here.site or kind is None:
        return
    # First everything that is read, at once: a state that is not loaded stops the handler and starts it anew.
    work.load_all(_entry_reads(here, entry))
    holding = holding_of(here, work, entry.run)
    before = work.get(DISPENSES, entry.dispense) or Dispense(entry.dispense)
    exposed = _exposed(work, entry) if kind == dispenses.MEMBER else None
    dispense = dispenses.entered(before, entry, kind, moments.text_of(entry.at))
    if dispense is None:
        return
    work.put(DISPENSES, entry.dispense, dispense)
    term, own_lot = _term(here, holding, entry, kind), dispense.own.lot if dispense.own else None
    holding = holdings.entered(noted(holding, event), term, exposed is not None, own_lot)
    if exposed is not None:
        holding = _expose(work, holding, *exposed, entry.lot)
    settle(here, work, holding)


def _entry_reads(here: Here, entry: traceability.ExposureEntered) -> list[Read]:
    return [
        *holding_reads(here, entry.run),
        Get(DISPENSES, entry.dispense),
        Get(PATIENTS, entry.pseudonym),
        Get(PLANS, plan_id(entry.run, entry.pseudonym)),
    ]


def _exposed(work: Work, entry: traceability.ExposureEntered) -> tuple[Plan, Patient]:
    patient = work.get(PATIENTS, entry.pseudonym) or Patient(entry.pseudonym)
    id = plan_id(entry.run, entry.pseudonym)
    return work.get(PLANS, id) or Plan(id), patient


def _term(here: Here, holding: Holding, entry: traceability.ExposureEntered, kind: EntryName) -> int | None:
    """What the entry adds to the digest; None while its key is unknown."""
    key = here.open_key(holding.key) if holding.key else None
    if key is None:
        return None
    return digests.term(key, here.site, entry.pseudonym, entry.lot, entry.dispense, kind)


def _expose(work: Work, holding: Holding, plan: Plan, patient: Patient, lot: str) -> Holding:
    """The patient of a member: found for the first time in this run, or with one more lot."""
    if plan.stage == "unnamed":
        stage = plans.first_stage(patient.known, patient.consent)
        if stage != "waiting":
            work.put(PATIENTS, patient.pseudonym, patients.without_plan(patient, holding.run))
        work.put(PLANS, plan.plan, plans.named(plan, holding.run, patient.pseudonym, lot, stage))
        return holdings.patient_found(holding, patient.pseudonym, stage)
    if lot in plan.lots:
        return holding
    work.put(PLANS, plan.plan, plans.with_lot(plan, lot))
    return holdings.lot_joined(holding, plan, lot) if plan.stage == "open" else holding


def on_exposure_announced(here: Here, work: Work, event: Event) -> None:
    """What the journal holds now; only the newest version counts."""
    message = cast(traceability.ExposureAnnounced, event.message)
    holding = noted(holding_of(here, work, message.run), event, message.root)
    if message.version <= holding.version:
        return
    fresh = [lot for lot in message.lots if not holding.lot(lot).listed]
    work.load(LOTS, fresh)
    own_records = {}
    for name in fresh:
        lot = work.get(LOTS, name) or Lot(name)
        own_records[name] = lot.own_records
        work.put(LOTS, name, lots.listed(lot, message.run))
    at_site = _at_site(message, here.site)
    settle(here, work, holdings.announced(holding, message.version, at_site, own_records))


def _at_site(message: traceability.ExposureAnnounced, site: str) -> Announced | None:
    if site not in message.sites:
        return None
    told = message.sites[site]
    return Announced(told.epoch, told.n, digests.text_of(told.digest))
