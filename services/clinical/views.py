"""Stored states of a site."""

from __future__ import annotations

from services.clinical.domain import comparators, explanations, releases, sites, statements, templates
from services.clinical.domain.adverse import Course
from services.clinical.domain.dispenses import Dispense
from services.clinical.domain.going import Going
from services.clinical.domain.holdings import Holding
from services.clinical.domain.lots import Lot
from services.clinical.domain.patients import Patient
from services.clinical.domain.plans import Plan
from services.clinical.domain.profiles import LotProfile
from services.clinical.domain.routine_labs import RoutineLabs
from services.clinical.domain.templates import Template
from services.kit.store.kinds import Kind

SITES: Kind[sites.Site] = Kind("site", sites.Site, evolve=sites.evolve)
STATEMENTS: Kind[statements.Statements] = Kind("exposure", statements.Statements, evolve=statements.evolve)
PATIENTS: Kind[Patient] = Kind("patient", Patient)
DISPENSES: Kind[Dispense] = Kind("dispense", Dispense, ("lots", "runs"))
LOTS: Kind[Lot] = Kind("lot", Lot, ("product",))
HOLDINGS: Kind[Holding] = Kind("holding", Holding)
PLANS: Kind[Plan] = Kind("plan", Plan, ("run", "pseudonym", "notice"))
GOING: Kind[Going] = Kind("going", Going)
EXPLANATIONS: Kind[explanations.Explanation] = Kind(
    "explanation", explanations.Explanation, evolve=explanations.evolve
)
TEMPLATES: Kind[Template] = Kind("template", Template, ("product",), templates.evolve)
ADVERSE: Kind[Course] = Kind("adverse", Course, ("pseudonym",))
COMPARATORS: Kind[comparators.Comparator] = Kind("comparator", comparators.Comparator)
RELEASES: Kind[releases.Releases] = Kind("evidence", releases.Releases, evolve=releases.evolve)
PROFILES: Kind[LotProfile] = Kind("lot_profile", LotProfile)
ROUTINE_LABS: Kind[RoutineLabs] = Kind("routine_lab", RoutineLabs, ("pseudonym",))
KINDS = (
    *(EXPLANATIONS, SITES, STATEMENTS, PATIENTS, DISPENSES, LOTS, HOLDINGS, PLANS, GOING),
    *(TEMPLATES, ADVERSE, COMPARATORS, RELEASES, PROFILES, ROUTINE_LABS),
)

#: The one document of the runs that go on.
ALL_RUNS = "runs"
