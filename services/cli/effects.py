"""What `verify` shows of effects: what was planted, and apart from it what the hospitals' evidence says.

Neither is judged by the other: with few patients evidence says little, and
chance alone makes some of it. Follow-up is counted beside it: who was asked,
who was reminded, whose blood was read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import grpc
from rich.console import Console

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from services.cli.judge import RunSeen
from services.cli.session import Refused, Session
from services.cli.tables import table

#: A site opens the profile of everybody who received a lot of the product.
_EVIDENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Planted:
    """What a faulty lot does: the risk of a complaint, with and without, the factors on laboratory values by
    LOINC code, and how many people it truly harmed."""

    effect: str
    risk: float
    otherwise: float
    labs: Mapping[str, float]
    harmed: int


@dataclass(frozen=True)
class Ways:
    """A person's way to answer: after so many reminders, or never."""

    answers: bool
    reminders: int


class Arm(NamedTuple):
    """Of those who answered, how many had a complaint."""

    answered: int = 0
    cases: int = 0

    def with_strata(self, strata: Iterable[tuple[int, int]]) -> Arm:
        """Each with who answered, and who had a complaint."""
        held = list(strata)
        return Arm(self.answered + sum(one for one, _ in held), self.cases + sum(one for _, one in held))


@dataclass
class LabSeen:
    """Results of a test over all sites, with the sums of their logarithms."""

    exposed: int = 0
    comparators: int = 0
    exposed_logs: float = 0.0
    comparator_logs: float = 0.0

    def add(self, row: clinical.LabEvidence) -> None:
        self.exposed += row.exposed
        self.comparators += row.comparators
        if row.exposed:
            self.exposed_logs += row.exposed * math.log(row.exposed_mean)
        if row.comparators:
            self.comparator_logs += row.comparators * math.log(row.comparator_mean)

    @property
    def ratio(self) -> float | None:
        """Of the geometric means."""
        if not self.exposed or not self.comparators:
            return None
        return math.exp(self.exposed_logs / self.exposed - self.comparator_logs / self.comparators)


@dataclass
class Seen:
    """What the sites say of a run together."""

    exposed: Arm = field(default_factory=Arm)
    comparators: Arm = field(default_factory=Arm)
    labs: dict[str, LabSeen] = field(default_factory=lambda: defaultdict(LabSeen))


@dataclass
class FollowUp:
    """Plans of exposed and of comparators, over all runs: answered ones, and those whose patient was reminded
    once or more, twice, and answered after that; `results` counts laboratory results. Of the plans' people
    the truth says how many never answer, and how many only after a reminder."""

    plans: int = 0
    answered: int = 0
    reminded: int = 0
    reminded_twice: int = 0
    answered_after_reminder: int = 0
    results: int = 0
    never_answer: int = 0
    answer_after_reminder: int = 0

    def add(self, view: clinical.PlanView, ways: Ways | None) -> None:
        self.plans += 1
        self.answered += view.answered
        self.reminded += bool(view.reminded)
        self.reminded_twice += len(view.reminded) > 1
        self.answered_after_reminder += bool(view.reminded) and view.answered
        self.results += len(view.labs)
        if ways:
            self.never_answer += not ways.answers
            self.answer_after_reminder += ways.answers and ways.reminders > 0


def ask_effects(
    session: Session,
    planted: Mapping[str, Planted],
    ways: Mapping[tuple[str, str], Ways],
    runs: Sequence[RunSeen],
    sites: Sequence[str],
) -> dict[str, Any]:
    """The document: `lots` with a fault of which a run tells, and the `follow_up` of all runs.

    Two runs about one lot ask the same people: the one in which most answered speaks for the lot.
    """
    seen: dict[str, Seen] = {}
    follow_up = FollowUp()
    for run in runs:
        for site in sites:
            for view in _plans(session, site, run.run):
                follow_up.add(view, ways.get((site, view.plan.pseudonym)))
        if run.lot in planted:
            of_run = Seen()
            for site in sites:
                _add(of_run, _evidence(session, site, run.run))
            seen[run.lot] = max(of_run, seen.get(run.lot, Seen()), key=lambda one: one.exposed.answered)
    lots = [_lot(lot, planted[lot], seen[lot]) for lot in sorted(seen)]
    return {"lots": lots, "follow_up": asdict(follow_up)}


