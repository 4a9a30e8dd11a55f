"""What the world outside tells and asks the platform, as calls of its API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as clinical_api
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as production_api
from pharmaloop.traceability.v1 import events_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2 as traceability_api
from services.clinical.domain.plans import Plan
from services.clinical.views import DISPENSES as SITE_DISPENSES
from services.clinical.views import HOLDINGS, PLANS
from services.kit.ids import product_of
from services.production.domain import golden, samples
from services.production.domain.equipment import Equipment, Tag
from services.production.domain.samples import Run
from services.production.handlers.models import published, train
from services.production.views import CAPA_ROWS, DEVIATION_ROWS, EQUIPMENT, EVIDENCE, HAZARDS, LOTS
from services.traceability.views import ALL_SITES, ENTRIES, REGISTRY
from services.traceability.views import RUNS as EXPOSURE_RUNS
from tests.reliability.sim.clockwork import START
from tests.reliability.sim.process import SITES
from tests.reliability.sim.story import LEAST, OVEN, PRODUCT, Given, Person, Root, Story, Tested

if TYPE_CHECKING:
    from tests.reliability.sim.world import World

Ready = Callable[["World"], bool]
_ROWS = 24
_UNITS = {"Temp": "Cel", "Load": "kg", "TempSP": "Cel"}
_FAULT = 100.0


def _always(world: World) -> bool:
    return True


@dataclass
class Input:
    """A call, made until it is answered. `phase` orders the calls of the undisturbed run;
    a call of phase 2 comes after a deviation was confirmed, in any run."""

    label: str
    service: str
    method: str
    request: Any
    phase: int = 0
    ready: Ready = _always
    actor: str = "world"
    #: Reasons of refusals that are right, where the platform went on between a person's look and the call.
    late: tuple[str, ...] = ()
    #: The answer, once acknowledged; a refusal as its reason.
    answer: bytes | None = None
    refused: str = ""
    calls: int = 0
    flying: int = field(default=0)


# -- the plant ----------------------------------------------------------------


def _table(faulty: tuple[str, ...], noise: Any = None) -> dict[str, list[float]]:
    """A made-up process: a ramp and a steady tag; a fault is a step in the middle."""
    table = {"Temp": [50 + 0.5 * row for row in range(_ROWS)], "Load": [20.0] * _ROWS}
    for tag in faulty:
        table[tag] = [v + (_FAULT if row >= _ROWS // 2 else 0) for row, v in enumerate(table[tag])]
    if noise is not None:
        table = {
            tag: (np.asarray(values) + noise[n]).tolist() for n, (tag, values) in enumerate(table.items())
        }
    return {**table, "TempSP": [80.0] * _ROWS}


def _readings(lot: str, table: dict[str, list[float]], rows: int) -> Iterator[production.ReadingsRecorded]:
    for first in range(0, _ROWS, rows):
        batch = production.ReadingsRecorded(equipment=OVEN, lot=lot)
        batch.start.at.FromDatetime(START - timedelta(days=20, minutes=-first))
        batch.offsets_ms[:] = [60_000 * row for row in range(min(rows, _ROWS - first))]
        for tag, column in table.items():
            batch.tags.add(tag=tag, unit=_UNITS[tag], values=column[first : first + rows])
        yield batch


@cache
def model() -> production.GoldenModelTrained:
    """The product's golden run: trained on good runs, then given numbers that a test can count on."""
    equipment = Equipment(OVEN, "plant-1", tuple(Tag(t, u, t == "TempSP") for t, u in _UNITS.items()))
    runs = []
    for n in range(golden.MIN_TRAINING_RUNS):
        lot, noise = f"{PRODUCT}/good-{n}", np.random.default_rng(n).normal(scale=0.2, size=(2, _ROWS))
        (batch,) = _readings(lot, _table((), noise), _ROWS)
        runs.append(Run(lot, OVEN, samples.of(batch)))
    learnt = golden.decode(train(PRODUCT, runs, {OVEN: equipment}).parameters)
    wide = np.full((len(learnt.recipe.tags), learnt.points), 10.0)
    mean = np.stack([_mean(learnt, tag) for tag in learnt.recipe.tags])
    certain = replace(
        learnt,
        version="v1",
        mean=mean.tobytes(),
        level=wide.tobytes(),
        shift=wide.tobytes(),
        learnt=np.zeros_like(mean).tobytes(),
    )
    return published(certain)


