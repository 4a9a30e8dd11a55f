"""What is held of a lot, as its dossier shows it: process, deviations, results, material, distribution."""

from __future__ import annotations

from collections.abc import Mapping

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.traceability.domain import balance
from services.traceability.domain.balance import Balance
from services.traceability.domain.dossier import results
from services.traceability.domain.dossier.bounds import FINDINGS, LOTS, PLACES, first
from services.traceability.domain.dossier.deviations import Deviation
from services.traceability.domain.dossier.lots import LotRecord
from services.traceability.domain.dossier.newest import Decided, in_order
from services.traceability.domain.dossier.results import Finding, Recorded
from services.traceability.domain.graph import Node
from services.traceability.domain.moments import stamp


def process(record: LotRecord) -> page.ProcessSection:
    run = [Decided(record.started, "", "STARTED"), Decided(record.completed, "", "COMPLETED")]
    steps = in_order(*(one for one in run if one.at), *record.changed.items)
    return page.ProcessSection(
        state=record.state,
        product=record.product,
        equipment=record.equipment,
        started=stamp(record.started),
        completed=stamp(record.completed),
        steps=[
            page.ProcessStep(
                at=stamp(s.at),
                what=s.what,
                who=s.who,
                why=s.why,
                why_sayings=[common.Saying.FromString(one) for one in s.sayings],
            )
            for s in steps
        ],
        left_out=record.changed.left_out,
    )


def deviations(record: LotRecord) -> page.DeviationSection:
    ordered = sorted(record.deviations, key=lambda one: (one.detected, one.deviation))
    shown = [_deviation(one) for one in ordered]
    return page.DeviationSection(deviations=shown, left_out=record.deviations_left_out)


def _deviation(one: Deviation) -> page.LotDeviation:
    return page.LotDeviation(
        deviation=one.deviation,
        tag=one.tag,
        unit=one.unit,
        phase=one.phase,
        first_out=stamp(one.first_out),
        detected=stamp(one.detected),
        magnitude=one.magnitude,
        limit=one.limit,
        rule=one.rule,
        model_version=one.model_version,
        state=one.state,
        who=one.who,
        why=one.why,
        why_sayings=[common.Saying.FromString(part) for part in one.sayings],
        last_out=stamp(one.last_out),
        samples_out=one.samples_out,
        lasting=one.lasting,
        severity=one.severity,
        proposed_severity=one.proposed_severity,
        impact=one.impact,
        capa=one.capa,
        rule_saying=common.Saying.FromString(one.rule_saying) if one.rule_saying else None,
    )


def findings(record: LotRecord, told: Recorded) -> page.ResultSection:
    """What is out, and how many other results there are.

    A result out of specification is one of `told`, and one of the record once it is judged; it counts once.
    """
    shown, _ = first(results.findings(record.investigations, record.reviews, told), FINDINGS)
    judged = len(record.investigations) + record.investigations_left_out
    total = max(judged, told.out) + len(record.reviews) + record.reviews_left_out
    return page.ResultSection(
        findings=[_finding(one) for one in shown],
        left_out=total - len(shown),
        others=max(0, told.total - total),
    )


def _finding(one: Finding) -> page.LotFinding:
    shown = page.LotFinding(
        result=one.result,
        finding=one.kind,
        test=one.test,
        tested=stamp(one.tested),
        rule=one.rule,
        state=one.state,
        rule_saying=common.Saying.FromString(one.rule_saying) if one.rule_saying else None,
    )
    if told := one.recorded:
        measured = page.LotFinding(
            value=told.value,
            unit=told.unit,
            low=told.low,
            high=told.high,
            source=told.source,
            record=told.record,
        )
        shown.MergeFrom(measured)
    if held := one.investigation:
        end = page.LotFinding(
            investigation=held.investigation,
            retest=held.retest,
            closed=stamp(held.closed),
            who=held.who,
            why=held.why,
        )
        shown.MergeFrom(end)
    return shown


def material(node: Node, held: Balance) -> page.MaterialSection:
    inputs, inputs_left_out = first(node.inputs, LOTS)
    outputs, outputs_left_out = first(node.outputs, LOTS)
    suspect = [node.suspect] * bool(node.suspect)
    suspect += [] if balance.adds_up(held) else [balance.MASS_IMBALANCE]
    return page.MaterialSection(
        known=node.known,
        made=stamp(node.made),
        inputs=inputs,
        inputs_left_out=inputs_left_out,
        outputs=outputs,
        outputs_left_out=outputs_left_out,
        amount_made=_amounts(balance.by_unit(held.made.values())),
        amount_used=_amounts(balance.by_unit(held.used.values())),
        suspect=suspect,
    )


def _amounts(by_unit: Mapping[str, float]) -> list[common.Quantity]:
    return [common.Quantity(value=value, unit=unit) for unit, value in sorted(by_unit.items())]


def distribution(held: Balance, dispensed: bool) -> page.DistributionSection:
    places, left_out = first(balance.places(held), PLACES)
    shown = [
        page.LotPlace(place=place, received=received, sent=sent, unit=unit)
        for place, received, sent, unit in places
    ]
    return page.DistributionSection(places=shown, left_out=left_out, dispensed=dispensed)