def _plans(session: Session, site: str, run: str) -> Iterator[clinical.PlanView]:
    request = clinical.ListPlansRequest(site=site, run=run)
    for page in session.pages(session.clinical_at(site).ListPlans, request):
        yield from page.plans


def _evidence(session: Session, site: str, run: str) -> clinical.GetEvidenceResponse:
    """Empty where the site has nothing of the run."""
    request = clinical.GetEvidenceRequest(site=site, run=run)
    try:
        return session.call(session.clinical_at(site).GetEvidence, request, _EVIDENCE_SECONDS)
    except Refused as refusal:
        if refusal.code != grpc.StatusCode.NOT_FOUND:
            raise
        return clinical.GetEvidenceResponse()


def _add(seen: Seen, evidence: clinical.GetEvidenceResponse) -> None:
    """Only what was prompted, of the run's root lot; reports of a hospital's own are another kind."""
    for lot in evidence.lots:
        if lot.whole and lot.kind == events.OUTCOME_KIND_PROMPTED:
            seen.exposed = seen.exposed.with_strata((one.exposed, one.exposed_cases) for one in lot.strata)
            seen.comparators = seen.comparators.with_strata(
                (one.comparators, one.comparator_cases) for one in lot.strata
            )
    for row in evidence.labs:
        seen.labs[row.code].add(row)


def _lot(lot: str, planted: Planted, seen: Seen) -> dict[str, Any]:
    codes = sorted({*planted.labs, *seen.labs})
    return {
        "lot": lot,
        "effect": planted.effect,
        "planted": {
            "risk": planted.risk,
            "otherwise": planted.otherwise,
            "harmed": planted.harmed,
            "labs": dict(planted.labs),
        },
        "evidence": {
            "exposed": seen.exposed._asdict(),
            "comparators": seen.comparators._asdict(),
            "labs": {code: _lab(seen.labs[code]) for code in codes if code in seen.labs},
        },
    }


def _lab(seen: LabSeen) -> dict[str, Any]:
    return {"exposed": seen.exposed, "comparators": seen.comparators, "ratio": seen.ratio}


# -- for people ----------------------------------------------------------------------------


def print_effects(out: Console, effects: Mapping[str, Any]) -> None:
    lots = effects["lots"]
    columns = ["lot", "effect", "harmed", "planted risk", "exposed", "comparators"]
    rows = [
        [
            lot["lot"],
            lot["effect"],
            str(lot["planted"]["harmed"]),
            f"{lot['planted']['risk']:.2f} for {lot['planted']['otherwise']:.2f}",
            _share(lot["evidence"]["exposed"]),
            _share(lot["evidence"]["comparators"]),
        ]
        for lot in lots
    ]
    out.print()
    out.print(table("Complaints: what was planted, and what answered patients said", columns, rows))
    columns = ["lot", "LOINC", "planted factor", "ratio seen", "exposed", "comparators"]
    out.print()
    out.print(table("Laboratory values: what was planted, and what was read", columns, list(_labs(lots))))
    one = effects["follow_up"]
    out.print(
        f"\nfollow-up: {one['plans']} plans, {one['answered']} answered; "
        f"{one['reminded']} reminded after a day, {one['reminded_twice']} after three, "
        f"{one['answered_after_reminder']} of them answered then; "
        f"{one['results']} laboratory results (planted: {one['answer_after_reminder']} plans of people who "
        f"answer only when reminded, {one['never_answer']} of people who never do)"
    )
    out.print("evidence stands beside what was planted and is not judged by it: small numbers vary by chance")


def _labs(lots: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    for lot in lots:
        for code, seen in lot["evidence"]["labs"].items():
            factor = lot["planted"]["labs"].get(code, 1.0)
            ratio = "-" if seen["ratio"] is None else f"{seen['ratio']:.2f}"
            yield [lot["lot"], code, f"{factor:.2f}", ratio, str(seen["exposed"]), str(seen["comparators"])]


def _share(arm: Mapping[str, int]) -> str:
    return f"{arm['cases']} of {arm['answered']}"