def _mean(learnt: golden.GoldenModel, tag: str) -> Any:
    ages = np.asarray(learnt.recipe.ages)
    cell = np.searchsorted(ages, 60.0 * np.arange(_ROWS), side="right") - 1
    mean = np.full(learnt.points, 20.0)
    values = np.asarray(_table(())[tag])
    for point in set(cell.tolist()):
        mean[point] = values[cell == point].mean()
    return mean


def _lot_known(lot: str) -> Ready:
    def ready(world: World) -> bool:
        held = world.databases["production"].states(LOTS).get(lot)
        return held is not None and bool(held.started)

    return ready


def _equipped(world: World) -> bool:
    return OVEN in world.databases["production"].states(EQUIPMENT)


def _plant(story: Story) -> Iterator[Input]:
    register = production_api.RegisterEquipmentRequest(equipment=OVEN, plant="plant-1")
    for tag, unit in _UNITS.items():
        register.tags.add(name=tag, unit=unit, set_point=tag == "TempSP")
    yield Input("equipment", "production", "RegisterEquipment", register)
    yield Input("model", "production", "TrainModel", model())
    for lot in [root.lot for root in story.roots] + list(story.started):
        start = production_api.StartLotRequest(lot=lot, product=product_of(lot), equipment=OVEN)
        start.at.FromDatetime(START - timedelta(days=20))
        yield Input(f"start {lot}", "production", "StartLot", start, ready=_equipped)
        complete = production_api.CompleteLotRequest(lot=lot)
        complete.at.FromDatetime(START - timedelta(days=19))
        yield Input(f"complete {lot}", "production", "CompleteLot", complete, 1, _lot_known(lot))
    for root in story.roots:
        yield from _run_of(root)
    for tested in story.tested:
        yield _result(tested)


def _result(tested: Tested) -> Input:
    """Whenever it comes: before its lot, too, and before what it repeats."""
    result = production.TestResultRecorded(
        lot=tested.lot,
        test="assay",
        value=tested.value,
        unit="%",
        low=LEAST,
        at=_moment(tested.day),
        record=f"{tested.record} of {tested.lot}",
        source="plant-1/lims",
    )
    request = production_api.RecordTestResultsRequest(results=[result], all_or_nothing=True)
    return Input(f"result {tested.lot} {tested.record}", "production", "RecordTestResults", request)


def _run_of(root: Root) -> Iterator[Input]:
    for n, batch in enumerate(_readings(root.lot, _table(root.faulty), 8)):
        request = production_api.RecordReadingsRequest(batches=[batch], all_or_nothing=True)
        yield Input(f"readings {root.lot} {n}", "production", "RecordReadings", request, ready=_equipped)


# -- lots and dispenses ---------------------------------------------------------


def _moment(days: float) -> common.Moment:
    moment = common.Moment()
    moment.at.FromDatetime(START + timedelta(days=days))
    return moment


def _supply(story: Story) -> Iterator[Input]:
    for made in story.materials:
        record = traceability.MaterialRecorded(
            lot=made.lot,
            inputs=[traceability.MaterialInput(lot=lot) for lot in made.inputs],
            at=_moment(-15),
            record=made.record,
            source="maker/mes",
        )
        request = traceability_api.RecordMaterialRequest(materials=[record], all_or_nothing=True)
        yield Input(
            f"material {made.record} {made.lot}", "traceability", "RecordMaterial", request, 2 * made.late
        )


def _registered(site: str) -> Ready:
    def ready(world: World) -> bool:
        registry = world.databases["traceability"].states(REGISTRY).get(ALL_SITES)
        return not site or (registry is not None and site in registry.sites)

    return ready


