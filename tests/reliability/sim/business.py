"""What a world has come to, in the words of the domain, so that two worlds can be compared.

Two runs of one story must agree on everything here. What may differ between
them is left out, and stands in `LEFT_OUT` with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.views import ALERTS
from services.clinical.domain import adverse
from services.clinical.views import ADVERSE, PLANS
from services.production.domain.record import Lot
from services.production.views import CAPAS, LOTS
from services.rnd.views import INSIGHTS
from services.traceability.domain.entries import MEMBER
from services.traceability.views import ENTRIES, RUNS
from tests.reliability.sim.process import SITES
from tests.reliability.sim.world import World

#: What may differ between two runs of one story, and why.
LEFT_OUT: Mapping[str, str] = {
    "ids of runs, plans, corrective actions and insights": "a run is named after the event that opened it: "
    "of two confirmed deviations of a lot, the first",
    "how many runs a root has": "what is late for a sealed run joins its successor, what comes before the "
    "seal joins the run",
    "which tag a corrective action is about": "of two confirmed deviations of a lot the first opens the run, "
    "the second joins it, or opens a run of its own after the seal; so does which of them waits for one",
    "moments, and what was counted at a moment": "deadlines, stage times, versions, epochs, and the numbers "
    "in a proposal, which says what was known when it was made",
    "alerts about stalls and missing runs": "they say that something was late, and a storm makes it late",
    "plans of patients who changed their mind": "a plan opens or not, depending on what was known first",
    "comparators, and what they answer": "they are chosen of those whom the site knew at that moment; that "
    "none of them is exposed is an invariant",
    "corrective actions of a story with something unexplained": "a run with an unexplained difference is not "
    "sealed; where it came late, it lies in a successor, and the run before is sealed",
}


def state(world: World) -> dict[str, Any]:
    """The business states of a world."""
    result: dict[str, Any] = {
        "lots": _lots(world),
        "exposed": _by_root(world, exposed),
        "implicated": _by_root(world, implicated),
        "planned": _planned(world),
        "answers": _answers(world),
        "adverse events": _adverse(world),
        # One for each lot, or one more after the first was judged.
        "alerts of deviations": sorted(
            {a.lot for a in world.databases["alerting"].states(ALERTS).values() if a.kind == 1}
        ),
    }
    if world.story.finished:
        result["corrected"] = _corrected(world)
        result["learnt"] = sorted({i.lot for i in world.databases["rnd"].states(INSIGHTS).values()})
    return result


def _lots(world: World) -> dict[str, Any]:
    result = {}
    for id, lot in sorted(world.databases["production"].states(LOTS).items()):
        if lot.transfer:
            continue
        judged = sorted(
            (production.DeviationDetected.FromString(d.detected).tag, _judgement(d.state))
            for d in lot.deviations
        )
        found = investigated(lot)
        result[id] = (lot.state, bool(lot.started), bool(lot.completed), bool(lot.runs), judged, found)
    return result


def investigated(lot: Lot) -> list[tuple[str, bool]]:
    """What the laboratory's investigations of a lot found, and whether it was tested again.

    A result that stands needs no other; one that was tested again before that was found has one all the same.
    """
    return [(i.outcome, bool(i.retest) and i.outcome != "confirmed") for i in lot.investigations]


def _judgement(state: str) -> str:
    """Of two confirmed deviations, the one that opened the run gets its corrective action."""
    return "confirmed" if state in ("capa_required", "closed") else state


def roots(world: World) -> dict[str, list[str]]:
    """The runs of each root, as traceability knows them."""
    found: dict[str, list[str]] = defaultdict(list)
    for run in world.databases["traceability"].states(RUNS).values():
        found[run.root].append(run.run)
    return dict(sorted(found.items()))


def _by_root(world: World, part: Callable[[World, str], set[Any]]) -> dict[str, list[Any]]:
    return {
        root: sorted(set().union(*(part(world, run) for run in runs))) for root, runs in roots(world).items()
    }


def exposed(world: World, run: str) -> set[tuple[str, str, str, str]]:
    """The members of a run's journal: site, pseudonym, lot, dispense."""
    entries = world.databases["traceability"].states(ENTRIES).values()
    mine = [e for e in entries if e.run == run and e.kind == MEMBER]
    mixed = world.story.mixed
    return {(e.site, e.pseudonym, "" if e.dispense in mixed else e.lot, e.dispense) for e in mine}


def implicated(world: World, run: str) -> set[str]:
    return set(world.databases["traceability"].states(RUNS)[run].lots)


def _planned(world: World) -> dict[str, list[Any]]:
    settled = {(p.site, p.pseudonym) for p in world.story.people if len(set(p.consents)) == 1}
    found = {}
    for root, runs in roots(world).items():
        found[root] = sorted({who for run in runs for who in _plans(world, run)} & settled)
    return found


def _plans(world: World, run: str) -> set[tuple[str, str]]:
    return {
        (site, plan.pseudonym)
        for site in SITES
        for plan in world.databases[f"clinical.{site}"].states(PLANS).values()
        if plan.run == run and plan.stage == "open" and plan.role == "exposed"
    }


def _answers(world: World) -> list[Any]:
    settled = {(p.site, p.pseudonym) for p in world.story.people if len(set(p.consents)) == 1}
    return sorted(
        {
            (site, plan.pseudonym, plan.affected)
            for site in SITES
            for plan in world.databases[f"clinical.{site}"].states(PLANS).values()
            if plan.answered and plan.stage == "open" and plan.role == "exposed"
        }
        & {(*who, affected) for who in settled for affected in (True, False)}
    )


def _adverse(world: World) -> list[Any]:
    """What happened to whom, and who tells of it; which runs asked is left out."""
    settled = {(p.site, p.pseudonym) for p in world.story.people if len(set(p.consents)) == 1}
    asked = {site: _exposed_at(world, site) for site in SITES}
    return sorted(
        (site, course.pseudonym, event.told_by("solicited") > 0, event.told_by("spontaneous"))
        for site in SITES
        for course in world.databases[f"clinical.{site}"].states(ADVERSE).values()
        if (site, course.pseudonym) in settled
        for event in adverse.events(course, solicited=course.pseudonym in asked[site])
    )


def _exposed_at(world: World, site: str) -> set[str]:
    """Who may have taken of a run's lots: whoever else answered was chosen as a comparator."""
    plans = world.databases[f"clinical.{site}"].states(PLANS).values()
    return {plan.pseudonym for plan in plans if plan.role == "exposed" and plan.live}


def _corrected(world: World) -> list[Any]:
    capas = world.databases["production"].states(CAPAS).values()
    return sorted({(capa.message().lot, capa.state) for capa in capas})
