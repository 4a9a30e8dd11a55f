"""The dossier of a lot, put together from what is held: pure, bounded, and in one order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.traceability.domain.balance import Balance
from services.traceability.domain.dossier import page_evidence, page_lot, page_runs
from services.traceability.domain.dossier.bounds import DECISIONS, RUNS
from services.traceability.domain.dossier.lots import LotRecord
from services.traceability.domain.dossier.newest import Decided, in_order
from services.traceability.domain.dossier.page_runs import OfRun
from services.traceability.domain.dossier.published import published
from services.traceability.domain.dossier.results import Recorded
from services.traceability.domain.dossier.runs import RunRecord
from services.traceability.domain.graph import Node
from services.traceability.domain.moments import stamp


class Held(NamedTuple):
    """Everything that is held of a lot."""

    node: Node
    record: LotRecord
    balance: Balance
    dispensed: bool
    results: Recorded
    runs: Sequence[OfRun]


def dossier(held: Held, runs_left_out: int, key: common.LotKey) -> page.LotDossier:
    """The page of a lot. `held.runs` are its newest runs; `runs_left_out` says how many are older."""
    lot, runs = held.node.lot, sorted(held.runs, key=lambda run: run.order)
    shown = [published(run.people()) for run in runs]
    pairs = list(zip(runs, shown, strict=True))
    return page.LotDossier(
        lot=lot,
        key=key,
        process=page_lot.process(held.record),
        deviations=page_lot.deviations(held.record),
        material=page_lot.material(held.node, held.balance),
        distribution=page_lot.distribution(held.balance, held.dispensed),
        exposed=page.ExposedSection(
            runs=[page_runs.exposed(lot, run, counts) for run, counts in pairs], left_out=runs_left_out
        ),
        evidence=page.EvidenceSection(
            runs=[page_evidence.evidence(run, counts) for run, counts in pairs], left_out=runs_left_out
        ),
        decisions=_decisions(held.record, runs),
        results=page_lot.findings(held.record, held.results),
    )


def newest(runs: Iterable[RunRecord]) -> tuple[list[str], int]:
    """The runs that are shown, and how many older ones are left out."""
    ordered = sorted(runs, key=lambda run: (run.opened, run.run))
    left_out = max(0, len(ordered) - RUNS)
    return [run.run for run in ordered[left_out:]], left_out


def _decisions(record: LotRecord, runs: Iterable[OfRun]) -> page.DecisionSection:
    taken = [*record.changed.items, *record.judged.items]
    left_out = record.changed.left_out + record.judged.left_out
    for of in runs:
        taken += of.journal.explained.items
        left_out += of.journal.explained.left_out
        taken += of.capa.decisions
        by_one = (of.hazard.evaluated if of.hazard else None, of.told.by_hand)
        taken += [one for one in by_one if one is not None]
    ordered = in_order(*taken)
    left_out += max(0, len(ordered) - DECISIONS)
    shown = [_decision(one) for one in ordered[-DECISIONS:]]
    return page.DecisionSection(decisions=shown, left_out=left_out)


def _decision(one: Decided) -> page.Decision:
    return page.Decision(
        at=stamp(one.at),
        what=one.what,
        who=one.who,
        why=one.why,
        why_sayings=[common.Saying.FromString(part) for part in one.sayings],
        meaning=one.meaning,
        run=one.run,
        subject=one.subject,
    )