def _dispensed(given: Given) -> Iterator[Input]:
    whole, nobody = (given.person.site, given.person.pseudonym), ("", "")
    tellings = {
        "both": [("pharmacy", whole)],
        "pharmacy": [("pharmacy", whole)],
        "hospital": [],
        "piecemeal": [("pharmacy", nobody), ("pharmacy", whole)],
        "nobody": [("pharmacy", nobody)],
    }[given.told]
    if given.twice and given.told not in ("hospital", "nobody"):
        tellings = [*tellings, ("wholesaler", whole)]
    for n, (source, (site, pseudonym)) in enumerate(tellings):
        record = traceability.DispenseRecorded(
            dispense=given.id,
            lot=given.lot,
            site=site,
            pseudonym=pseudonym,
            order=given.order,
            at=_moment(-5),
            source=source,
            possible_lots=[given.mixed] if given.mixed else [],
        )
        request = traceability_api.RecordDispenseRequest(dispenses=[record], all_or_nothing=True)
        yield Input(
            f"dispense {given.order} {n}",
            "traceability",
            "RecordDispense",
            request,
            2 * given.late,
            _registered(record.site),
        )


def _medication(given: Given) -> Input:
    record = clinical.MedicationRecorded(
        dispense=given.id,
        pseudonym=given.person.pseudonym,
        lot=given.lot,
        order="" if given.told == "piecemeal" else given.order,
        at=_moment(-5),
    )
    site = given.person.site
    request = clinical_api.RecordMedicationsRequest(site=site, medications=[record], all_or_nothing=True)
    return Input(
        f"medication {given.order}", f"clinical.{site}", "RecordMedications", request, 2 * given.late
    )


def _aftermath(given: Given, story: Story) -> Iterator[Input]:
    """What becomes of a dispense, told by those who told of it."""
    about: dict[str, Any] = {"dispense": given.id, "lot": given.lot, "at": _moment(-4), "record": given.order}
    phase = 2 * given.late
    if given.became in ("returned", "opened"):
        state = traceability.RETURN_STATE_UNOPENED if given.became == "returned" else _OPENED
        back = traceability.ReturnRecorded(state=state, source="pharmacy", **about)
        returns = traceability_api.RecordReturnsRequest(returns=[back], all_or_nothing=True)
        yield Input(f"return {given.order}", "traceability", "RecordReturns", returns, phase)
    if given.became != "corrected":
        return
    told = [] if given.told == "hospital" else ["pharmacy"] + ["wholesaler"] * given.twice
    for source in told:
        wrong = traceability.DispenseCorrected(reason="a slip", source=source, **about)
        corrections = traceability_api.RecordCorrectionsRequest(corrections=[wrong], all_or_nothing=True)
        label = f"correction {given.order} {source}"
        yield Input(label, "traceability", "RecordCorrections", corrections, phase)
    if given.told in ("both", "hospital"):
        yield _taken_back(given, phase, story)


_OPENED = traceability.RETURN_STATE_OPENED


def _taken_back(given: Given, phase: int, story: Story) -> Input:
    wrong = clinical.MedicationCorrected(
        dispense=given.id, pseudonym=given.person.pseudonym, reason="a slip", at=_moment(-4)
    )
    site = given.person.site
    request = clinical_api.RecordMedicationCorrectionsRequest(
        site=site, corrections=[wrong], all_or_nothing=True
    )
    label = f"taken back {given.order}"
    # What only the hospital knows is no exposure if it is taken back before anybody hears of it.
    concerned = any(given.lot in story.descendants(root) for root in story.confirmed)
    waits = given.told == "hospital" and concerned
    phase, ready = (2, _told_the_trace(given)) if waits else (phase, _always)
    return Input(label, f"clinical.{site}", "RecordMedicationCorrections", request, phase, ready)


def _told_the_trace(given: Given) -> Ready:
    def ready(world: World) -> bool:
        held = world.databases[f"clinical.{given.person.site}"].states(SITE_DISPENSES).get(given.id)
        return held is not None and held.reported

    return ready


def _subjects(person: Person) -> Iterator[Input]:
    for n, consent in enumerate(person.consents):
        subject = clinical_api.Subject(pseudonym=person.pseudonym, consent=consent, at=_moment(n - 30))
        request = clinical_api.RecordSubjectsRequest(
            site=person.site, subjects=[subject], all_or_nothing=True
        )
        yield Input(f"subject {person.pseudonym} {n}", f"clinical.{person.site}", "RecordSubjects", request)


#: What a hospital asks in the stories, and the term that a yes is recorded as.
QUESTION, ITCHING = "itch", "PL0101"
#: The laboratory test that they want, by its LOINC code.
ALT = "1742-6"


def _templates(story: Story) -> Iterator[Input]:
    """Each hospital registers how it follows patients up, before anything is confirmed."""
    template = clinical.FollowUpTemplate(duration_hours=story.hours)
    text = clinical.Wording(en="Does your skin itch?", zh="皮肤痒吗？")
    kind = clinical.ANSWER_KIND_YES_NO
    template.questions.add(id=QUESTION, text=text, answer=kind, yes_is_complaint=True, term=ITCHING)
    template.labs.add(code=ALT, text=clinical.Wording(en="Alanine aminotransferase", zh="丙氨酸氨基转移酶"))
    for site in SITES if story.hours else ():
        request = clinical_api.RegisterFollowUpTemplateRequest(site=site, template=template)
        yield Input(
            f"template {site}", f"clinical.{site}", "RegisterFollowUpTemplate", request, actor="nurse"
        )


def _reports(story: Story) -> Iterator[Input]:
    for n, (person, day) in enumerate(story.reports):
        report = clinical_api.AdverseEventReport(
            report=f"AE-{n}", pseudonym=person.pseudonym, term=ITCHING, onset=_moment(day), at=_moment(1)
        )
        request = clinical_api.RecordAdverseEventsRequest(
            site=person.site, reports=[report], all_or_nothing=True
        )
        yield Input(f"report {n}", f"clinical.{person.site}", "RecordAdverseEvents", request)


def told(story: Story) -> list[Input]:
    """Everything that is told whatever the platform answers."""
    inputs = [*_plant(story), *_supply(story), *_templates(story), *_reports(story)]
    for person in story.people:
        inputs += _subjects(person)
    for given in story.given:
        inputs += _dispensed(given)
        inputs += _aftermath(given, story)
        if given.told not in ("pharmacy", "nobody"):
            inputs.append(_medication(given))
    return inputs


# -- people who look at the platform and act --------------------------------------


def reactions(world: World) -> Iterator[Input]:
    """What people do about what the platform shows them now."""
    yield from _judgements(world)
    yield from _classified(world)
    yield from _investigations(world)
    yield from _signatures(world)
    yield from _checked(world)
    yield from _hazards(world)
    yield from _unattributed_explained(world)
    for site in SITES:
        yield from _notices(world, site)
        yield from _answers(world, site)
        yield from _differences_explained(world, site)


def _judgements(world: World) -> Iterator[Input]:
    """Once the hospitals are ready: a plan keeps the template with which it was opened."""
    if not world.answered("template "):
        return
    for row in world.databases["production"].states(DEVIATION_ROWS).values():
        if row.state != "open" or not row.detected:
            continue
        tag = production.DeviationDetected.FromString(row.detected).tag
        asked = {"lot": row.lot, "deviation": row.deviation, "reason": "looked at"}
        if (row.lot, tag) in world.story.rejected:
            reject = production_api.RejectDeviationRequest(**asked)
            yield Input(f"reject {row.lot} {tag}", "production", "RejectDeviation", reject, 1, actor="qa")
        else:
            confirm = production_api.ConfirmDeviationRequest(**asked)
            yield Input(f"confirm {row.lot} {tag}", "production", "ConfirmDeviation", confirm, 1, actor="qa")


def _classified(world: World) -> Iterator[Input]:
    """Of what was confirmed, its impact."""
    for row in world.databases["production"].states(DEVIATION_ROWS).values():
        if row.state in ("confirmed", "capa_required") and not row.severity:
            request = production_api.ClassifyDeviationRequest(
                lot=row.lot, deviation=row.deviation, severity=production.SEVERITY_MAJOR, impact="dizzy"
            )
            label = f"classify {row.deviation}"
            yield Input(label, "production", "ClassifyDeviation", request, 1, actor="qa")


def _checked(world: World) -> Iterator[Input]:
    """Every change in effect turns out to be effective: its corrective action and deviation are closed."""
    for row in world.databases["production"].states(CAPA_ROWS).values():
        if row.state == "effective":
            request = production_api.RecordEffectivenessCheckRequest(
                capa=row.capa, outcome=production.EFFECTIVENESS_OUTCOME_EFFECTIVE, statement="20 lots"
            )
            label = f"check {row.capa}"
            yield Input(label, "production", "RecordEffectivenessCheck", request, 1, actor="qa")


def _investigations(world: World) -> Iterator[Input]:
    """The laboratory looks into what is out of specification."""
    for lot in world.databases["production"].states(LOTS).values():
        stands = lot.lot in world.story.stands or world.tale.stands(lot.lot)
        for held in lot.investigations:
            if held.outcome != "open":
                continue
            request = production_api.CloseInvestigationRequest(
                lot=lot.lot,
                investigation=held.investigation,
                outcome=_STANDS if stands else production.INVESTIGATION_OUTCOME_LABORATORY_ERROR,
                reason="looked at",
            )
            label = f"close {held.investigation}"
            yield Input(label, "production", "CloseInvestigation", request, 1, actor="qa")


_STANDS = production.INVESTIGATION_OUTCOME_CONFIRMED


def _signatures(world: World) -> Iterator[Input]:
    """Approve, validate and assess once every lot is started: a limit judges the lots started after it. Or
    refuse, where the story says so."""
    if world.story.unsigned or not world.answered("start "):
        return
    for row in world.databases["production"].states(CAPA_ROWS).values():
        if row.state == "proposed" and row.proposed and world.story.refused:
            refusal = production_api.RefuseCapaRequest(capa=row.capa, reason="thin", meaning="I refuse")
            yield Input(f"refuse {row.capa}", "production", "RefuseCapa", refusal, 1, actor="qa")
        elif row.state == "proposed" and row.proposed:
            request = production_api.ApproveCapaRequest(capa=row.capa, meaning="I approve")
            yield Input(f"approve {row.capa}", "production", "ApproveCapa", request, 1, actor="qa")
        if row.state == "approved" and not row.validated:
            validation = production_api.RecordValidationRequest(
                capa=row.capa, record="V-1", statement="judged again"
            )
            yield Input(f"validate {row.capa}", "production", "RecordValidation", validation, 1, actor="qa")
        if row.state == "approved" and not row.filing:
            filing = production_api.RecordFilingAssessmentRequest(
                capa=row.capa, category=production.FILING_CATEGORY_NOT_REPORTED, statement="inside the range"
            )
            yield Input(f"file {row.capa}", "production", "RecordFilingAssessment", filing, 1, actor="qa")


def _unattributed_explained(world: World) -> Iterator[Input]:
    """Of a dispense that nobody ever learns the patient of, a person says so; it may come back meanwhile,
    and then there is nothing to explain."""
    lost = {given.id: given.became for given in world.story.given if given.told == "nobody"}
    runs = world.databases["traceability"].states(EXPOSURE_RUNS)
    for entry in world.databases["traceability"].states(ENTRIES).values():
        if entry.open and not entry.explained and entry.dispense in lost and not runs[entry.run].over:
            request = traceability_api.ExplainUnattributedRequest(
                run=entry.run, dispense=entry.dispense, reason="sold over the counter", meaning="I asked"
            )
            label = f"explain {entry.run} {entry.dispense}"
            late = ("NOT_UNATTRIBUTED",) if lost[entry.dispense] in ("returned", "corrected") else ()
            yield Input(
                label, "traceability", "ExplainUnattributed", request, 1, actor="pharmacist", late=late
            )


def _differences_explained(world: World, site: str) -> Iterator[Input]:
    """Of a dispense that the hospital never recorded, its pharmacist says why, unless nobody ever does."""
    only = {g.id for g in world.story.given if g.told == "pharmacy" and g.order not in world.story.puzzling}
    for dispense in world.databases[f"clinical.{site}"].states(SITE_DISPENSES).values():
        if dispense.runs and dispense.dispense in only and not dispense.explained:
            request = clinical_api.ExplainDifferenceRequest(
                site=site, dispense=dispense.dispense, reason="given at home", meaning="I asked"
            )
            label = f"explain {dispense.dispense}"
            yield Input(label, f"clinical.{site}", "ExplainDifference", request, 1, actor="pharmacist")


def _hazards(world: World) -> Iterator[Input]:
    """Evaluate the hazard of every run that has none; one that follows takes over that of the run before."""
    database = world.databases["production"]
    evaluated = database.states(HAZARDS)
    for run in database.states(EVIDENCE).values():
        if run.root and not run.follows and run.run not in evaluated:
            request = production_api.EvaluateHazardRequest(
                run=run.run,
                hazard_class=production.HAZARD_CLASS_II,
                text="It may make you dizzy.",
                instruction="Bring it back.",
                meaning="I evaluated it",
            )
            yield Input(f"hazard {run.run}", "production", "EvaluateHazard", request, 1, actor="physician")


def _notices(world: World, site: str) -> Iterator[Input]:
    """Tell everybody who is to be told."""
    holdings = world.databases[f"clinical.{site}"].states(HOLDINGS)
    for plan in world.databases[f"clinical.{site}"].states(PLANS).values():
        holding = holdings.get(f"{plan.run}|{site}")
        if plan.notice != "owed" or holding is None or holding.hazard is None:
            continue
        outcome = _UNREACHABLE if plan.pseudonym == "P3" else _NOTIFIED
        notice = clinical.NoticeRecorded(
            run=plan.run, pseudonym=plan.pseudonym, outcome=outcome, at=_moment(0.5)
        )
        request = clinical_api.RecordNoticesRequest(site=site, notices=[notice], all_or_nothing=True)
        yield Input(f"notice {plan.plan}", f"clinical.{site}", "RecordNotices", request, 1)


_NOTIFIED, _UNREACHABLE = clinical.NOTICE_OUTCOME_NOTIFIED, clinical.NOTICE_OUTCOME_UNREACHABLE


def _answers(world: World, site: str) -> Iterator[Input]:
    people = {person.pseudonym: person for person in world.story.people if person.site == site}
    holdings = world.databases[f"clinical.{site}"].states(HOLDINGS)
    for plan in world.databases[f"clinical.{site}"].states(PLANS).values():
        person = people.get(plan.pseudonym)
        holding = holdings.get(f"{plan.run}|{site}")
        asked = plan.stage == "open" and holding is not None and holding.hazard is not None
        if not asked or person is None or person.answer is None:
            continue
        request = clinical_api.RecordResponseRequest(
            site=site, plan=plan.plan, pseudonym=plan.pseudonym, at=_moment(1)
        )
        if world.story.hours:
            request.answers.add(question=QUESTION, yes=person.answer)
            yield _laboratory(site, plan)
        else:
            request.affected = person.answer
        yield Input(f"answer {plan.plan}", f"clinical.{site}", "RecordResponse", request, 1)


def _laboratory(site: str, plan: Plan) -> Input:
    """The hospital's laboratory sends what it read in the patient's blood."""
    observation = {
        "resourceType": "Observation",
        "id": f"alt-{plan.plan}",
        "status": "final",
        "basedOn": [{"reference": f"CarePlan/{plan.plan}"}],
        "subject": {"reference": f"Patient/{plan.pseudonym}"},
        "effectiveDateTime": _moment(1).at.ToJsonString().replace("Z", "+00:00"),
        "code": {"coding": [{"system": "http://loinc.org", "code": ALT}]},
        "valueQuantity": {"value": 43.5, "system": "http://unitsofmeasure.org", "code": "U/L"},
    }
    request = clinical_api.RecordFhirResourcesRequest(
        site=site, resources=[json.dumps(observation)], all_or_nothing=True
    )
    return Input(f"laboratory {plan.plan}", f"clinical.{site}", "RecordFhirResources", request, 1)
